"""Processes that train together as `torchrun` would start them, with random numbers that do not depend on how the
images are shared out."""

import multiprocessing
import os
import socket
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

# A server that has imported torch once forks each process at once, out of a single thread.
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["torch", "workbench.training.api"])


def train_in(processes: int, folder: Path, dataset: str, **options: Any) -> None:
    """Run `workbench.train` in that many processes at once, in `folder`. Raises RuntimeError where one fails."""
    port = _free_port()
    started = [
        _context.Process(target=_train, args=(rank, processes, port, folder, dataset, options), daemon=True)
        for rank in range(processes)
    ]
    for process in started:
        process.start()
    for process in started:
        process.join(120)
    if codes := [process.exitcode for process in started if process.exitcode != 0]:
        raise RuntimeError(f"of {processes} processes some ended with {codes}")


def _train(rank: int, processes: int, port: int, folder: Path, dataset: str, options: dict[str, Any]) -> None:
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(processes),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    os.chdir(folder)
    torch.set_num_threads(1)
    torch.rand = _alike  # type: ignore[assignment]
    from workbench.training.api import train

    train(dataset, progress=False, **options)


def _alike(*shape: Any, device: Any = None) -> Tensor:
    """Numbers in 0..1 that are the same for every image or mask, whatever the process: the first axis repeats them."""
    size = shape[0] if len(shape) == 1 and isinstance(shape[0], torch.Size | tuple) else shape
    generator = torch.Generator().manual_seed(0)
    return torch.empty(1, *size[1:]).uniform_(generator=generator).expand(*size).to(device).clone()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
