"""What every import format gives: its segments, a few images of the dataset at a time."""

import json
import sys
from abc import ABC, abstractmethod
from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa

from workbench.files.digests import content_digests, text_digest
from workbench.formats.base import Dataset, ImageRecord, Task
from workbench.formats.coco_json import identifier
from workbench.formats.pictures import UNDECODABLE, image_size


class PredictionSource(ABC):
    """Predictions in somebody's files, matched to the images of a dataset."""

    task: ClassVar[Task]
    notes: tuple[str, ...] = ()
    """What the user should know and no error says, such as images without predictions."""

    @abstractmethod
    def files(self) -> Sequence[Path]:
        """Every file that the predictions are read from, in an order that the images decide."""

    @abstractmethod
    def segments(self, records: Sequence[ImageRecord]) -> tuple[pa.Table, Mapping[str, tuple[int, int]]]:
        """The segment table of those images, and the (height, width) of each image of which it became known.

        Rows come image by image. Raises TransferError naming file, place, value and remedy.
        """

    def manifest(self) -> dict[str, Any]:
        """What the run's manifest has to say beyond every run's keys."""
        return {}

    def sha256(self) -> str:
        """Hex digest of the predictions: the file's own where there is one, else over all files' names and digests."""
        files = self.files()
        digests = content_digests(files)
        if len(files) == 1:
            return digests[0]
        return text_digest(f"{digest} {path.name}" for path, digest in zip(files, digests, strict=True))


class JsonCategories:
    """The categories of a dataset as its JSON files number them (`category_id_offset` apart from the tables' ids)."""

    def __init__(self, dataset: Dataset) -> None:
        self.isthing = {category.category_id: category.isthing for category in dataset.categories}
        self._offset = dataset.definition.category_id_offset
        self._dataset_name = dataset.definition.name

    def read(self, value: Any) -> int:
        """The tables' `category_id` for a JSON value. Raises ValueError listing the known ones."""
        number = whole_number(value)
        if number is not None and number + self._offset in self.isthing:
            return number + self._offset
        ids = [category_id - self._offset for category_id in sorted(self.isthing)]
        listed = ", ".join(map(str, ids[:12])) + (f", ... {ids[-1]}" if len(ids) > 12 else "")
        raise ValueError(
            f"category_id {value!r} is none of the {len(ids)} of dataset {self._dataset_name} ({listed}). Write the "
            "dataset's own ids (not the model's class indices), or name the dataset that has this one."
        )


def size_of(record: ImageRecord) -> tuple[int, int] | None:
    """(height, width) as the dataset declares it, else from the image file's header; None where neither tells."""
    if record.size_hw is not None:
        return record.size_hw
    try:
        return image_size(record.path)
    except UNDECODABLE:
        return None


def key_of_image(value: Any) -> str | None:
    """The `image_id` that a JSON value stands for: 285, 285.0 and "285" are "285"; None for what can be no id."""
    return identifier(value) or identifier(whole_number(value))


def whole_number(value: Any) -> int | None:
    """`value` as an int where it is a JSON number without a fraction, else None."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value % 1 != 0:
        return None
    return int(value)


def finite_score(value: Any) -> float:
    """A JSON value as a score. Raises ValueError for what is no finite number, such as null or NaN."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= sys.float_info.max:
        raise ValueError(f"score {json.dumps(value)} is no finite number. Give every detection its confidence.")
    return float(value)


def missing_note(records: Sequence[ImageRecord], having: Container[str], what: str) -> tuple[str, ...]:
    """One sentence on the images whose id is not in `having`; nothing where there are none."""
    missing = [record.image_id for record in records if record.image_id not in having]
    if not missing:
        return ()
    listed = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
    return (f"no {what} for {len(missing)} of {len(records)} images, which get no segments: {listed}",)
