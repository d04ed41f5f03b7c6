"""The headline numbers of parts of the data: by the size of segments, or by any property of the images.

Slices of images are scored on their own images alone, from the counts in the run's folder, so nothing is matched again.
Slices by area keep the matching of the whole: a pair and a missed segment belong to the size of the ground truth, a
false positive to its own. AP by area is COCO's APs, APm and APl.
"""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from workbench.errors import OptionError, did_you_mean
from workbench.evaluation.bootstrap import StoredCounts
from workbench.evaluation.instance import AREA_RANGES
from workbench.evaluation.keeping import MATCHES
from workbench.evaluation.panoptic import PanopticResult

SLICE_SCHEMA = pa.schema(
    [
        pa.field("by", pa.string(), nullable=False),
        pa.field("slice", pa.string(), nullable=False),
        pa.field("images", pa.int64()),  # null for slices by area, which are of segments
        pa.field("metric", pa.string(), nullable=False),  # of headlines.py
        pa.field("value", pa.float64()),
    ]
)
AREA = "area"
PROPERTIES = ("width", "height", "pixels", "segments")
"""Of an image, known without a file: `segments` is how many the ground truth has."""
NO_VALUE = "(none)"
_MOST_VALUES = 8  # a column of more different numbers is cut into quarters


@dataclass(frozen=True)
class Slice:
    """One part of the data and what it scores."""

    by: str
    name: str
    images: int | None
    headlines: Mapping[str, float | None]


def slices(folder: Path, metrics: Mapping[str, Any], images: pa.Table, by: str) -> list[Slice]:
    """The parts of an evaluated run by "area", one of `PROPERTIES`, or `FILE.csv:COLUMN`.

    `folder` holds what evaluation keeps, `metrics` is metrics.json, `images` the image table of the ground truth. A CSV
    has a column `image_id` or `file_name`; images that it lacks form a slice of their own. Raises OptionError for a
    `by` that is none of these.
    """
    if by == AREA:
        return _by_area(folder, metrics)
    counts = StoredCounts(folder, metrics)
    labels = _labels(folder, images, by)
    names = list(dict.fromkeys(name for name, _ in sorted(set(labels.values()), key=lambda label: label[1])))
    found: dict[str, dict[str, float | None]] = {name: {} for name in names}
    for metric in counts.metrics:
        image_ids = counts.image_ids(metric)
        of_image = [labels.get(image_id, (NO_VALUE, 0))[0] for image_id in image_ids]
        weights = np.array([[label == name for label in of_image] for name in names], dtype=np.int32)
        counted = counts.counted(metric, image_ids)
        for name, values in zip(names, counted.values(weights)[0].tolist(), strict=True):
            found[name] |= {
                key: None if np.isnan(value) else value for key, value in zip(counted.names, values, strict=True)
            }
    sizes = [sum(label == name for label, _ in labels.values()) for name in names]
    return [Slice(by, name, size, found[name]) for name, size in zip(names, sizes, strict=True)]


def check(by: str) -> None:
    """Raise OptionError for what `slices` would refuse, as far as it shows without images."""
    if by != AREA and by not in PROPERTIES:
        _read_csv(by)


def slices_table(parts: Sequence[Slice]) -> pa.Table:
    """All slices as rows of `SLICE_SCHEMA`."""
    rows = [(each.by, each.name, each.images, *item) for each in parts for item in each.headlines.items()]
    columns = zip(*rows, strict=True) if rows else [()] * len(SLICE_SCHEMA)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, SLICE_SCHEMA, strict=True)]
    return pa.Table.from_arrays(arrays, schema=SLICE_SCHEMA)


def slices_json(parts: Sequence[Slice]) -> dict[str, list[dict[str, Any]]]:
    """What metrics.json holds under `slices`: by what, then slice after slice."""
    found: dict[str, list[dict[str, Any]]] = {}
    for each in parts:
        found.setdefault(each.by, []).append({"slice": each.name, "images": each.images, **each.headlines})
    return found


def _by_area(folder: Path, metrics: Mapping[str, Any]) -> list[Slice]:
    ranges = [name for name in AREA_RANGES if name != "all"]
    found: dict[str, dict[str, float | None]] = {name: {} for name in ranges}
    if metrics["panoptic"]:
        rows = pq.read_table(folder / MATCHES, filters=[("task", "=", "panoptic")])
        for name in ranges:
            mean = _panoptic_of_sizes(rows, metrics["panoptic"]["per_category"], AREA_RANGES[name]).mean()
            found[name] |= {"pq": mean.pq, "sq": mean.sq, "rq": mean.rq}
    for geometry, prefix in (("segm", ""), ("bbox", "bbox_")):
        part = (metrics["instance"] or {}).get(geometry) or {}
        for name in ranges if part else ():
            found[name] |= {f"{prefix}AP": part[f"AP{name[0]}"], f"{prefix}AR100": part[f"AR{name[0]}"]}
    return [Slice(AREA, name, None, found[name]) for name in ranges]


def _panoptic_of_sizes(
    rows: pa.Table, per_category: Mapping[str, Any], area_range: tuple[float, float]
) -> PanopticResult:
    """PQ of the segments from the lower end of the range, included, to the upper, left out."""
    category_ids = np.array([int(category_id) for category_id in per_category], dtype=np.int32)
    isthing = np.array([category["isthing"] for category in per_category.values()], dtype=np.bool_)
    status, kind = rows["status"].to_numpy(), rows["kind"].to_numpy()
    area, iou = rows["area"].to_numpy(), rows["iou"].to_numpy()
    within = (area >= area_range[0]) & (area < area_range[1])

    def per_class(chosen: NDArray[np.bool_], weights: NDArray[np.float64] | None = None) -> NDArray[Any]:
        where = np.searchsorted(category_ids, rows["category_id"].to_numpy()[chosen & within])
        values = None if weights is None else weights[chosen & within]
        return np.bincount(where, weights=values, minlength=len(category_ids))

    truth = (status == "tp") & (kind == "ground_truth")
    return PanopticResult(
        category_ids,
        isthing,
        tp=per_class(truth),
        fp=per_class(status == "fp"),
        fn=per_class(status == "fn"),
        iou_sum=per_class(truth, iou).astype(np.float64),
    )


def _labels(folder: Path, images: pa.Table, by: str) -> dict[str, tuple[str, float]]:
    """Image id -> name of its slice, and what to order slices by."""
    values = _property(folder, images, by) if by in PROPERTIES else _from_csv(images, by)
    known = sorted({value for value in values.values() if value is not None})
    numbers = _as_numbers(known)
    if numbers is None or len(numbers) <= _MOST_VALUES:
        order = np.argsort(numbers) if numbers is not None else range(len(known))
        position = {known[int(i)]: float(rank) for rank, i in enumerate(order)}
        return {
            image_id: (NO_VALUE, float(len(known))) if value is None else (value, position[value])
            for image_id, value in values.items()
        }
    given = np.array([float(value) for value in values.values() if value is not None])
    ends = np.unique(np.quantile(given, [0.25, 0.5, 0.75, 1], method="inverted_cdf"))
    lows = [float(given.min()), *(float(given[given > end].min()) for end in ends[:-1])]
    return {
        image_id: (NO_VALUE, float(len(ends))) if value is None else _quarter(float(value), lows, ends)
        for image_id, value in values.items()
    }


def _quarter(value: float, lows: Sequence[float], ends: NDArray[np.float64]) -> tuple[str, float]:
    position = int(np.searchsorted(ends, value))
    return f"{lows[position]:g} to {ends[position]:g}", float(position)


def _as_numbers(values: Sequence[str]) -> NDArray[np.float64] | None:
    try:
        numbers = np.array([float(value) for value in values])
    except ValueError:
        return None
    return numbers if np.isfinite(numbers).all() else None


def _property(folder: Path, images: pa.Table, by: str) -> dict[str, str | None]:
    image_ids = images["image_id"].to_pylist()
    if by == "segments":
        rows = pq.read_table(folder / MATCHES, columns=["image_id", "task", "kind", "status"]).to_pandas()
        truth = rows[(rows["kind"] == "ground_truth") & rows["status"].isin(["tp", "fn"])]
        counts = truth.groupby(["task", "image_id"]).size()
        task = next((task for task in ("panoptic", "instance", "semantic") if task in counts.index), None)
        in_image = {} if task is None else counts[task].to_dict()
        return {image_id: str(in_image.get(image_id, 0)) for image_id in image_ids}
    heights, widths = images["height"].to_pylist(), images["width"].to_pylist()
    known = {"height": heights, "width": widths, "pixels": [h * w for h, w in zip(heights, widths, strict=True)]}
    return {image_id: str(value) for image_id, value in zip(image_ids, known[by], strict=True)}


def _from_csv(images: pa.Table, by: str) -> dict[str, str | None]:
    """Image id -> what the table says of it, None for nothing."""
    key, given = _read_csv(by)
    keys = zip(images["image_id"].to_pylist(), images[key].to_pylist(), strict=True)
    found = {image_id: given.get(value) for image_id, value in keys}
    if not any(found.values()):
        raise OptionError(f"--by {by}: no {key} of it is among the images, such as {images[key][0]}.")
    return found


def _read_csv(by: str) -> tuple[str, dict[str, str | None]]:
    """The column that names the images, and its values with those of the column asked for."""
    file, _, column = by.rpartition(":")
    if not file:
        known = (AREA, *PROPERTIES)
        raise OptionError(f"--by {by}: not a property. {did_you_mean(by, known)} Of a table: FILE.csv:COLUMN.")
    try:
        with Path(file).open(newline="", encoding="utf-8-sig") as opened:
            reader = csv.DictReader(opened)
            rows, names = list(reader), list(reader.fieldnames or ())
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise OptionError(f"--by {by}: {file} cannot be read as CSV: {error}.") from error
    key = next((name for name in ("image_id", "file_name") if name in names), None)
    if key is None:
        raise OptionError(f"--by {by}: {file} has no column image_id or file_name to find the images by.")
    if column not in names:
        raise OptionError(f"--by {by}: {file} has no column {column!r}. {did_you_mean(column, names)}")
    return key, {row[key]: row[column] or None for row in rows}
