"""Files of `torch.save`, read for tensors and plain values alone: nothing in them is run."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any

import torch

_LONGEST_MESSAGE = 500  # characters
_patching = Lock()


def load_tensors(path: Path, mmap: bool = False) -> Any:
    """What `torch.save` wrote there, on the CPU. Of a damaged archive torch raises what it likes."""
    with _brief_refusals():
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)


@contextmanager
def _brief_refusals() -> Iterator[None]:
    """Cut what torch's unpickler says of a file that it refuses, before torch looks for words in it.

    It names the class that the file asks for, which may be megabytes of text, and the search takes the square of that:
    3 s for 25 kB, an hour for a megabyte (torch 2.13, `torch.load`, `_get_wo_message`).
    """
    module = torch._weights_only_unpickler
    refusal: type[Exception] = module.UnpicklingError  # type: ignore[attr-defined]
    with _patching:
        own = module.Unpickler

        class Brief(own):  # type: ignore[misc, valid-type]
            def load(self) -> Any:
                try:
                    return super().load()
                except refusal as error:
                    raise refusal(str(error)[:_LONGEST_MESSAGE]) from None

        module.Unpickler = Brief  # type: ignore[misc]
        try:
            yield
        finally:
            module.Unpickler = own  # type: ignore[misc]
