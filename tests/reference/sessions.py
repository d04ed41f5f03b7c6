"""The command in a process of its own, with small shards, to be killed or interrupted by a test."""

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from multiprocessing.context import ForkServerProcess
from pathlib import Path

IMAGES_PER_SHARD = 4

# A server that has imported torch once forks each process at once, out of a single thread.
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["torch", "workbench.prediction.api", "workbench.cli"])


def start(
    folder: Path, arguments: Sequence[str], before: Callable[[], None] | None = None, logs: Path | None = None
) -> ForkServerProcess:
    """Start `workbench ARGUMENTS` in `folder`; its output goes to stdout.txt and stderr.txt there, or in `logs`.

    The process calls `before`, which can be pickled, when all is in place for the command.
    """
    folder.mkdir(exist_ok=True)
    process = _context.Process(target=_run, args=(folder, list(arguments), before, logs or folder), daemon=True)
    process.start()
    return process


def finish(process: ForkServerProcess) -> int | None:
    """Wait for the process; its exit code, negative where a signal ended it."""
    process.join(60)
    assert process.exitcode is not None, "the command did not end within a minute"
    return process.exitcode


def wait_for(path: Path, process: ForkServerProcess) -> bool:
    """Wait until the file is there, or the process has ended; whether the process still runs."""
    while process.is_alive() and not path.exists():
        time.sleep(0.001)
    return process.is_alive()


def _run(folder: Path, arguments: list[str], before: Callable[[], None] | None, logs: Path) -> None:
    os.chdir(folder)
    for number, name in ((1, "stdout.txt"), (2, "stderr.txt")):
        os.dup2(os.open(logs / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w", buffering=1)
    import torch

    from workbench.cli import main
    from workbench.imports import api as imports
    from workbench.prediction import pipeline

    torch.set_num_threads(1)
    pipeline.IMAGES_PER_SHARD = imports._IMAGES_PER_SHARD = IMAGES_PER_SHARD
    # A shell's background job ignores SIGINT, and so would what it starts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if before is not None:
        before()
    try:
        main(arguments, prog_name="workbench")
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # what follows is of multiprocessing alone
