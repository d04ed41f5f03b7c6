"""What is asked of CUDA, in which order, with CUDA played: tensors without values, and queues that only take notes."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from eomt.host_copies import HostCopies
from workbench.prediction.streams import GpuClock, SideQueue

GPU = torch.device("cuda", 0)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What CUDA was asked to do."""
    notes: list[str] = []

    class Event:
        def __init__(self, blocking: bool = False, enable_timing: bool = False) -> None:
            self.kind = "timed mark" if enable_timing else "sleeping mark" if blocking else "mark"

        def record(self, stream: str) -> None:
            notes.append(f"{self.kind} in {stream}")

        def synchronize(self) -> None:
            notes.append(f"wait for {self.kind}")

        def query(self) -> bool:
            return True

        def elapsed_time(self, end: Any) -> float:
            return 250.0

    class Stream:
        def __init__(self, device: torch.device, priority: int) -> None:
            notes.append(f"queue of {device}, priority {priority}")

        def wait_event(self, event: Event) -> None:
            notes.append(f"queue waits for {event.kind}")

    current = ["main queue"]

    @contextmanager
    def stream(chosen: Stream) -> Iterator[None]:
        current.append("side queue")
        yield
        current.pop()

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "stream", stream)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: current[-1])
    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext())
    return notes


def test_copies_are_started_without_waiting_and_waited_for_once(asked: list[str]) -> None:
    waits: list[str] = []

    @contextmanager
    def waiting() -> Iterator[None]:
        waits.append("waiting")
        yield

    with FakeTensorMode():
        copies = HostCopies(waiting)
        pending = copies.start([torch.zeros(3, 4, device=GPU), torch.zeros(5, dtype=torch.int8, device=GPU)])
        assert asked == ["sleeping mark in main queue"]
        assert copies.waits == 0
        hosts = pending._tensors
        assert [(host.device.type, tuple(host.shape), host.dtype) for host in hosts] == [
            ("cpu", (3, 4), torch.float32),
            ("cpu", (5,), torch.int8),
        ]
    pending._tensors = [torch.zeros(3, 4), torch.zeros(5, dtype=torch.int8)]  # those of the play have no values
    assert [array.shape for array in copies.finish(pending)] == [(3, 4), (5,)]
    assert asked[1:] == ["wait for sleeping mark"]
    assert (copies.waits, waits) == (1, ["waiting"])


def test_post_processing_waits_for_its_own_batch_in_a_queue_that_goes_first(asked: list[str]) -> None:
    side = SideQueue(GPU)
    ready = side.mark()
    with side.after(ready):
        clock = GpuClock(GPU)
        begin = clock.mark()
        end = clock.mark()
    assert asked == [
        "queue of cuda:0, priority -1",
        "mark in main queue",
        "queue waits for mark",
        "timed mark in side queue",
        "timed mark in side queue",
    ]
    assert clock.passed(end) and clock.seconds(begin, end) == 0.25


def test_a_cpu_has_no_queues(asked: list[str]) -> None:
    side = SideQueue(torch.device("cpu"))
    with side.after(side.mark()):
        copies = HostCopies()
        (array,) = copies.fetch([torch.arange(3)])
    assert array.tolist() == [0, 1, 2]
    assert asked == []
