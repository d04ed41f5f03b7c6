"""Confidence intervals of an evaluated run, from the counts in its folder: nothing is scored again."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from workbench.evaluation.counted import Counted, CountedPanoptic, CountedSemantic, Values, image_ids_of
from workbench.evaluation.counted_instances import CountedInstances
from workbench.evaluation.image_ids import ranks_of_ids
from workbench.evaluation.keeping import DETECTIONS, PER_IMAGE
from workbench.evaluation.per_image import BOUNDARY
from workbench.evaluation.resampling import Bootstrap

METHOD = "percentile bootstrap over images"
_SOURCES: dict[str, tuple[tuple[str, ...], str, str | None]] = {
    "pq": (("panoptic",), "panoptic", None),
    "boundary_pq": (("panoptic", "boundary"), "panoptic" + BOUNDARY, None),
    "AP": (("instance", "segm"), "instance", "segm"),
    "bbox_AP": (("instance", "bbox"), "instance", "bbox"),
    "boundary_AP": (("instance", "boundary"), "instance", "boundary"),
    "iou": (("semantic",), "semantic", None),
}
"""Main metric: where metrics.json has its numbers, the task of its rows, the geometry of its detections."""


def part_of(metrics: Mapping[str, Any], path: Sequence[str]) -> Mapping[str, Any]:
    """What metrics.json has there; empty for what was not measured."""
    part: Mapping[str, Any] = metrics
    for key in path:
        part = part.get(key) or {}
    return part


class StoredCounts:
    """The counts that `evaluate` left in a run folder, by the main metric that they give: "pq", "AP", "iou", ..."""

    def __init__(self, folder: Path, metrics: Mapping[str, Any]) -> None:
        """`metrics` is the content of the folder's metrics.json."""
        self._folder = folder
        self._last_read: tuple[str, pa.Table] | None = None
        self._sources = {
            name: (task, geometry) for name, (path, task, geometry) in _SOURCES.items() if part_of(metrics, path)
        }
        first = next(iter(_SOURCES[name][0] for name in self._sources))
        categories = part_of(metrics, first)["per_category"]
        self.category_names: dict[str, str] = {each: category["name"] for each, category in categories.items()}
        self._category_ids = np.array([int(category_id) for category_id in categories], dtype=np.int32)
        self._isthing = np.array([category["isthing"] for category in categories.values()], dtype=np.bool_)

    @property
    def metrics(self) -> tuple[str, ...]:
        """The main metrics that there are counts for."""
        return tuple(self._sources)

    def image_ids(self, metric: str) -> tuple[str, ...]:
        """The images that it was measured on, in the order of the annotation file."""
        return image_ids_of(self.rows(metric))

    def rows(self, metric: str) -> pa.Table:
        """The rows of `per_image.parquet` behind it; one task's are held at a time."""
        task = self._sources[metric][0]
        if self._last_read is None or self._last_read[0] != task:
            self._last_read = None
            self._last_read = task, pq.read_table(self._folder / PER_IMAGE, filters=[("task", "=", task)])
        return self._last_read[1]

    def counted(self, metric: str, image_ids: Sequence[str]) -> Counted:
        """What it is counted from on those images."""
        rows, (task, geometry) = self.rows(metric), self._sources[metric]
        if task == "semantic":
            return CountedSemantic.of(rows, image_ids, self._category_ids)
        if geometry is None:
            return CountedPanoptic.of(rows, task, image_ids, self._category_ids, self._isthing)
        detections = pq.read_table(self._folder / DETECTIONS, filters=[("geometry", "=", geometry)])
        order = ranks_of_ids(image_ids)
        return CountedInstances.of(rows, detections, geometry, image_ids, self._category_ids, order)


def point(counted: Counted) -> Values:
    """The numbers of all images, each counted once: (1, names) and (1, K)."""
    return counted.values(np.ones((1, len(counted.image_ids)), dtype=np.int32))


def sample(counted: Sequence[Counted], bootstrap: Bootstrap) -> list[Values]:
    """The numbers of every resample, (resamples, names) and (resamples, K), on the same draws for each of `counted`.

    All of them count the same images.
    """
    parts: list[list[Values]] = [[] for _ in counted]
    for weights in bootstrap.draws(len(counted[0].image_ids)):
        for each, found in zip(counted, parts, strict=True):
            found.append(each.values(weights))
    return [(np.concatenate([a for a, _ in found]), np.concatenate([b for _, b in found])) for found in parts]


def intervals_json(counts: StoredCounts, bootstrap: Bootstrap) -> dict[str, Any]:
    """What metrics.json holds under `intervals`: low and high of each headline number, and of every category."""
    headlines: dict[str, Any] = {}
    per_category: dict[str, Any] = {}
    for metric in counts.metrics:
        counted = counts.counted(metric, counts.image_ids(metric))
        ((headline, categories),) = sample([counted], bootstrap)
        headlines |= {name: low_high(bootstrap, headline[:, i]) for i, name in enumerate(counted.names)}
        per_category[metric] = {
            str(category_id): low_high(bootstrap, categories[:, k])
            for k, category_id in enumerate(counted.category_ids.tolist())
        }
    return {**asdict(bootstrap), "method": METHOD, "headlines": headlines, "per_category": per_category}


def low_high(bootstrap: Bootstrap, samples: Any) -> Mapping[str, float] | None:
    """An interval as metrics.json writes it; None where there is none."""
    ends = bootstrap.interval(samples)
    return None if ends is None else {"low": ends[0], "high": ends[1]}
