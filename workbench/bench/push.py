"""The push into FiftyOne against its documented way, from the same run folder, in turn.

    python -m workbench.bench.push --out reports/benchmarks

What both wrote must agree, mask by mask, before a time is printed. Uses the database that FiftyOne is configured with,
and deletes the two datasets that it makes.
"""

import os
import platform
import resource
import tempfile
import textwrap
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import click
import numpy as np
import pyarrow as pa
import pycocotools.mask as coco_mask
from numpy.typing import NDArray

from workbench import rle, runs
from workbench.catalog import read
from workbench.errors import WorkbenchError
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


@dataclass
class Result:
    """Seconds of each push, ours and theirs, and the bytes of the samples in the database."""

    images: int
    masks: int
    seconds: tuple[list[float], list[float]] = field(default_factory=lambda: ([], []))
    size: list[int] = field(default_factory=lambda: [0, 0])
    peaks: list[float] = field(default_factory=list)
    """MiB at most resident in the process so far, after the first push of each."""

    @property
    def ratio(self) -> float:
        """How many times as fast as the documented way ours is, by the medians."""
        return median(self.seconds[1]) / median(self.seconds[0])


def measure(images: int, masks: int, repeats: int, folder: Path, tell: Callable[[str], None]) -> Result:
    """Push the same run both ways, `repeats` times in turn. Raises WorkbenchError where they wrote different masks."""
    fo = fiftyone()
    run, dataset = synthetic_run(folder, images, masks)
    result = Result(images, masks)
    ways: tuple[Callable[[], Any], ...] = (
        lambda: push([run], dataset, NAMES[0]).dataset,
        lambda: documented_push(fo, run, dataset, NAMES[1]),
    )
    try:
        for _ in range(repeats):
            for which, (name, way) in enumerate(zip(NAMES, ways, strict=True)):
                _delete(fo, name)
                begin = time.perf_counter()
                pushed = way()
                result.seconds[which].append(time.perf_counter() - begin)
                result.size[which] = _bytes(fo, pushed)
                if len(result.peaks) < len(ways):
                    result.peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
                tell(f"{name}: {result.seconds[which][-1]:.2f} s")
        check_agreement(fo, run)
    finally:
        for name in NAMES:
            _delete(fo, name)
    return result


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


def check_agreement(fo: Any, run: Run) -> None:
    """Raise WorkbenchError unless both datasets hold the same labels, boxes, scores and masks."""
    ours, theirs = (fo.load_dataset(name) for name in NAMES)
    field_name = next(iter(ours.info["workbench"]["runs"]))
    for mine, other in zip(ours.sort_by("image_id"), theirs.sort_by("image_id"), strict=True):
        pairs = zip(mine[field_name].detections, other["documented"].detections, strict=True)
        for a, b in pairs:
            same = (a.label, a.bounding_box, a.confidence, a.area) == (b.label, b.bounding_box, b.confidence, b.area)
            if not same or not np.array_equal(a.mask, b.mask):
                raise WorkbenchError(f"image {mine.image_id} of {run.path}: the two pushes differ at {a.id}.")


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


def report(result: Result, day: str) -> str:
    """The report as Markdown."""
    fo = fiftyone()
    ways = ("`workbench browse --no-launch`", "`add_samples`, as documented")
    rows = [
        f"| {way} | {median(seconds):.2f} | {min(seconds):.2f} to {max(seconds):.2f} | {size / 1e6:.1f} | {peak:.0f} |"
        for way, seconds, size, peak in zip(ways, result.seconds, result.size, result.peaks, strict=True)
    ]
    machine = f"FiftyOne {fo.__version__}, Python {platform.python_version()}, {platform.machine()}, {_cores()} cores"
    about = (
        f"`python -m workbench.bench.push`: {len(result.seconds[0])} pushes each, in turn, from the same run folder to "
        f"a new FiftyOne dataset; {SIZE[1]}x{SIZE[0]} pixels, seed 0. Every label, box, score and mask was compared "
        f"before a time was printed. {machine}, load average {os.getloadavg()[1]:.1f}. Peak memory is what the process "
        "has held at most by the end of its first push, ours first."
    )
    head = "| way | median s | range s | MB in the database | peak MiB |"
    table = [head, "| --- | --- | --- | --- | --- |", *rows]
    title = f"# Push into FiftyOne: {result.images:,} images x {result.masks} masks ({day})"
    return "\n".join([title, "", *textwrap.wrap(about, 118), "", *table, "", f"{result.ratio:.1f} times as fast.", ""])


def _cores() -> int:
    return len(os.sched_getaffinity(0))


@click.command()
@click.option("--images", default=1000, show_default=True)
@click.option("--masks", default=20, show_default=True)
@click.option("--repeats", default=3, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), help="Folder for the report.  [default: print it]")
def main(images: int, masks: int, repeats: int, out: Path | None) -> None:
    """Measure, compare, report."""
    with tempfile.TemporaryDirectory() as folder:
        result = measure(images, masks, repeats, Path(folder), lambda text: click.echo(text, err=True))
    day = datetime.now(UTC).date().isoformat()
    text = report(result, day)
    if out is None:
        click.echo(text)
        return
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{day}-push.md").write_text(text, encoding="utf-8")
    click.echo(out / f"{day}-push.md")


if __name__ == "__main__":
    main()
