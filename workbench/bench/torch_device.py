"""Measuring torch work on a CPU or a GPU: which clock is honest, when the work is done, how much memory it took."""

from collections.abc import Callable
from typing import Any, TypedDict

import torch

from workbench.bench.measuring import Clock, with_peak


class OnDevice(TypedDict):
    """The fields of a `measuring.Case` that depend on the device."""

    clock: Clock
    synchronise: Callable[[], None]
    peak: Callable[[Callable[[], Any]], tuple[Any, int | None]]


def on_device(device: torch.device) -> OnDevice:
    """`Case(..., **on_device(device))`: a GPU is waited for, and its peak memory is what torch allocated."""
    if device.type != "cuda":
        return OnDevice(clock="wall", synchronise=lambda: None, peak=with_peak)

    def peak(side: Callable[[], Any]) -> tuple[Any, int | None]:
        torch.cuda.synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        result = side()
        torch.cuda.synchronize(device)
        return result, torch.cuda.max_memory_allocated(device) - before

    return OnDevice(clock="wall", synchronise=lambda: torch.cuda.synchronize(device), peak=peak)


def device_name(device: torch.device) -> str:
    """For the report's machine."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
