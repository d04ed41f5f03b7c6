"""The push into FiftyOne against its documented way, from the same run folder, in turn.

Behind `workbench bench push`. What both write must agree, mask by mask. Uses the database that FiftyOne is configured
with, and deletes the datasets that it makes.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pycocotools.mask as coco_mask
from numpy.typing import NDArray

from workbench import rle, runs
from workbench.bench.measuring import Case, Disagreement, measure
from workbench.bench.reporting import Report, Section, finish, machine
from workbench.catalog import read
from workbench.formats import open_dataset
from workbench.formats.base import Category, Dataset
from workbench.runs import Run
from workbench.segments import image_table, segment_table
from workbench.voxel51.browse import push
from workbench.voxel51.installed import fiftyone

SIZE = (480, 640)
NAMES = ("workbench_bench", "workbench_bench_documented")
_CATEGORIES = tuple(Category(i, f"class {i}", True, (i, 255 - i, 0)) for i in range(1, 81))
_IMAGES_PER_SHARD = 250


def benchmark(
    images: int, masks: int, rounds: int, command: str, out: Path | None, tell: Callable[[str], None]
) -> None:
    """Push the same run both ways in turn, and report. Raises Disagreement where they write different labels."""
    fo = fiftyone()
    with tempfile.TemporaryDirectory() as folder:
        run, dataset = synthetic_run(Path(folder), images, masks)
        pushes = Pushes(fo, run, dataset)
        try:
            result = measure(pushes.case(), rounds, tell)
            sizes = [_bytes(fo, pushed) for pushed in pushes.last]
        finally:
            pushes.delete()
    about = (
        f"The same run folder ({images:,} images of {SIZE[1]}x{SIZE[0]} pixels with {masks} masks each, seed 0) into a "
        "new FiftyOne dataset. Every label, box, score and mask was compared."
    )
    size = f"In the database: {sizes[0] / 1e6:.1f} MB by us, {sizes[1] / 1e6:.1f} MB in the documented way."
    report = Report("Push into FiftyOne", about, [Section("A run", [result], [size])])
    finish(report, machine(("fiftyone", "pymongo", "numpy", "pyarrow")), command, "push", out)


class Pushes:
    """Both ways of pushing a run, each time into a dataset of its own."""

    def __init__(self, fo: Any, run: Run, dataset: Dataset) -> None:
        self._fo, self._run, self._dataset = fo, run, dataset
        self._names: list[str] = []
        self.last: list[Any] = [None, None]
        """The datasets last made: ours, theirs."""

    def case(self) -> Case:
        """`workbench browse --no-launch` against `add_samples`."""
        return Case(
            f"{self._run.store.count_images():,} images",
            ours=self._ours,
            theirs=self._theirs,
            peer="`add_samples`, as documented",
            agree=lambda ours, theirs: check_agreement(self._run, ours, theirs),
            agreement="every label, box, score and mask",
        )

    def delete(self) -> None:
        """All datasets that were made."""
        for name in self._names:
            _delete(self._fo, name)

    def _ours(self) -> Any:
        self.last[0] = push([self._run], self._dataset, self._new_name(NAMES[0])).dataset
        return self.last[0]

    def _theirs(self) -> Any:
        self.last[1] = documented_push(self._fo, self._run, self._dataset, self._new_name(NAMES[1]))
        return self.last[1]

    def _new_name(self, name: str) -> str:
        self._names.append(f"{name}_{len(self._names)}")
        _delete(self._fo, self._names[-1])
        return self._names[-1]


def documented_push(fo: Any, run: Run, dataset: Dataset, name: str) -> Any:
    """The way of FiftyOne's documentation: an object for each detection, a sample for each image, `add_samples`."""
    labels = {category.category_id: category.name for category in run.categories}
    paths = {record.image_id: str(record.path) for record in dataset.images()}
    of_image: dict[str, list[Any]] = {image_id: [] for image_id in paths}
    for row in run.segments().to_pylist():
        height, width = row["height"], row["width"]
        x, y, w, h = (int(value) for value in row["bbox"])
        mask = coco_mask.decode({"size": [height, width], "counts": row["counts"]})[y : y + h, x : x + w]
        detection = fo.Detection(
            label=labels[row["category_id"]],
            bounding_box=[x / width, y / height, w / width, h / height],
            mask=mask.astype(np.bool_),
            confidence=row["score"],
            segment_id=row["segment_id"],
            is_thing=row["isthing"],
            iscrowd=row["iscrowd"],
            area=row["area"],
        )
        of_image[row["image_id"]].append(detection)
    made = fo.Dataset(name)
    samples = []
    for image in run.images().to_pylist():
        image_id = image["image_id"]
        sample = fo.Sample(
            filepath=paths[image_id],
            image_id=image_id,
            metadata=fo.ImageMetadata(width=image["width"], height=image["height"]),
        )
        sample["documented"] = fo.Detections(detections=of_image[image_id])
        samples.append(sample)
    made.add_samples(samples, dynamic=True)
    return made


def check_agreement(run: Run, ours: Any, theirs: Any) -> None:
    """Raise Disagreement unless both datasets hold the same labels, boxes, scores and masks."""
    field_name = next(iter(ours.info["workbench"]["runs"]))
    for mine, other in zip(ours.sort_by("image_id"), theirs.sort_by("image_id"), strict=True):
        pairs = zip(mine[field_name].detections, other["documented"].detections, strict=True)
        for a, b in pairs:
            same = (a.label, a.bounding_box, a.confidence, a.area) == (b.label, b.bounding_box, b.confidence, b.area)
            if not same or not np.array_equal(a.mask, b.mask):
                raise Disagreement(f"image {mine.image_id} of {run.path}: the two pushes differ at {a.id}.")


def synthetic_run(folder: Path, images: int, masks: int) -> tuple[Run, Dataset]:
    """A run of random ellipses, some with a hole, over that many (empty) image files; seed 0."""
    generator = np.random.default_rng(0)
    pictures = folder / "images"
    pictures.mkdir(parents=True)
    for number in range(images):
        (pictures / f"{number:06d}.jpg").touch()
    definition = folder / "bench.toml"
    definition.write_text('format = "images"\nroot = "."\nimages = "images"\n', encoding="utf-8")
    dataset = open_dataset(read(definition))
    path = folder / "run"
    identity = {"dataset": dataset.fingerprint()}
    manifest = runs.new_manifest("predict", dataset.definition, "instance", _CATEGORIES, identity, {})
    with runs.lock(path):
        run = runs.create_or_resume(path, manifest)
        writer = runs.writer(run)
        records = dataset.images()
        for begin in range(0, images, _IMAGES_PER_SHARD):
            ids = [record.image_id for record in records[begin : begin + _IMAGES_PER_SHARD]]
            writer.commit(_segments(ids, masks, generator), _image_rows(ids, begin))
        return run.updated(status=runs.COMPLETE), dataset


def _segments(ids: list[str], masks: int, generator: np.random.Generator) -> pa.Table:
    columns: dict[str, list[Any]] = {
        name: [] for name in ("image_id", "segment_id", "category_id", "score", "area", "bbox", "counts")
    }
    for image_id in ids:
        for number in range(1, masks + 1):
            mask = _ellipse(generator)
            ys, xs = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
            box = [int(xs[0]), int(ys[0]), int(xs[-1] - xs[0]) + 1, int(ys[-1] - ys[0]) + 1]
            score, category = float(generator.random()), int(generator.integers(1, len(_CATEGORIES) + 1))
            values = (image_id, number, category, score, int(mask.sum()), box, rle.encode(mask))
            for column, value in zip(columns.values(), values, strict=True):
                column.append(value)
    rows = len(columns["image_id"])
    same = {"ordinal": [i - 1 for i in columns["segment_id"]], "isthing": [True] * rows, "iscrowd": [False] * rows}
    return segment_table({**columns, **same, "height": [SIZE[0]] * rows, "width": [SIZE[1]] * rows})


def _ellipse(generator: np.random.Generator) -> NDArray[np.bool_]:
    center = generator.random(2) * SIZE
    axes = generator.uniform(8, 90, size=2)
    y, x = np.ogrid[: SIZE[0], : SIZE[1]]
    distance = ((y - center[0]) / axes[0]) ** 2 + ((x - center[1]) / axes[1]) ** 2
    ripple = 0.15 * np.sin(x / 5) * np.cos(y / 7)
    return np.asarray((distance + ripple < 1) & (distance > generator.choice([0.0, 0.2])))


def _image_rows(ids: list[str], first: int) -> pa.Table:
    columns = {
        "image_id": ids,
        "file_name": [f"{image_id}.jpg" for image_id in ids],
        "height": [SIZE[0]] * len(ids),
        "width": [SIZE[1]] * len(ids),
        "ordinal": range(first, first + len(ids)),
        "status": ["ok"] * len(ids),
    }
    return image_table(columns)


def _delete(fo: Any, name: str) -> None:
    if fo.dataset_exists(name):
        fo.delete_dataset(name)


def _bytes(fo: Any, dataset: Any) -> int:
    return int(fo.core.odm.get_db_conn().command("collstats", dataset._sample_collection_name)["size"])
