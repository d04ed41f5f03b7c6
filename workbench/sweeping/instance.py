"""Precision, recall and F1 of instances at every score threshold, from the match table: nothing is matched again.

A detection's match never depends on those with lower scores, so leaving these out leaves the others' as they are: the
counts are those of a run made with the threshold. AP is no guide to a threshold: it only grows with more candidates.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from workbench.evaluation.passes import Comparison
from workbench.evaluation.resampling import Bootstrap
from workbench.sweeping.curve import Setting


@dataclass(frozen=True)
class InstanceCurve:
    """True and false positives at IoU 0.5 of each point; see `curve.Curve`."""

    comparison: Comparison
    settings: tuple[Setting, ...]
    by_image: NDArray[np.int64]
    """(P, 3, I): true positives, false positives, objects to be found."""
    by_category: NDArray[np.int64]
    """(P, 3, K)."""

    @property
    def main(self) -> str:
        """The harmonic mean of precision and recall, all categories counted together."""
        return "f1"

    @property
    def images(self) -> int:
        """How many were scored."""
        return int(self.by_image.shape[-1])

    def value(self, point: int, images: NDArray[np.bool_] | None = None) -> float | None:
        """F1 of a point."""
        chosen = np.ones(self.images, np.bool_) if images is None else images
        return self.joined([point], [chosen])

    def joined(self, points: Sequence[int], images: Sequence[NDArray[np.bool_]]) -> float | None:
        """F1 where each part of the images has the setting of its own point."""
        parts = zip(points, images, strict=True)
        tp, fp, gt = np.sum([self.by_image[point][:, part].sum(axis=1) for point, part in parts], axis=0).tolist()
        return _f1(tp, fp, gt)

    def samples(self, points: Sequence[int], bootstrap: Bootstrap) -> list[NDArray[np.float64]]:
        """F1 of each resample."""
        weights = np.concatenate(list(bootstrap.draws(self.images)))
        found = []
        for point in points:
            tp, fp, gt = self.by_image[point] @ weights.T
            found.append(np.divide(2 * tp, tp + fp + gt, out=np.full(len(gt), np.nan), where=tp + fp + gt > 0))
        return found

    def numbers(self, point: int) -> Mapping[str, float | int | None]:
        """F1, precision, recall and counts of all categories together."""
        return _numbers(*self.by_image[point].sum(axis=1).tolist())

    def category_rows(self, point: int) -> pa.Table:
        """The same of each category that occurs."""
        rows = [
            {
                "category_id": category.category_id,
                "name": category.name,
                "isthing": category.isthing,
                **_numbers(*counts),
            }
            for category, counts in zip(self.comparison.categories, self.by_category[point].T.tolist(), strict=True)
            if any(counts)
        ]
        return pa.Table.from_pylist(rows) if rows else pa.table({})


def sweep_instances(comparison: Comparison, matches: pa.Table, thresholds: Sequence[float]) -> InstanceCurve:
    """Count at every threshold: detections with a score of at least that count. `matches` is the run's match table."""
    matches = matches.filter(pc.equal(matches["task"], "instance"))
    image = pc.index_in(matches["image_id"], value_set=pa.array(comparison.image_ids, pa.string()))
    matches, image = matches.filter(pc.is_valid(image)), image.filter(pc.is_valid(image)).to_numpy().astype(np.int64)
    category = np.searchsorted(comparison.category_ids, matches["category_id"].to_numpy())
    score = matches["score"].to_numpy().astype(np.float32)  # as `predict` compares; NaN of the ground truth is never in
    predicted = _is(matches["kind"], "prediction")
    tp, fp, fn = (_is(matches["status"], status) for status in ("tp", "fp", "fn"))
    by_image, by_category = [], []
    for threshold in thresholds:
        kept = predicted & (score >= np.float32(threshold))
        rows = (kept & tp, kept & fp, ~predicted & (tp | fn))
        by_image.append([np.bincount(image[each], minlength=len(comparison.image_ids)) for each in rows])
        by_category.append([np.bincount(category[each], minlength=len(comparison.category_ids)) for each in rows])
    return InstanceCurve(comparison, tuple(map(Setting, thresholds)), np.array(by_image), np.array(by_category))


def _is(column: pa.ChunkedArray, word: str) -> NDArray[np.bool_]:
    return np.asarray(pc.equal(column, word).to_numpy(), dtype=np.bool_)


def best_by_category(rows: pa.Table) -> list[dict[str, float | int | str]]:
    """The threshold with the largest F1 of each category, of equals the lowest; `rows` as in sweep.parquet."""
    found: dict[int, dict[str, float | int | str]] = {}
    for row in rows.to_pylist():
        if row["category_id"] is not None and row["f1"] is not None:
            known = found.get(row["category_id"])
            if known is None or row["f1"] > known["f1"]:
                found[row["category_id"]] = {key: row[key] for key in ("category_id", "name", "threshold", "f1")}
    return [found[category_id] for category_id in sorted(found)]


def _numbers(tp: int, fp: int, gt: int) -> dict[str, float | int | None]:
    return {
        "f1": _f1(tp, fp, gt),
        "precision": tp / (tp + fp) if tp + fp else None,
        "recall": tp / gt if gt else None,
        "tp": tp,
        "fp": fp,
        "fn": gt - tp,
    }


def _f1(tp: int, fp: int, gt: int) -> float | None:
    return 2 * tp / (tp + fp + gt) if tp + fp + gt else None
