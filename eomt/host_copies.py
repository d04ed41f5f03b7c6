"""Results of a device on the host, and small values of the host on the device, with one wait for many of them.

From a GPU copies go into pinned memory and nobody is stopped until the result is asked for. On a CPU nothing is copied.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def pinned(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor of the CPU in memory from which a GPU copies without stopping anybody; for another device, itself."""
    if device.type != "cuda":
        return tensor
    with torch.cuda.device(device):  # else every process would make itself at home on the first GPU too
        return tensor.pin_memory()


class Pending:
    """Arrays that are on their way to the host."""

    def __init__(self, tensors: list[Tensor], arrived: torch.cuda.Event | None) -> None:
        self._tensors, self._arrived = tensors, arrived

    def wait(self) -> list[NDArray[Any]]:
        """The arrays, as soon as all of them are there."""
        if self._arrived is not None:
            self._arrived.synchronize()
        return [tensor.numpy() for tensor in self._tensors]


class HostCopies:
    """Copies between a device and the host; `waits` counts how often the host had to wait for the device.

    `waiting` gives a context that is entered while it waits, to measure how long.
    """

    def __init__(self, waiting: Callable[[], AbstractContextManager[Any]] = nullcontext) -> None:
        self._waiting = waiting
        self.waits = 0

    def start(self, tensors: Sequence[Tensor]) -> Pending:
        """Begin to copy tensors of one device to the host, behind the work that this thread's stream was given."""
        if not tensors or tensors[0].device.type != "cuda":
            return Pending([tensor.cpu() for tensor in tensors], None)
        device = tensors[0].device
        with torch.cuda.device(device):
            hosts = [torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True) for tensor in tensors]
        for host, tensor in zip(hosts, tensors, strict=True):
            host.copy_(tensor, non_blocking=True)
        # The waiting thread sleeps, so that readers have its core.
        arrived = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
        arrived.record(torch.cuda.current_stream(device))
        return Pending(hosts, arrived)

    def finish(self, pending: Pending) -> list[NDArray[Any]]:
        """What `pending` brings; this waits."""
        self.waits += 1
        with self._waiting():
            return pending.wait()

    def fetch(self, tensors: Sequence[Tensor]) -> list[NDArray[Any]]:
        """These tensors as arrays, after one wait for all of them."""
        return self.finish(self.start(tensors))

    def upload(self, array: NDArray[Any], device: torch.device) -> Tensor:
        """The array on the device; from pinned memory, so that a GPU's queue goes on."""
        return pinned(torch.from_numpy(np.ascontiguousarray(array)), device).to(device, non_blocking=True)
