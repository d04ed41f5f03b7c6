"""Keeping freed memory for the next large array, in the place of asking the system for it again each time.

glibc gives an array of more than 32 MiB back to the system when it is freed, and the system fills the next one with
zeros, page by page: 6 % of a CPU's forward pass, in which mask features of such a size come and go.
"""

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# Of mallopt, in glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_NEVER = 1 << 30
# What glibc itself arrives at after large arrays were freed; mallopt ends its adjusting.
_USUAL_MMAP, _USUAL_TRIM = 32 << 20, 64 << 20


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Keep what is freed meanwhile for this process, all threads; at the end it goes back to the system.

    Does nothing where the allocator is not glibc's, or where the environment says what it is to keep.
    """
    libc = _glibc()
    if libc is None:
        yield
        return
    _set(libc, _NEVER, _NEVER)
    try:
        yield
    finally:
        _set(libc, _USUAL_MMAP, _USUAL_TRIM)
        libc.malloc_trim(0)


def _set(libc: ctypes.CDLL, mmap_threshold: int, trim_threshold: int) -> None:
    libc.mallopt(_MMAP_THRESHOLD, mmap_threshold)
    libc.mallopt(_TRIM_THRESHOLD, trim_threshold)


def _glibc() -> ctypes.CDLL | None:
    if sys.platform != "linux" or _is_tuned():
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "gnu_get_libc_version") else None


def _is_tuned() -> bool:
    """Whether somebody has chosen these numbers for the process, which could not be put back at the end."""
    chosen = {"MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"} & os.environ.keys()
    return bool(chosen) or "glibc.malloc." in os.environ.get("GLIBC_TUNABLES", "")
