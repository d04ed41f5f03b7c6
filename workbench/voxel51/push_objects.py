"""Some images' objects, ground truth and predictions, written as `Detections` with what became of each."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from workbench.voxel51 import documents
from workbench.voxel51.documents import Document
from workbench.voxel51.scoring import SCORE_FIELDS, Scored, Tally, confused_pairs, put_on
from workbench.voxel51.target import Target, detections_document

if TYPE_CHECKING:
    from workbench.voxel51.push import Push, Pushed

_Objects = dict[str, list[Document]]  # by image id


def push_chunk(push: "Push", pushed: "Pushed", images: pa.Table, gt: pa.Table, pred: pa.Table) -> None:
    """Write the objects of `images`, whose rows `gt` and `pred` hold, and add them to `pushed`."""
    ids: list[str] = images["image_id"].to_pylist()
    labels = push.target.labels
    sides: dict[str, _Objects] = {}
    if push.truth is not None:
        sides[push.truth.field] = _ground_truth(push.target, push.truth.field, ids, gt, labels, push.truth.stale)
    if push.predicted is not None:
        sides[push.predicted.field] = _new(push.target, push.predicted.field, ids, pred, labels)
    if push.scored is not None:
        _score(push.target, push.scored, ids, gt, pred, sides, pushed.tally)
    for name, objects in sides.items():
        push.target.write(name, {image_id: detections_document(objects[image_id]) for image_id in ids})
        pushed.written += sum(map(len, objects.values()))


def _ground_truth(
    target: Target, name: str, ids: Sequence[str], table: pa.Table, labels: dict[int, str], stale: bool
) -> _Objects:
    """The stored objects where the annotations are still those that were pushed: users may have edited them."""
    stored = target.read(name, ids)
    missing = [image_id for image_id in ids if stale or stored[image_id] is None]
    found: _Objects = {i: (stored[i] or {}).get("detections") or [] for i in ids}
    if missing:
        rows = table.filter(pc.is_in(table["image_id"], pa.array(missing, pa.string())))
        found |= _new(target, name, missing, rows, labels)
    return found


def _new(target: Target, name: str, ids: Sequence[str], table: pa.Table, labels: dict[int, str]) -> _Objects:
    """Objects made from the table, with the tags that users gave to those that are there."""
    stored = target.read(name, ids)
    new = dict(zip(ids, documents.detections(table, ids, name, labels), strict=True))
    for image_id in ids:
        documents.keep_what_users_added(new[image_id], (stored[image_id] or {}).get("detections") or [])
    return new


def _score(
    target: Target,
    scored: Scored,
    ids: list[str],
    gt: pa.Table,
    pred: pa.Table,
    sides: dict[str, _Objects],
    tally: Tally,
) -> None:
    keys, matches = scored.keys, scored.matches.of(ids)
    confused = confused_pairs(gt, pred, matches)
    scores = {
        image_id: put_on(
            sides[keys.gt_field][image_id],
            sides[keys.pred_field][image_id],
            image_id,
            matches[image_id],
            confused[image_id],
            keys,
            tally,
        )
        for image_id in ids
    }
    for name in SCORE_FIELDS:
        values = {image_id: getattr(score, name) for image_id, score in scores.items()}
        for key in (keys.metric, keys.confusion):
            target.write(f"{key}_{name}", values)
