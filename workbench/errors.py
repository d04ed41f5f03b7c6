"""The workbench's own exceptions: what a caller can mend, told in one message."""

from collections.abc import Iterable
from difflib import get_close_matches


class WorkbenchError(Exception):
    """Something that the user can mend: the message says the cause, the value, the place and the remedy."""


class OptionError(WorkbenchError):
    """An option or an argument that does not exist, or makes no sense here: commands exit with 2."""


class DatasetError(WorkbenchError):
    """A dataset definition, or the files that it names, cannot be used as they are."""


class SegmentTableError(WorkbenchError):
    """A segment table breaks its schema, or a row's mask its image."""


class RunError(WorkbenchError):
    """A run folder cannot be opened, resumed or written."""


class EvaluationError(WorkbenchError):
    """Predictions and ground truth cannot be scored against each other."""


class TransferError(WorkbenchError):
    """Predictions cannot be imported from another format, or segments exported to it."""


class ModelError(WorkbenchError):
    """A checkpoint cannot be loaded, or does not fit the dataset."""


class StorageError(WorkbenchError):
    """An object store cannot be used as asked: an unknown scheme, no credentials, no such bucket, a missing package."""


class MissingObjectError(StorageError):
    """There is no such object in the store."""


class PassingStorageError(StorageError):
    """The store could not be reached, or failed, for as long as we tried: it may be over at the next attempt."""


class FiftyOneError(WorkbenchError):
    """FiftyOne is not installed, or holds something else than what is asked of it."""


class EngineError(WorkbenchError):
    """The engine that work is to be spread with is not installed, cannot be reached, or lost its workers."""


def did_you_mean(wrong: str, valid: Iterable[str]) -> str:
    """A sentence that names the nearest valid choice and lists them all (at most twelve)."""
    choices = sorted(valid)
    near = get_close_matches(wrong, choices, n=1)
    hint = f"Did you mean {near[0]!r}? " if near else ""
    listed = ", ".join(choices[:12]) + (f", ... ({len(choices)} in all)" if len(choices) > 12 else "")
    return f"{hint}Known: {listed or 'none'}."
