"""What datasets with annotations share: their sources opened, ground truth as tables, and the fingerprint."""

import os
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from pathlib import Path, PurePosixPath

import pyarrow as pa

from workbench.catalog.class_tables import ClassTable, read_class_table
from workbench.catalog.definitions import DatasetDefinition
from workbench.errors import DatasetError
from workbench.files.digests import content_digests, text_digest
from workbench.formats.base import Category, Dataset, ImageRecord, Task
from workbench.formats.coco_instances import InstancesSource
from workbench.formats.coco_json import CocoFile, read_coco_file
from workbench.formats.coco_panoptic import PanopticSource
from workbench.formats.derive import Derivation, merged_by_category, things_of
from workbench.formats.label_maps import instance_id_source, semantic_source
from workbench.formats.paths import Folder, UnsafeNameError
from workbench.formats.problems import Problem, refuse
from workbench.formats.rows import Converted, Entry, GroundTruthSource, to_tables
from workbench.formats.tasks import Kind, annotation_kinds, offered_tasks
from workbench.storage import exists, fetch, shown

_FINGERPRINT_VERSION = 1
_MOST_THREADS = 8  # decoding PNGs and encoding masks release the interpreter lock
_DERIVATIONS: dict[Task, Derivation] = {"instance": things_of, "semantic": merged_by_category}


class AnnotatedDataset(Dataset):
    """A dataset with one annotation source for each kind of annotation that its definition names."""

    @cached_property
    @abstractmethod
    def category_map(self) -> Mapping[int, Category]:
        """The classes by `category_id`, ascending."""

    @cached_property
    @abstractmethod
    def image_map(self) -> Mapping[str, ImageRecord]:
        """The images by id, in the order of their ordinals."""

    @cached_property
    @abstractmethod
    def file_problems(self) -> list[Problem]:
        """What is wrong with the lists of images and categories."""

    @property
    def categories(self) -> tuple[Category, ...]:
        """See `Dataset.categories`."""
        return tuple(self.category_map.values())

    @property
    def tasks(self) -> tuple[Task, ...]:
        """Those with annotations of their own, and those derived from panoptic ones."""
        return tuple(offered_tasks(self.definition))

    def images(self) -> Sequence[ImageRecord]:
        """See `Dataset.images`. Raises DatasetError for unusable records, such as names that lead out of the folder."""
        refuse(self.file_problems)
        return tuple(self.image_map.values())

    @cached_property
    def class_table(self) -> ClassTable:
        """The definition's class table; an empty one where it names none."""
        path = self.definition.class_table
        return read_class_table(path) if path else ClassTable((), {})

    @cached_property
    def files(self) -> dict[Kind, CocoFile]:
        """The COCO JSON files, read."""
        definition = self.definition
        known = {category.category_id: category for category in self.class_table.categories}
        return {
            kind: read_coco_file(
                existing(definition, key), image_folder(definition), known, definition.category_id_offset
            )
            for kind, key in annotation_kinds(definition).items()
            if key in ("panoptic", "instances")
        }

    @cached_property
    def sources(self) -> dict[Kind, GroundTruthSource]:
        """The annotation sources, opened. Raises DatasetError for files that cannot be opened at all."""
        return {kind: self._open(kind, key) for kind, key in annotation_kinds(self.definition).items()}

    def _open(self, kind: Kind, key: str) -> GroundTruthSource:
        definition = self.definition
        if key == "instances":
            return InstancesSource(self.files[kind], self.category_map, definition.category_id_offset)
        if key == "panoptic":
            return PanopticSource(
                self.files[kind],
                Folder(panoptic_png_folder(definition), definition.follow_links),
                self.category_map,
                definition.category_id_offset,
                definition.unlisted,
            )
        maps = Folder(existing(definition, "annotations"), definition.follow_links)
        images = tuple(self.image_map.values())
        if definition.instance_id_to_semantic_id is None:
            return semantic_source(definition, images, maps, self.category_map, self.class_table.labels)
        return instance_id_source(definition, images, maps, self.category_map)

    def problems(self) -> list[Problem]:
        """Everything wrong that shows without opening a picture."""
        return self.file_problems + [problem for source in self.sources.values() for problem in source.problems]

    @cached_property
    def pictures(self) -> list[Path]:
        """The pictures of all annotations, existing or not; remote ones are fetched. Raises UnsafeNameError."""
        paths = [path for source in self.sources.values() for path in source.pictures()]
        fetch(paths)
        return paths

    def fetch_pictures(self) -> None:
        """Make local copies of remote annotations' pictures. A name that leads out of its folder is told elsewhere."""
        with suppress(UnsafeNameError):
            _ = self.pictures

    def ground_truth(self, task: Task, images_per_table: int = 256) -> Iterator[tuple[pa.Table, pa.Table]]:
        """See `Dataset.ground_truth`.

        Without annotations of their own, instances are the panoptic things, and classes the panoptic segments merged.
        """
        source, derive = self._route(task)
        refuse(self.file_problems)
        refuse(source.problems)
        self.fetch_pictures()
        entries = sorted(source.entries, key=lambda entry: entry.record.ordinal)
        if derive is things_of:  # an instances file would list its images so
            entries = [replace(entry, ordinal=ordinal) for ordinal, entry in enumerate(entries)]
        with thread_pool() as pool:
            for start in range(0, len(entries), images_per_table):
                part = entries[start : start + images_per_table]
                converted = list(pool.map(lambda entry: _convert_or_refuse(source, entry), part))
                segments, images = to_tables(list(zip(part, converted, strict=True)))
                yield (segments if derive is None else derive(segments)), images

    def fingerprint(self) -> str:
        """Hex digest of what decides the ground truth, by content: where the files lie does not count."""
        definition = self.definition
        settings = (
            f"{definition.format} {sorted(annotation_kinds(definition).items())} {definition.void} "
            f"{definition.ignore_index} {definition.unlisted} {definition.category_id_offset}"
        )
        singles = [file.path for file in self.files.values()]
        singles += [definition.class_table] if definition.class_table else []
        if definition.instance_id_to_semantic_id:
            singles.append(existing(definition, "instance_id_to_semantic_id"))
        images = [f"{image.image_id} {image.file_name}" for image in self.image_map.values()]
        digests = content_digests([*singles, *self.pictures])
        return text_digest([f"fingerprint {_FINGERPRINT_VERSION}", settings, *digests, *images])

    def _route(self, task: Task) -> tuple[GroundTruthSource, Derivation | None]:
        if task in self.sources:
            return self.sources[task], None
        if "panoptic" in self.sources and task in _DERIVATIONS:
            return self.sources["panoptic"], _DERIVATIONS[task]
        have = ", ".join(self.tasks) or "none"
        raise DatasetError(
            f"{self.definition.name} has no {task} ground truth (it has: {have}). Name the annotation file in "
            f"{self.definition.source}, or put it where the definition says."
        )


def existing(definition: DatasetDefinition, key: str) -> Path:
    """The path behind a key, a remote file fetched. Raises DatasetError, naming remedies, where it does not exist."""
    path = definition.resolve(getattr(definition, key))
    if key != "annotations":
        fetch([path])
    if not exists(path):
        remedy = "Correct"
        if definition.archives:
            remedy = f"Run `workbench datasets download {definition.name}`, or correct"
        raise DatasetError(
            f"{definition.name}: {shown(path)} does not exist. {remedy} `root` or `{key}` in {definition.source}."
        )
    return path


def image_folder(definition: DatasetDefinition) -> Folder:
    """The folder that image names start from: the root where the definition names no `images`."""
    return Folder(definition.resolve(definition.images or "."), definition.follow_links)


def panoptic_png_folder(definition: DatasetDefinition) -> Path:
    """The folder of the panoptic PNGs: the JSON's path without its ending unless `panoptic_png` says otherwise."""
    return definition.resolve(definition.panoptic_png or str(PurePosixPath(definition.panoptic or "").with_suffix("")))


def thread_pool() -> ThreadPoolExecutor:
    """Threads for reading pictures."""
    return ThreadPoolExecutor(max_workers=min(_MOST_THREADS, os.cpu_count() or 1))


def _convert_or_refuse(source: GroundTruthSource, entry: Entry) -> Converted:
    converted = source.convert(entry)
    refuse(converted.problems)
    return converted
