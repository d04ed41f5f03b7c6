"""The files that `pull` writes: annotations, links to the images, what was edited, and the definition of it all."""

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pycocotools.mask as coco_mask

from workbench import rle, runs
from workbench.catalog.definitions import DatasetDefinition
from workbench.curation.adding import to_toml
from workbench.errors import TransferError
from workbench.exports import staging
from workbench.exports.coco_instances import write_coco_instances
from workbench.exports.coco_panoptic import write_coco_panoptic
from workbench.exports.index_png import write_index_png
from workbench.exports.tables import Chunks
from workbench.files import replacing
from workbench.formats.base import Category, Task
from workbench.formats.label_values import LabelValues
from workbench.formats.paths import Folder
from workbench.segments import SEGMENT_SCHEMA, segment_table, write_parquet
from workbench.voxel51.edits import DELETED, Label

EDIT_SCHEMA = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("segment_id", pa.int32()),  # in the new files; null where deleted
        pa.field("offered_segment_id", pa.int32()),  # of the run or ground truth that was corrected; null where added
        pa.field("edits", pa.list_(pa.string()), nullable=False),  # of `edits`
        pa.field("label", pa.string()),  # now; null where deleted
        pa.field("offered_label", pa.string()),  # before; null where added
        pa.field("iou", pa.float64()),  # of the mask now with the one offered; null where there are not both
    ]
)
REPORT, EDITS = "pull.json", "edits.parquet"
_IMAGES, _CLASSES = "images", "classes.csv"


def segment_rows(
    image_id: str,
    size_hw: tuple[int, int],
    labels: Sequence[Label],
    deleted: Sequence[Mapping[str, Any]],
    isthing: Mapping[int, bool],
    names: Mapping[int, str],
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """An image's rows of the new segment table, and of the table of edits."""
    rows = [_row(image_id, size_hw, number, label, isthing) for number, label in enumerate(labels, start=1)]
    records = [_record(image_id, size_hw, number, label, names) for number, label in enumerate(labels, start=1)]
    for row in deleted:
        records.append(
            {
                "image_id": image_id,
                "offered_segment_id": row["segment_id"],
                "edits": [DELETED],
                "offered_label": names[row["category_id"]],
            }
        )
    return rows, records


def table_of(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Rows as a segment table."""
    if not rows:
        return SEGMENT_SCHEMA.empty_table()
    return segment_table({name: [row[name] for row in rows] for name in SEGMENT_SCHEMA.names})


def edit_table(records: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Records as a table of edits."""
    return pa.Table.from_pylist([dict(record) for record in records], schema=EDIT_SCHEMA)


def check(out: Path, overwrite: bool) -> None:
    """Raise TransferError where the definition or its folder cannot be written, or hold what no pull wrote."""
    if out.suffix != ".toml":
        raise TransferError(f"{out}: the new definition is a .toml file. Write --out {out.with_suffix('.toml')}.")
    staging.check_file(out, overwrite)
    folder = out.with_suffix("")
    if folder.exists() and not (overwrite and (folder / REPORT).exists()):
        hint = "or overwrite it with --yes" if (folder / REPORT).exists() else "or move it away: no pull wrote it"
        raise TransferError(f"{folder}: exists already, and the files go there. Name another --out, {hint}.")


class Writer:
    """Fills the folder of one pull."""

    def __init__(self, folder: Path, definition: DatasetDefinition, categories: Sequence[Category], task: Task) -> None:
        self._folder, self._definition, self._categories, self._task = folder, definition, tuple(categories), task
        self._images = 0

    def __call__(self, chunks: Chunks, paths: Mapping[str, Path]) -> int:
        """Write the annotations and the links; returns how many images they are of.

        Raises UnsafeNameError for an image whose file name leads out of the folder.
        """
        counted = self._linked(chunks, paths)
        if self._task == "panoptic":
            (self._folder / "panoptic").mkdir()
            write_coco_panoptic(counted, self._categories, self._folder / "panoptic.json", self._folder / "panoptic")
        elif self._task == "instance":
            write_coco_instances(counted, self._categories, self._folder / "instances.json")
        else:
            (self._folder / "annotations").mkdir()
            labels = LabelValues.of(self._definition, self._categories)
            write_index_png(counted, labels, self._folder / "annotations")
            _write_classes(self._folder / _CLASSES, self._categories, labels)
        return self._images

    def report(self, edits: pa.Table, counts: Mapping[str, Any]) -> None:
        """Write what was edited."""
        write_parquet(edits, self._folder / EDITS)
        runs.write_json(self._folder / REPORT, dict(counts))

    def keys(self, root: str) -> dict[str, Any]:
        """The definition's keys, for files in the folder `root` beside it."""
        title = f"{self._definition.title or self._definition.name}: corrected in FiftyOne"
        common: dict[str, Any] = {"title": title, "root": root, "images": _IMAGES, "follow_links": True}
        licence = {"licence": self._definition.licence} if self._definition.licence else {}
        if self._task == "panoptic":
            return {"format": "coco", **common, "panoptic": "panoptic.json", "panoptic_png": "panoptic", **licence}
        if self._task == "instance":
            return {"format": "coco", **common, "instances": "instances.json", **licence}
        void = LabelValues.of(self._definition, self._categories).void
        maps: dict[str, Any] = {
            "annotations": "annotations",
            "classes": f"{root}/{_CLASSES}",
            "void": list(void),
        }
        if suffix := self._definition.images_suffix:  # it is no part of an image's id, but of the names of both files
            maps |= {"images_suffix": suffix, "annotations_suffix": f"{suffix}.png"}
        return {"format": "ade20k", **common, **maps, **licence}

    def _linked(self, chunks: Chunks, paths: Mapping[str, Path]) -> Iterator[tuple[pa.Table, pa.Table]]:
        folder = Folder(self._folder / _IMAGES, follow_links=True)
        for segments, images in chunks:
            for image in images.to_pylist():
                link = folder.file(image["file_name"])
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(paths[image["image_id"]].resolve())
            self._images += len(images)
            yield segments, images


@contextmanager
def new_files(out: Path, definition: DatasetDefinition, categories: Sequence[Category], task: Task) -> Iterator[Writer]:
    """A writer into a folder that appears, with the definition, when the block ends well."""
    folder = out.with_suffix("")
    with replacing.new_folder(folder) as partial:
        writer = Writer(partial, definition, categories, task)
        yield writer
    with replacing.new_file(out) as file:
        file.write_text(to_toml(writer.keys(folder.name)), encoding="utf-8")


def _row(
    image_id: str, size_hw: tuple[int, int], number: int, label: Label, isthing: Mapping[int, bool]
) -> dict[str, Any]:
    height, width = size_hw
    before = label.original
    same_mask = before is not None and label.counts == before["counts"]
    box = coco_mask.toBbox({"size": [height, width], "counts": label.counts}).tolist()
    return {
        "image_id": image_id,
        "segment_id": number,
        "ordinal": number - 1,
        "category_id": label.category_id,
        "isthing": isthing[label.category_id],
        "iscrowd": label.iscrowd,
        "score": None,
        "area": int(rle.parse_runs([label.counts]).areas()[0]),
        "declared_area": before["declared_area"] if same_mask and before is not None else None,
        "bbox": before["bbox"] if same_mask and before is not None else box,
        "height": height,
        "width": width,
        "counts": label.counts,
        "source_id": None if before is None else before["source_id"],
    }


def _record(
    image_id: str, size_hw: tuple[int, int], number: int, label: Label, names: Mapping[int, str]
) -> dict[str, Any]:
    before = label.original
    return {
        "image_id": image_id,
        "segment_id": number,
        "offered_segment_id": None if before is None else before["segment_id"],
        "edits": list(label.edits),
        "label": names[label.category_id],
        "offered_label": None if before is None else names[before["category_id"]],
        "iou": None if before is None else _iou(label.counts, before["counts"], size_hw),
    }


def _iou(first: bytes, second: bytes, size_hw: tuple[int, int]) -> float:
    if first == second:
        return 1.0
    size = list(size_hw)
    return float(coco_mask.iou([{"size": size, "counts": first}], [{"size": size, "counts": second}], [0])[0, 0])


def _write_classes(path: Path, categories: Iterable[Category], labels: LabelValues) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("category_id", "name", "isthing", "color", "label"))
        for c in categories:
            writer.writerow(
                (c.category_id, c.name, int(c.isthing), bytes(c.color).hex(), labels.label_of[c.category_id])
            )
