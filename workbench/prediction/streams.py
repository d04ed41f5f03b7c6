"""A GPU's queues and clock: post-processing beside the next forward pass, and times without stopping either."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


class SideQueue:
    """A second queue of work for a GPU, which goes before the first; a CPU has none, and does all at once."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = None
        if device.type == "cuda":
            self._stream = torch.cuda.Stream(device, priority=-1)  # type: ignore[no-untyped-call]

    def mark(self) -> torch.cuda.Event | None:
        """This point of the work that the calling thread has given to the device."""
        return None if self._stream is None else _marked(self._device)

    @contextmanager
    def after(self, mark: torch.cuda.Event | None) -> Iterator[None]:
        """What is asked of the device in the block waits for the mark and for nothing else.

        Whoever asks for results has to wait for them before letting go of what they are made of.
        """
        if self._stream is None:
            yield
            return
        with torch.cuda.stream(self._stream):
            if mark is not None:
                self._stream.wait_event(mark)
            yield


class GpuClock:
    """When a GPU reached certain points of its work."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def mark(self) -> torch.cuda.Event:
        """This point of the work that the calling thread has given to the GPU."""
        return _marked(self._device, timed=True)

    def passed(self, mark: torch.cuda.Event) -> bool:
        """Whether the GPU has reached it."""
        return bool(mark.query())  # type: ignore[no-untyped-call]

    def seconds(self, begin: torch.cuda.Event, end: torch.cuda.Event) -> float:
        """Between two marks of one queue; waits until the second is reached."""
        end.synchronize()
        return float(begin.elapsed_time(end)) / 1000


def _marked(device: torch.device, timed: bool = False) -> torch.cuda.Event:
    mark = torch.cuda.Event(enable_timing=timed)  # type: ignore[no-untyped-call]
    mark.record(torch.cuda.current_stream(device))
    return mark
