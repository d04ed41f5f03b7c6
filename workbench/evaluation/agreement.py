"""Whether a run and a ground truth belong together: which images are scored, and what makes scoring them senseless."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from workbench.errors import EvaluationError
from workbench.evaluation.columns import Segments
from workbench.evaluation.image_ids import ImageIds
from workbench.evaluation.overlaps import Overlaps, find_overlap, intersect, intersect_maps
from workbench.formats.base import Category
from workbench.runs import Run

_EXAMPLES = 3


@dataclass(frozen=True)
class ScoredImages:
    """The images that one ground truth and the run are compared on."""

    ids: ImageIds
    """In the order of the ground truth's shards."""
    file_order: NDArray[np.int64]
    """(images,), each one's position in the annotation file."""
    failed: int
    """How many of them the run could not read: they count as images without predictions."""
    missing: int
    """How many of them the run lacks: so do they."""
    notes: tuple[str, ...]
    """What the reader of the numbers must know."""
    lacking: tuple[str, ...]
    """Those of the notes that tell of failed and missing images."""


def images_to_score(run: Run, run_images: pa.Table, gt_images: pa.Table, dataset_ids: Sequence[str]) -> ScoredImages:
    """Every image of the ground truth, or those that the run was asked for: chosen ones, or the first N by its limit.

    Raises EvaluationError for images that the dataset does not have, and where nothing is left to score.
    """
    known = ImageIds.of(dataset_ids).array
    in_run, with_ground_truth = run_images["image_id"], gt_images["image_id"]
    strangers = _outside(in_run, known)
    if len(strangers):
        raise EvaluationError(
            f"{run.path}: {len(strangers)} of its {len(in_run)} images are not in the dataset ({_some(strangers)}). "
            "Name the dataset that the run was made with: --dataset."
        )
    identity = run.manifest.get("identity", {})
    limit, chosen = identity.get("limit"), identity.get("images")
    asked_for = known[:limit] if chosen is None else pa.array(chosen, pa.string())
    images = gt_images.filter(pc.is_in(with_ground_truth, value_set=asked_for))
    scored = images["image_id"]
    if not len(scored):
        raise EvaluationError(
            f"{run.path}: none of its {len(in_run)} images has ground truth. Check the dataset's annotation files."
        )
    missing = _outside(scored, in_run)
    failed = scored.filter(pc.is_in(scored, value_set=in_run.filter(pc.equal(run_images["status"], "failed"))))
    notes = []
    if chosen is not None:
        notes.append(f"scored on {len(scored)} of {len(gt_images)} images: the run was made with chosen images")
    elif limit is not None:
        notes.append(f"scored on {len(scored)} of {len(gt_images)} images: the run was made with --limit {limit}")
    lacking = []
    if len(missing):
        finish = "" if run.complete else " (the run is incomplete: the command that made it goes on with it)"
        lacking.append(
            f"{len(missing)} of {len(scored)} images are not in the run and count as images without predictions: "
            f"{_some(missing)}{finish}"
        )
    if len(failed):
        lacking.append(
            f"{len(failed)} of {len(scored)} images failed in the run and count as images without predictions: "
            f"{_some(failed)}"
        )
    notes += lacking
    unlabelled = _outside(in_run, with_ground_truth)
    if len(unlabelled):
        notes.append(f"{len(unlabelled)} images of the run have no ground truth and are left out: {_some(unlabelled)}")
    ids, order = ImageIds(pa.concat_arrays(scored.chunks)), images["ordinal"].to_numpy().astype(np.int64)
    return ScoredImages(ids, order, len(failed), len(missing), tuple(notes), tuple(lacking))


def _outside(ids: pa.ChunkedArray, known: pa.Array | pa.ChunkedArray) -> pa.ChunkedArray:
    """Those that are not among the known."""
    return ids.filter(pc.invert(pc.is_in(ids, value_set=known)))


def check_categories(run: Run, categories: Sequence[Category], pred: Segments) -> None:
    """Raise EvaluationError for a predicted category that the dataset lacks."""
    known = np.array([category.category_id for category in categories])
    strange = np.flatnonzero(~np.isin(pred.category_id, known))
    if not len(strange):
        return
    row = int(strange[0])
    category_id = int(pred.category_id[row])
    name = next((category.name for category in run.categories if category.category_id == category_id), "unnamed")
    raise EvaluationError(
        f"{run.path}: segment {pred.segment_id[row]} of image {pred.image_id[row]} has the category "
        f"{category_id} ({name}), which the dataset does not have (it has {len(known)}: {known[0]} to {known[-1]}). "
        "Score the run against the dataset that it was made for: --dataset."
    )


def category_note(run: Run, categories: Sequence[Category]) -> str | None:
    """A sentence where a category id is called otherwise in the run than in the dataset."""
    names = {category.category_id: category.name for category in categories}
    different = [
        f"{category.category_id} is {category.name!r} in the run and {names[category.category_id]!r} in the dataset"
        for category in run.categories
        if names.get(category.category_id, category.name) != category.name
    ]
    if not different:
        return None
    return f"{len(different)} categories are matched by id although their names differ: {_some(different)}"


def check_sizes(gt: Segments, pred: Segments) -> None:
    """Raise EvaluationError where an image's segments do not all have one size."""
    image, image_id = np.concatenate([gt.image, pred.image]), pa.concat_arrays([gt.image_id, pred.image_id])
    height, width = np.concatenate([gt.height, pred.height]), np.concatenate([gt.width, pred.width])
    order = np.argsort(image, kind="stable")
    image, height, width = image[order], height[order], width[order]
    other = (height[1:] != height[:-1]) | (width[1:] != width[:-1])
    wrong = np.flatnonzero((image[1:] == image[:-1]) & other)
    if len(wrong):
        at = int(wrong[0])
        raise EvaluationError(
            f"image {image_id[int(order[at])]}: its segments have {height[at]} x {width[at]} pixels (height x width) "
            f"and {height[at + 1]} x {width[at + 1]}. Predict on the images as they are annotated."
        )


def check_disjoint(pred: Segments) -> None:
    """Raise EvaluationError where predicted segments of an image overlap, as those of a map cannot."""
    pair = find_overlap(pred)
    if pair is not None:
        first, second = (int(pred.segment_id[row]) for row in pair)
        raise EvaluationError(
            f"image {pred.image_id[pair[0]]}: predicted segments {first} and {second} overlap, so this is no panoptic "
            "or semantic map. Score overlapping instances as an instance run."
        )


def intersect_with_map(gt: Segments, pred: Segments) -> Overlaps:
    """`overlaps.intersect(gt, pred)`. Raises EvaluationError as `check_disjoint`, which need not be called as well."""
    found = intersect_maps(gt, pred)
    if found is None or len(np.setdiff1d(pred.image, gt.image)):  # images without ground truth were not looked at
        check_disjoint(pred)
    return intersect(gt, pred) if found is None else found


def _some(values: Sequence[str] | pa.ChunkedArray) -> str:
    shown = ", ".join(map(str, values[:_EXAMPLES]))
    return shown if len(values) <= _EXAMPLES else f"{shown}, ..."
