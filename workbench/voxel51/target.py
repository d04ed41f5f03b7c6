"""The FiftyOne dataset that a workbench dataset is pushed to: its samples, its fields, and the documents in them.

The one place that goes below FiftyOne's public interface: documents are read from the database as they are.
"""

import copy
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bson import ObjectId

from workbench.errors import FiftyOneError
from workbench.exports.values import class_labels
from workbench.formats.base import Category, Dataset, ImageRecord
from workbench.storage import ensure, shown
from workbench.voxel51 import names
from workbench.voxel51.documents import Document
from workbench.voxel51.installed import fiftyone

INFO = "workbench"
"""The key of `dataset.info` that says what was pushed; a FiftyOne dataset without it is not ours to write to."""
_VERSION = 1
_SAMPLES_AT_ONCE = 1000
OBJECTS = {"Detections": "detections", "Polylines": "polylines"}
"""Under which name each kind of label holds its objects."""
_OBJECT_ATTRIBUTES = {
    "segment_id": "IntField",
    "is_thing": "BooleanField",
    "iscrowd": "BooleanField",
    "area": "IntField",
}


@dataclass
class Target:
    """A FiftyOne dataset that the workbench writes to."""

    fo: Any
    """The module `fiftyone`."""
    dataset: Any
    """`fiftyone.Dataset`."""
    categories: tuple[Category, ...]
    sample_ids: dict[str, str] = field(repr=False)
    """image_id -> id of its sample."""
    info: dict[str, Any] = field(repr=False)
    """What was pushed; changes count after `save_info`."""

    @property
    def labels(self) -> dict[int, str]:
        """category_id -> label."""
        return class_labels(self.categories)

    def save_info(self) -> None:
        """Keep `info` in the database."""
        # A plain copy, whole: FiftyOne's own dictionary notes changes below it under names that it then cannot save.
        self.dataset.info[INFO] = copy.deepcopy(self.info)
        self.dataset.save()

    def add_images(self, records: Iterable[ImageRecord], sizes_hw: Mapping[str, tuple[int, int] | None]) -> int:
        """Add the samples that are not there yet, remote images fetched; returns how many those were."""
        fo, added, batch = self.fo, 0, []
        records = list(records)
        ensure(record.path for record in records)  # the App shows files
        for record in records:
            if record.image_id in self.sample_ids:
                continue
            size = sizes_hw.get(record.image_id)
            metadata = None if size is None else fo.ImageMetadata(width=size[1], height=size[0])
            batch.append(fo.Sample(filepath=str(record.path), image_id=record.image_id, metadata=metadata))
            added += 1
            if len(batch) == _SAMPLES_AT_ONCE:
                self._add(batch)
                batch = []
        self._add(batch)
        return added

    def _add(self, samples: list[Any]) -> None:
        if samples:
            ids = self.dataset.add_samples(samples)
            self.sample_ids.update(zip((sample.image_id for sample in samples), ids, strict=True))

    def declare_detections(self, name: str, attributes: Mapping[str, str] | None = None) -> None:
        """Make sure that there is a field of `Detections` whose objects have our attributes and those `attributes`.

        `attributes` maps names to FiftyOne's field classes, such as "FloatField".
        """
        self._declare_objects(name, "Detections", {**_OBJECT_ATTRIBUTES, **(attributes or {})})

    def declare_polylines(self, name: str) -> None:
        """Make sure that there is a field of `Polylines` whose objects have our attributes."""
        self._declare_objects(name, "Polylines", _OBJECT_ATTRIBUTES)

    def _declare_objects(self, name: str, kind: str, attributes: Mapping[str, str]) -> None:
        self._declare(name, kind)
        there = self.dataset.get_field_schema(flat=True)
        for attribute, kind_of_value in attributes.items():
            path = f"{name}.{OBJECTS[kind]}.{attribute}"
            if path not in there:
                self.dataset.add_sample_field(path, getattr(self.fo, kind_of_value))

    def declare_segmentation(self, name: str) -> None:
        """Make sure that there is a field of `Segmentation`."""
        self._declare(name, "Segmentation")

    def declare_values(self, kinds: Mapping[str, str]) -> None:
        """Make sure that samples have those fields of plain values."""
        for name, kind in kinds.items():
            if not self.dataset.has_sample_field(name):
                self.dataset.add_sample_field(name, getattr(self.fo, kind))

    def _declare(self, name: str, kind: str) -> None:
        document = getattr(self.fo, kind)
        there = self.dataset.get_field(name)
        if there is None:
            self.dataset.add_sample_field(name, self.fo.EmbeddedDocumentField, embedded_doc_type=document)
        elif getattr(there, "document_type", None) is not document:
            raise FiftyOneError(
                f"FiftyOne dataset {self.dataset.name!r}: its field {name!r} holds something else than {kind}. "
                "Delete that field, or push under another --name."
            )

    def read(self, name: str, image_ids: Sequence[str]) -> dict[str, Document | None]:
        """The stored document of a field for each of those images; None where there is none."""
        ids = {ObjectId(self.sample_ids[image_id]): image_id for image_id in image_ids if image_id in self.sample_ids}
        collection = self.fo.core.odm.get_db_conn()[self.dataset._sample_collection_name]
        found: dict[str, Document | None] = dict.fromkeys(image_ids)
        for sample in collection.find({"_id": {"$in": list(ids)}}, {name: True}):
            found[ids[sample["_id"]]] = sample.get(name)
        return found

    def write(self, name: str, values: Mapping[str, Any]) -> None:
        """Set a field of those images; raw documents are stored as they are."""
        by_sample = {self.sample_ids[image_id]: value for image_id, value in values.items()}
        if by_sample:
            self.dataset.set_values(name, by_sample, key_field="id", validate=False, expand_schema=False)


def detections_document(objects: list[Document]) -> Document:
    """`Detection` documents as the value of a field."""
    return {"_cls": "Detections", "detections": objects}


def polylines_document(objects: list[Document]) -> Document:
    """`Polyline` documents as the value of a field."""
    return {"_cls": "Polylines", "polylines": objects}


def objects_of(document: Document | None) -> list[Document]:
    """The objects in the value of a field of `Detections` or `Polylines`; none where it has no value."""
    return [] if document is None else document.get(OBJECTS[document["_cls"]]) or []


def open_target(dataset: Dataset, categories: Sequence[Category], name: str | None = None) -> Target:
    """The FiftyOne dataset of that name (default: the dataset's), persistent, made where there is none.

    Raises FiftyOneError where one is there that the workbench did not make, or made of another dataset.
    """
    fo = fiftyone()
    name = name or dataset.definition.name
    about = {
        "version": _VERSION,
        "dataset": dataset.definition.name,
        "definition": shown(dataset.definition.source.resolve()),
    }
    if fo.dataset_exists(name):
        existing = existing_target(name)
        if existing.info["dataset"] != about["dataset"]:
            raise FiftyOneError(
                f"FiftyOne dataset {name!r} holds {existing.info['dataset']!r}, not {about['dataset']!r}. Push under "
                "another --name."
            )
        existing.info.update(about)
        existing.dataset.persistent = True  # it is not where the process that made it was killed at the very end
        return existing
    # Under another name until it says what it is: FiftyOne clears away what is not persistent, if this is killed.
    meanwhile = f"{name} being made by {os.getpid()}"
    if fo.dataset_exists(meanwhile):  # an attempt of this process failed, or one of the same number was killed
        fo.delete_dataset(meanwhile)
    made = fo.Dataset(meanwhile)
    made.add_sample_field(names.IMAGE_ID, fo.StringField)
    made.create_index(names.IMAGE_ID, unique=True)
    info = {**about, "categories": [_category_info(c) for c in categories], "ground_truth": {}, "runs": {}}
    target = Target(fo, made, tuple(categories), {}, info)
    target.save_info()
    made.name, made.persistent = name, True
    return target


def existing_target(name: str) -> Target:
    """The FiftyOne dataset of that name. Raises FiftyOneError where there is none, or the workbench did not make it."""
    fo = fiftyone()
    if not fo.dataset_exists(name):
        known = ", ".join(fo.list_datasets()) or "none"
        raise FiftyOneError(f"FiftyOne has no dataset {name!r}. Known: {known}. `workbench browse` makes one.")
    dataset = fo.load_dataset(name)
    about = dataset.info.get(INFO)
    if about is None:
        raise FiftyOneError(
            f"FiftyOne dataset {name!r} was not made by the workbench, so it is not written to. Push under another "
            "--name."
        )
    if about["version"] > _VERSION:
        raise FiftyOneError(f"FiftyOne dataset {name!r} was pushed by a newer workbench. Upgrade eomt-workbench.")
    categories = tuple(
        Category(c["category_id"], c["name"], c["isthing"], tuple(c["color"])) for c in about["categories"]
    )
    image_ids, ids = dataset.values([names.IMAGE_ID, "id"])
    return Target(fo, dataset, categories, dict(zip(image_ids, ids, strict=True)), _plain(about))


def _plain(value: Any) -> Any:
    """FiftyOne's dictionaries and lists as Python's own."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list) else value


def _category_info(category: Category) -> dict[str, Any]:
    return {
        "category_id": category.category_id,
        "name": category.name,
        "isthing": category.isthing,
        "color": list(category.color),
    }
