"""Keep Ray from telling its own affairs: stdout is for results, and the engine tells what matters on stderr."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

_LEVEL = "RAY_BACKEND_LOG_LEVEL"
_STDERR = 2


@contextmanager
def silent(ray: ModuleType) -> Iterator[None]:
    """Without Ray Data's bars and lines, and without the messages of nodes that Ray prints on stdout."""
    logger, worker = logging.getLogger("ray.data"), ray._private.worker
    context = ray.data.DataContext.get_current()
    before = logger.level, getattr(worker, "_worker_logs_enabled", True)
    bars = context.enable_progress_bars, context.print_on_execution_start
    logger.setLevel(logging.CRITICAL)
    worker._worker_logs_enabled = False
    context.enable_progress_bars = context.print_on_execution_start = False
    try:
        yield
    finally:
        context.enable_progress_bars, context.print_on_execution_start = bars
        logger.setLevel(before[0])
        worker._worker_logs_enabled = before[1]


@contextmanager
def compiled_part_silent() -> Iterator[None]:
    """A cluster joined within writes no warnings to stderr; its files below /tmp/ray tell what went wrong."""
    before = os.environ.get(_LEVEL)
    os.environ[_LEVEL] = before or "fatal"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_LEVEL]


@contextmanager
def stderr_to_nothing() -> Iterator[None]:
    """What compiled code writes to stderr within is dropped."""
    kept, nothing = os.dup(_STDERR), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, _STDERR)
    try:
        yield
    finally:
        os.dup2(kept, _STDERR)
        os.close(kept)
        os.close(nothing)
