"""Ground truth, converted once: the same shards as a run's, cached under the dataset's fingerprint.

    $WORKBENCH_CACHE/ground_truth/<fingerprint>-<task>-v1.2/   segments/, images/, ground_truth.json

A conversion is written beside its place and renamed into it when complete, so a folder of that name is whole. Two
processes that want the same one wait for each other. Each conversion takes away those that nobody has read for
`DAYS_KEPT` days: of annotations that have changed since, and of earlier versions.
"""

import json
import os
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from workbench.errors import DatasetError
from workbench.files.cache import cache_folder
from workbench.files.locks import exclusive
from workbench.formats.base import Dataset, Task
from workbench.segments import SCHEMA_VERSION
from workbench.store import SegmentStore, SegmentStoreWriter, sync_folder

CONVERSION_VERSION = 2
"""Counts up when the readers give other rows for the same files, or refuse files that they took before: what laxer
checks let in is not served from the cache."""

DAYS_KEPT = 90.0
"""Since a conversion was last asked for."""

SEGMENTS = "segments"
COMPLETE = "ground_truth.json"
"""Written last: what the folder holds, and that it holds all of it."""

_REMOVED = ".removed"
_KEY_LENGTH = 32  # hexadecimal digits of the fingerprint: 128 bits

Progress = Callable[[int, int], None]
"""Called with (images converted, images in all)."""


def load(dataset: Dataset, task: Task, progress: Progress | None = None) -> SegmentStore:
    """The dataset's ground truth for a task, converted on first use.

    Within the store, image tables carry the order of the annotation file in `ordinal`; see `Dataset.ground_truth`.
    Raises DatasetError for a task that the dataset does not have, for annotations that break their format, and for a
    cache folder that cannot be written.
    """
    root = cache_folder() / "ground_truth"
    folder = root / f"{dataset.fingerprint()[:_KEY_LENGTH]}-{task}-v{SCHEMA_VERSION}.{CONVERSION_VERSION}"
    while not _note_use(folder):
        try:
            root.mkdir(parents=True, exist_ok=True)
            with exclusive(root / f"{folder.name}.lock"):
                if not (folder / COMPLETE).exists():
                    _convert(dataset, task, folder, progress)
                    _prune(root)
        except OSError as error:
            raise DatasetError(
                f"cannot keep the ground truth of {dataset.definition.name} in {root} ({error}). "
                "Set WORKBENCH_CACHE to a folder that can be written."
            ) from error
    return SegmentStore(folder, SEGMENTS)


def _note_use(folder: Path) -> bool:
    """Whether a conversion is there, whole. The marker's time of modification is that of its last use, from now on.

    A cache that others own is read all the same.
    """
    with suppress(OSError):
        os.utime(folder / COMPLETE)
    return (folder / COMPLETE).exists()


def _prune(root: Path) -> None:
    """Take away what was not used for `DAYS_KEPT` days.

    By a rename first: who reads it at that moment finds all of it or nothing, and never scores on what is left.
    """
    oldest = time.time() - DAYS_KEPT * 86_400
    for left_over in root.glob(f".*{_REMOVED}"):  # of a process that was killed here
        shutil.rmtree(left_over, ignore_errors=True)
    for marker in root.glob(f"[!.]*/{COMPLETE}"):
        folder = marker.parent
        with suppress(OSError):  # gone meanwhile, held by another process, or another user's
            if marker.stat().st_mtime < oldest:
                removed = root / f".{folder.name}.{os.getpid()}{_REMOVED}"
                with exclusive(root / f"{folder.name}.lock", wait=False):
                    if marker.stat().st_mtime < oldest:
                        folder.rename(removed)
                shutil.rmtree(removed, ignore_errors=True)


def _convert(dataset: Dataset, task: Task, folder: Path, progress: Progress | None) -> None:
    partial = folder.with_name(f".{folder.name}.partial")
    for left_over in (partial, folder):  # of a crash, or of a copy cut short: without COMPLETE it counts for nothing
        if left_over.exists():
            shutil.rmtree(left_over)
    writer = SegmentStoreWriter(partial, SEGMENTS)
    total, images, segments = len(dataset.images()), 0, 0
    for segment_table, image_table in dataset.ground_truth(task):
        writer.commit(segment_table, image_table)
        images, segments = images + len(image_table), segments + len(segment_table)
        if progress is not None:
            progress(images, total)
    about = {"dataset": dataset.definition.name, "task": task, "images": images, "segments": segments}
    (partial / COMPLETE).write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    sync_folder(partial)
    partial.rename(folder)
    sync_folder(folder.parent)
