"""Compiling a kernel once per machine: numba with its disk cache, and without it where no folder can be written.

Importing this module imports numba (about half a second): do it inside the function that needs a kernel.
"""

from collections.abc import Callable
from functools import cache, wraps
from typing import Any, TypeVar

import numba

Function = TypeVar("Function", bound=Callable[..., Any])
_WAITING: list[Callable[[], Any]] = []  # kernels of the modules imported so far that are compiled on demand


def compiled(*signatures: Any, error_model: str = "python", on_demand: bool = False) -> Callable[[Function], Function]:
    """Compile the decorated function for these numba signatures now; a later process loads the machine code from disk.

    The kernel releases the interpreter lock. numba keeps its files beside the source, or in the user's cache folder
    (`NUMBA_CACHE_DIR` names another); where neither can be written, or the disk is full, the kernel still works and is
    compiled again in the next process. A change of another module that a kernel calls goes unnoticed by the cache, so
    kernels call only functions of their own module. With `error_model="numpy"` a division by zero gives infinity; while
    it may raise, no loop with a division becomes vector instructions. With `on_demand` it is compiled when it is first
    called, by Python and not by another kernel: for modules of which most users need one function.
    """

    def compile_now(function: Function) -> Function:
        try:
            kernel: Function = numba.njit(list(signatures), cache=True, nogil=True, error_model=error_model)(function)
        except (RuntimeError, OSError):  # "no locator available", or the cache file could not be written
            kernel = numba.njit(list(signatures), nogil=True, error_model=error_model)(function)
        return kernel

    def compile_when_called(function: Function) -> Function:
        kernel = cache(lambda: compile_now(function))
        _WAITING.append(kernel)
        return wraps(function)(lambda *arguments: kernel()(*arguments))  # type: ignore[return-value]

    return compile_when_called if on_demand else compile_now


def compile_waiting() -> None:
    """Compile, or load, the kernels that wait for their first call."""
    for kernel in _WAITING:
        kernel()


def inlined(function: Function) -> Function:
    """A part of kernels of the same module, compiled with them; divisions as with `error_model="numpy"`."""
    part: Function = numba.njit(error_model="numpy")(function)
    return part
