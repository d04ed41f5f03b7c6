"""How much a human look at an image is worth: three orders, each a number an image, larger first.

uncertainty    the sum of 1 - score over its objects: how many of them are wrong if scores are probabilities
rarity         the sum of 1 / n over its objects, n being how many objects of that class all images together have
disagreement   how many of its objects, of this run and of a second one, have no partner of the same class in the
               other run (IoU > 0.5, each used once)
"""

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from workbench.errors import OptionError
from workbench.evaluation.agreement import check_sizes
from workbench.evaluation.columns import segments_of
from workbench.evaluation.overlaps import intersect
from workbench.runs import Run
from workbench.segments import void_mask

Order = Literal["uncertainty", "rarity", "disagreement"]
ORDERS: tuple[Order, ...] = get_args(Order)
_IMAGES_PER_CHUNK = 256
_SAME_OBJECT_IOU = 0.5


def worth(
    run: Run, image_ids: list[str], min_score: float, order: Order, second: Run | None = None
) -> dict[str, float]:
    """What a look at each of those images is worth.

    Raises OptionError for an order that needs a second run without one, or scores where there are none, and
    EvaluationError where the second run's images are of another size.
    """
    if order == "disagreement":
        if second is None:
            raise OptionError("order 'disagreement' compares two runs: name the other one with --second-run.")
        return _disagreement(run, second, image_ids, min_score)
    value = _wrong if order == "uncertainty" else _rare(run, image_ids, min_score)
    found = dict.fromkeys(image_ids, 0.0)
    for table in chunks(run, image_ids, min_score):
        for image_id, object_value in zip(table["image_id"].to_pylist(), value(table), strict=True):
            found[image_id] += object_value
    return found


def chunks(run: Run, image_ids: list[str], min_score: float) -> Iterator[pa.Table]:
    """The run's segments that score at least `min_score` (or have no score), some images at a time."""
    starts = range(0, len(image_ids), _IMAGES_PER_CHUNK)
    for table in run.store.chunks([image_ids[start : start + _IMAGES_PER_CHUNK] for start in starts]):
        yield kept(table, min_score)


def kept(table: pa.Table, min_score: float) -> pa.Table:
    """The rows that are offered as pre-labels."""
    table = table.filter(~void_mask(table))
    return table.filter(pc.fill_null(pc.greater_equal(table["score"], min_score), True))


def _wrong(table: pa.Table) -> list[float]:
    if table["score"].null_count:
        raise OptionError("order 'uncertainty' reads scores, and this run has objects without. Use --order rarity.")
    return [1 - score for score in table["score"].to_pylist()]


def _rare(run: Run, image_ids: list[str], min_score: float) -> Callable[[pa.Table], list[float]]:
    count: Counter[int] = Counter()
    for table in chunks(run, image_ids, min_score):
        count.update(table["category_id"].to_pylist())
    return lambda table: [1 / count[category] for category in table["category_id"].to_pylist()]


def _disagreement(run: Run, second: Run, image_ids: list[str], min_score: float) -> dict[str, float]:
    found: dict[str, float] = {}
    starts = range(0, len(image_ids), _IMAGES_PER_CHUNK)
    ids_of_chunks = [image_ids[start : start + _IMAGES_PER_CHUNK] for start in starts]
    for ids, first_table, second_table in zip(
        ids_of_chunks, chunks(run, image_ids, min_score), chunks(second, image_ids, min_score), strict=True
    ):
        found |= dict(zip(ids, _unpartnered(ids, first_table, second_table), strict=True))
    return found


def _unpartnered(ids: list[str], first_table: pa.Table, second_table: pa.Table) -> list[float]:
    first, second = segments_of(first_table, ids), segments_of(second_table, ids)
    check_sizes(first, second)
    pairs = intersect(first, second)
    iou = pairs.pixels / (first.area[pairs.first] + second.area[pairs.second] - pairs.pixels)
    same = (first.category_id[pairs.first] == second.category_id[pairs.second]) & (iou > _SAME_OBJECT_IOU)
    partnered: tuple[set[int], set[int]] = set(), set()
    for pair in np.flatnonzero(same)[np.argsort(-iou[same], kind="stable")].tolist():
        a, b = int(pairs.first[pair]), int(pairs.second[pair])
        if a not in partnered[0] and b not in partnered[1]:
            partnered[0].add(a)
            partnered[1].add(b)
    alone = np.bincount(first.image, minlength=len(ids)) + np.bincount(second.image, minlength=len(ids))
    np.subtract.at(alone, first.image[list(partnered[0])], 2)
    return [float(count) for count in alone]
