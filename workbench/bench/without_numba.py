"""Scoring as where numba is not installed, so that what NumPy and pycocotools do instead can be measured."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from unittest import mock

from workbench import rle
from workbench.evaluation import boundary, counted_instances, instance_ious, overlaps, tide

_COMPILED = (
    *((module, "compiled_kernels") for module in (overlaps, instance_ious, tide, boundary)),
    *((module, "_kernels") for module in (boundary, counted_instances)),
    (rle, "_compiled"),
)
"""The functions that load compiled code, where scoring looks them up."""


@contextmanager
def no_compiled_code() -> Iterator[None]:
    """Within the block they find none."""
    with ExitStack() as stack:
        for module, name in _COMPILED:
            stack.enter_context(mock.patch.object(module, name, lambda: None))
        yield
