"""Some images' semantic maps, ground truth and predictions, written as `Segmentation`, and their pixels counted."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from workbench.evaluation.columns import Segments, segments_of
from workbench.evaluation.overlaps import Overlaps, intersect
from workbench.evaluation.semantic import SemanticResult, count
from workbench.exports.tables import by_image
from workbench.segments import void_mask
from workbench.voxel51 import documents
from workbench.voxel51.matches import ImageMatches
from workbench.voxel51.scoring import Keys, Scored
from workbench.voxel51.target import Target

if TYPE_CHECKING:
    from workbench.voxel51.push import Push, Pushed

SCORE_FIELDS = {"accuracy": "FloatField", "precision": "FloatField", "recall": "FloatField", "quality": "FloatField"}
"""What a sample gets: pixels over all classes, and the mean IoU of the classes that it has or was given."""


@dataclass
class PixelTally:
    """What an evaluation adds up to; grows by some 0.3 KB for each pair of classes that meet in an image."""

    classes: SemanticResult | None = None
    pairs: list[tuple[str, str, int, str, str]] = field(default_factory=list)
    """(label, predicted label, pixels, id of the true map, id of the predicted one), image by image."""


def push_chunk(push: "Push", pushed: "Pushed", images: pa.Table, gt: pa.Table, pred: pa.Table) -> None:
    """Write the maps of `images`, whose rows `gt` and `pred` hold, and add them to `pushed`."""
    if push.truth is not None:
        pushed.written += _write(push.target, push.truth.field, images, gt)
    if push.predicted is not None:
        pushed.written += _write(push.target, push.predicted.field, images, pred)
    if push.scored is not None:
        _score(push.target, push.scored, images["image_id"].to_pylist(), gt, pred, pushed.pixels)


def _write(target: Target, name: str, images: pa.Table, table: pa.Table) -> int:
    values = {category.category_id: index for index, category in enumerate(target.categories, start=1)}
    void = table.filter(void_mask(table))
    found = {
        image.image_id: documents.segmentation(
            image, void.filter(pc.equal(void["image_id"], image.image_id)), name, values
        )
        for image in by_image([(table, images)])
        if image.size_hw is not None
    }
    for image_id, stored in target.read(name, list(found)).items():
        documents.keep_what_users_added([found[image_id]], [stored] if stored else [])
    target.write(name, found)
    return len(found)


def _score(
    target: Target, scored: Scored, ids: list[str], gt_table: pa.Table, pred_table: pa.Table, tally: PixelTally
) -> None:
    category_ids = np.array([category.category_id for category in target.categories], dtype=np.int32)
    gt, pred = segments_of(gt_table, ids), segments_of(pred_table.filter(~void_mask(pred_table)), ids)
    overlaps = intersect(gt, pred)
    counted = count(gt, pred, overlaps, category_ids)
    tally.classes = counted if tally.classes is None else tally.classes + counted
    labelled = ~gt.is_void[overlaps.first]
    pairs = Overlaps(overlaps.first[labelled], overlaps.second[labelled], overlaps.pixels[labelled])
    _add_pairs(tally, target.labels, scored.keys, ids, gt, pred, pairs)
    right = gt.category_id[pairs.first] == pred.category_id[pairs.second]
    correct = np.bincount(gt.image[pairs.first[right]], weights=pairs.pixels[right], minlength=len(ids))
    of_truth = np.bincount(gt.image[~gt.is_void], weights=gt.area[~gt.is_void], minlength=len(ids))
    predicted = np.bincount(gt.image[pairs.first], weights=pairs.pixels, minlength=len(ids))
    recall = dict(zip(ids, map(_ratio, correct, of_truth), strict=True))
    matches = scored.matches.of(ids)
    values = {
        "accuracy": recall,
        "precision": dict(zip(ids, map(_ratio, correct, predicted), strict=True)),
        "recall": recall,
        "quality": {image_id: _mean_iou(matches[image_id]) for image_id in ids},
    }
    for name in SCORE_FIELDS:
        target.write(f"{scored.keys.metric}_{name}", values[name])


def _add_pairs(
    tally: PixelTally,
    labels: dict[int, str],
    keys: Keys,
    ids: list[str],
    gt: Segments,
    pred: Segments,
    pairs: Overlaps,
) -> None:
    maps = [[str(documents.object_id(name, i, 0)) for i in ids] for name in (keys.gt_field, keys.pred_field)]
    true_labels = [labels[category] for category in gt.category_id[pairs.first].tolist()]
    predicted_labels = [labels[category] for category in pred.category_id[pairs.second].tolist()]
    images = gt.image[pairs.first].tolist()
    rows = zip(true_labels, predicted_labels, pairs.pixels.tolist(), images, strict=True)
    tally.pairs += [(true, guess, pixels, maps[0][image], maps[1][image]) for true, guess, pixels, image in rows]


def _ratio(part: float, whole: float) -> float | None:
    return float(part / whole) if whole else None


def _mean_iou(matches: ImageMatches) -> float | None:
    """Mean IoU over the classes that the image has or was given."""
    found = [match.iou or 0.0 for match in matches.prediction.values() if match.status == "tp"]
    wrong = sum(match.status == "fp" for match in matches.prediction.values())
    missed = sum(match.status == "fn" for match in matches.ground_truth.values())
    classes = len(found) + wrong + missed
    return sum(found) / classes if classes else None
