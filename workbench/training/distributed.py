"""The processes that train together: one, or those that torch's launcher `torchrun` starts, told by its variables."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed

from workbench.errors import OptionError
from workbench.prediction.device import choose_device

_WAIT = timedelta(hours=6)  # the others wait while the first process validates
_Value = TypeVar("_Value")


@dataclass(frozen=True)
class Processes:
    """This process among those that train together."""

    device: torch.device
    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the process that writes files and talks."""
        return self.rank == 0

    def means(self, values: Sequence[float]) -> list[float]:
        """The mean of each value over all processes; every process must call it."""
        if self.count == 1:
            return list(values)
        total = torch.tensor(values, dtype=torch.float64, device=self.device)
        torch.distributed.all_reduce(total)
        return [float(value) for value in total / self.count]

    def from_first(self, value: _Value) -> _Value:
        """The first process's value, in every process."""
        if self.count == 1:
            return value
        holder = [value]
        torch.distributed.broadcast_object_list(holder, device=self.device)
        return holder[0]

    def wait(self) -> None:
        """Until every process is here."""
        if self.count > 1:
            self.means([0.0])


@contextmanager
def processes(device: str) -> Iterator[Processes]:
    """Join the others where `torchrun` started this process: gloo on CPUs, nccl on GPUs, one GPU a process.

    `device` is as in `choose_device`; without a number each process takes the GPU of its LOCAL_RANK. Raises OptionError
    where there is no such GPU.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    chosen = choose_device(device)
    if count == 1:
        yield Processes(chosen)
        return
    if chosen.type == "cuda":
        chosen = _own_gpu(int(os.environ.get("LOCAL_RANK", "0")))
    torch.distributed.init_process_group("nccl" if chosen.type == "cuda" else "gloo", timeout=_WAIT)
    try:
        yield Processes(chosen, torch.distributed.get_rank(), count)
    finally:
        torch.distributed.destroy_process_group()


def _own_gpu(number: int) -> torch.device:
    if number >= torch.cuda.device_count():
        raise OptionError(
            f"process {number} has no GPU: there are {torch.cuda.device_count()}. Start at most as many processes on a "
            "machine (torchrun --nproc-per-node), or train with --device cpu."
        )
    torch.cuda.set_device(number)
    return torch.device("cuda", number)
