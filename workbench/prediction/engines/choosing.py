"""Which engine the options ask for; options that do not go together are told before anything is started."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from workbench.cores import check_processes, usable_cores
from workbench.errors import OptionError, did_you_mean
from workbench.prediction.device import choose_device
from workbench.prediction.engines.base import Engine
from workbench.prediction.engines.local import LocalEngine

ENGINES = ("local", "ray")
_MOST_READERS = 8


@contextmanager
def chosen_engine(
    engine: str = "local",
    device: str = "auto",
    processes: int | None = None,
    num_workers: int | None = None,
    address: str | None = None,
    readers: int | None = None,
) -> Iterator[Engine]:
    """The engine, connected to its cluster where it has one, for the block.

    Raises OptionError for options that do not exist or do not go together, EngineError where Ray is not installed or
    its cluster cannot be reached.
    """
    _check(engine, device, processes, num_workers, address, readers)
    if engine == "ray":
        from workbench.prediction.engines.ray_data import connected

        with connected(address, num_workers, device, readers) as on_ray:
            yield on_ray
        return
    devices = choose_devices(device)
    count = processes or len(devices)
    if count == 1:
        yield LocalEngine(devices[0], readers or default_readers(usable_cores()))
        return
    from workbench.prediction.engines.processes import ProcessEngine

    threads = max(1, usable_cores() // count)
    yield ProcessEngine([devices[i % len(devices)] for i in range(count)], threads, readers or default_readers(threads))


def choose_devices(names: str) -> list[torch.device]:
    """The devices of "cuda:0,1" (or "cuda:0,cuda:1"), or the one device of any other name, as `choose_device`."""
    first, *others = (name.strip() for name in names.split(","))
    if not others:
        return [choose_device(first)]
    listed = [f"cuda:{name}" if name.isdigit() else name for name in (first, *others)]
    if not all(name.startswith("cuda:") for name in listed):
        raise OptionError(f"--device {names}: several devices are GPUs by number, cuda:0,1. For a CPU: --processes.")
    if twice := sorted({name for name in listed if listed.count(name) > 1}):
        raise OptionError(f"--device {names}: {twice[0]} is named twice. --processes puts several on each GPU.")
    return [choose_device(name) for name in listed]


def default_readers(cores: int) -> int:
    """Threads that read images, where nothing is said."""
    return min(_MOST_READERS, cores)


def _check(
    engine: str,
    device: str,
    processes: int | None,
    num_workers: int | None,
    address: str | None,
    readers: int | None,
) -> None:
    if engine not in ENGINES:
        raise OptionError(f"no engine {engine!r}. {did_you_mean(engine, ENGINES)}")
    if processes is not None:
        check_processes(processes)
    for name, value in (("num-workers", num_workers), ("workers", readers)):
        if value is not None and value < 1:
            raise OptionError(f"--{name} is {value}; it must be at least 1.")
    if engine != "ray":
        for name, given in (("num-workers", num_workers), ("address", address)):
            if given is not None:
                raise OptionError(
                    f"--{name} {given} is for --engine ray. On this machine alone: --processes, or --device cuda:0,1."
                )
        if processes is not None and processes < len(device.split(",")):
            raise OptionError(
                f"--processes {processes} is too few for --device {device}: each device needs one. Leave it out."
            )
    elif processes is not None:
        raise OptionError(f"--processes {processes} is for this machine alone; with --engine ray it is --num-workers.")
    elif device not in ("auto", "cpu", "cuda"):
        raise OptionError(f"--device {device}: with --engine ray it is auto, cpu or cuda; Ray chooses which GPU.")
