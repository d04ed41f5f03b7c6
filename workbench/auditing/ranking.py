"""The ranking: one row for every label or missing label with any suspicion, the most suspicious first, as Arrow."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from workbench.auditing import sentences
from workbench.auditing.evidence import NONE
from workbench.auditing.gathering import Evidence
from workbench.auditing.kinds import KINDS
from workbench.auditing.suspicion import OfLabels, OfPredictions, suspect_labels, suspect_predictions
from workbench.formats.base import Category

SUSPECT = 0.5
"""From this suspicion on a label is called a suspect."""

AUDIT_SCHEMA = pa.schema(
    [
        pa.field("rank", pa.int32(), nullable=False),  # from 1
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),  # of KINDS
        pa.field("suspicion", pa.float64(), nullable=False),  # 0..1
        pa.field("segment_id", pa.int32()),  # of the ground truth's segment table; null where the label is missing
        pa.field("source_id", pa.int64()),  # the label's id in the annotation file
        pa.field("category_id", pa.int32()),  # of the label
        pa.field("name", pa.string()),
        pa.field("suggested_category_id", pa.int32()),  # null where the label should go, or only its outline is bad
        pa.field("suggested_name", pa.string()),
        pa.field("pred_segment_id", pa.int32()),  # the prediction that speaks against the label
        pa.field("score", pa.float64()),  # its score
        pa.field("iou", pa.float64()),  # of label and prediction
        pa.field("area", pa.int64(), nullable=False),  # pixels of the label, or of the prediction that has none
        pa.field("bbox", pa.list_(pa.float64(), 4), nullable=False),  # its x, y, width, height in pixels
        pa.field("why", pa.string(), nullable=False),  # a sentence
    ]
)

IMAGE_SCHEMA = pa.schema(
    [
        pa.field("rank", pa.int32(), nullable=False),  # from 1
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("suspicion", pa.float64(), nullable=False),  # the sum over its rows of the ranking
        pa.field("suspects", pa.int64(), nullable=False),  # rows with a suspicion of SUSPECT or more
    ]
)

_Row = dict[str, Any]


def rank(evidence: Evidence, categories: Sequence[Category]) -> pa.Table:
    """All labels that have any suspicion, and all that may be missing, as rows of `AUDIT_SCHEMA`.

    Among equals the larger comes first, then the order of image and segment ids.
    """
    of_predictions = suspect_predictions(evidence.predictions)
    of_labels = suspect_labels(evidence.labels, evidence.predictions, of_predictions.right)
    names = {category.category_id: category.name for category in categories}
    rows = [*_label_rows(evidence, of_labels, names), *_missing_rows(evidence, of_predictions, names)]
    rows.sort(key=_order)
    for position, row in enumerate(rows, start=1):
        row["rank"] = position
    return pa.Table.from_pylist(rows, schema=AUDIT_SCHEMA)


def rank_images(table: pa.Table) -> pa.Table:
    """The images of a ranking by how many wrong labels to expect in each, as rows of `IMAGE_SCHEMA`."""
    sums: dict[str, tuple[float, int]] = {}
    for image_id, suspicion in zip(table["image_id"].to_pylist(), table["suspicion"].to_pylist(), strict=True):
        total, suspects = sums.get(image_id, (0.0, 0))
        sums[image_id] = total + suspicion, suspects + (suspicion >= SUSPECT)
    ordered = sorted(sums.items(), key=lambda each: (-each[1][0], each[0]))
    rows = [
        {"rank": position, "image_id": image_id, "suspicion": total, "suspects": suspects}
        for position, (image_id, (total, suspects)) in enumerate(ordered, start=1)
    ]
    return pa.Table.from_pylist(rows, schema=IMAGE_SCHEMA)


def _order(row: _Row) -> tuple[float, int, str, int, int]:
    return -row["suspicion"], -row["area"], row["image_id"], row.get("segment_id", 0), row["pred_segment_id"] or 0


def _label_rows(evidence: Evidence, found: OfLabels, names: dict[int, str]) -> Iterator[_Row]:
    labels = evidence.labels
    for i in np.flatnonzero(found.suspicion > 0).tolist():
        kind, category = KINDS[found.kind[i]], int(labels.category_id[i])
        against = {"wrong_class": _confused, "outline": _misfit, "spurious": _alone}[kind]
        yield {
            "image_id": evidence.image_ids[labels.image[i]],
            "kind": kind,
            "suspicion": float(found.suspicion[i]),
            "segment_id": int(labels.segment_id[i]),
            "source_id": _known(int(labels.source_id[i])),
            "category_id": category,
            "name": _name(names, category),
            "area": int(labels.area[i]),
            "bbox": labels.box[i].tolist(),
            **against(evidence, found, names, i),
        }


def _confused(evidence: Evidence, found: OfLabels, names: dict[int, str], i: int) -> _Row:
    """The columns of a label that the run gives to another class."""
    labels = evidence.labels
    other, score, iou = int(labels.other_category_id[i]), float(labels.other_score[i]), float(labels.other_iou[i])
    right = float(found.other_right[i])
    return {
        "suggested_category_id": other,
        "suggested_name": _name(names, other),
        "pred_segment_id": int(labels.other_segment[i]),
        "score": score,
        "iou": iou,
        "why": sentences.wrong_class(_name(names, int(labels.category_id[i])), _name(names, other), score, iou, right),
    }


def _misfit(evidence: Evidence, found: OfLabels, names: dict[int, str], i: int) -> _Row:
    """Of a label whose outline fits badly."""
    labels = evidence.labels
    name, iou = _name(names, int(labels.category_id[i])), float(labels.iou[i])
    return {
        "pred_segment_id": int(labels.segment[i]),
        "score": float(labels.score[i]),
        "iou": iou,
        "why": sentences.outline(name, iou, float(found.usual_iou[i])),
    }


def _alone(evidence: Evidence, found: OfLabels, names: dict[int, str], i: int) -> _Row:
    """Of a label where the run finds nothing of its class."""
    labels = evidence.labels
    other, segment = int(labels.other_category_id[i]), _known(int(labels.other_segment[i]))
    claimed = None if evidence.says_all else float(labels.claimed[i])
    return {
        "pred_segment_id": segment,
        "score": None if segment is None else float(labels.other_score[i]),
        "iou": None if segment is None else float(labels.other_iou[i]),
        "why": sentences.spurious(
            _name(names, int(labels.category_id[i])),
            None if segment is None else _name(names, other),
            claimed,
            float(found.missed[i]),
        ),
    }


def _missing_rows(evidence: Evidence, found: OfPredictions, names: dict[int, str]) -> Iterator[_Row]:
    predictions = evidence.predictions
    for i in np.flatnonzero(found.suspicion > 0).tolist():
        category = int(predictions.category_id[i])
        name, score = _name(names, category), float(predictions.score[i])
        yield {
            "image_id": evidence.image_ids[predictions.image[i]],
            "kind": "missing",
            "suspicion": float(found.suspicion[i]),
            "suggested_category_id": category,
            "suggested_name": name,
            "pred_segment_id": int(predictions.segment_id[i]),
            "score": score,
            "area": int(predictions.area[i]),
            "bbox": predictions.box[i].tolist(),
            "why": sentences.missing(name, score, float(predictions.unclaimed[i]), float(found.right[i])),
        }


def _name(names: dict[int, str], category_id: int) -> str:
    return names.get(category_id, f"category {category_id}")


def _known(number: int) -> int | None:
    return None if number == NONE else number
