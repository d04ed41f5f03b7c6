"""CPU cores that this process may use, and how many processes of ours they can carry."""

import os

from workbench.errors import OptionError

PROCESSES_A_CORE = 2
"""At most: more only take turns, and half a gigabyte each."""


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def check_processes(number: int) -> None:
    """Raises OptionError for fewer processes than one, and for more than this machine can carry."""
    if number < 1:
        raise OptionError(f"--processes is {number}; it must be at least 1.")
    cores = usable_cores()
    if number > PROCESSES_A_CORE * cores:
        raise OptionError(
            f"--processes is {number}, and {cores} CPU cores can be used here. Give {cores} at best, "
            f"{PROCESSES_A_CORE * cores} at most; for more machines, --engine ray."
        )
