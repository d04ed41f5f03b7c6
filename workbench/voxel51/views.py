"""Saved views, ready to click: what a person looks for in a run's errors, one view each."""

from collections.abc import Iterator, Mapping
from typing import Any

from workbench.formats.base import Task
from workbench.report.words import PROBABLE_LABEL_ERRORS
from workbench.voxel51 import push_maps
from workbench.voxel51.names import IMAGE_ID
from workbench.voxel51.scoring import CONFUSED, ERROR, SCORE_FIELDS, Keys
from workbench.voxel51.target import Target

_ERROR_VIEWS: Mapping[Task, Mapping[str, tuple[str, ...]]] = {
    "panoptic": {
        "duplicates": ("duplicate",),
        "merged segments": ("merged",),
        "split segments": ("split",),
        "poor outlines": ("poor_outline",),
    },
    "instance": {"duplicates": ("dupe",), "poor outlines": ("loc", "both")},
}
"""View -> the error types that it shows."""
_LABEL_ERROR_SCORE = 0.9  # a prediction as certain as this and yet wrong is worth a look at the label


def save_views(target: Target, run_field: str, keys: Keys, task: Task, has_error_types: bool) -> list[str]:
    """Save a run's views under `<run>: <what>`; returns their names. Those of an earlier push are replaced."""
    views = _map_views(target, keys) if task == "semantic" else _object_views(target, keys, task, has_error_types)
    saved = []
    for what, description, view in views:
        name = f"{run_field}: {what}"
        target.dataset.save_view(name, view, description=description, overwrite=True)
        saved.append(name)
    return saved


def delete_views(target: Target, run_field: str) -> None:
    """Forget a run's views."""
    for name in target.dataset.list_saved_views():
        if name.startswith(f"{run_field}: "):
            target.dataset.delete_saved_view(name)


def _map_views(target: Target, keys: Keys) -> Iterator[tuple[str, str, Any]]:
    yield "worst images", "Lowest mean IoU over the image's classes first", _worst(target, keys)


def _object_views(target: Target, keys: Keys, task: Task, has_error_types: bool) -> Iterator[tuple[str, str, Any]]:
    from fiftyone import ViewField as F

    dataset, key = target.dataset, keys.metric
    yield "worst images", "Lowest sum of IoU over tp + (fp + fn) / 2 first", _worst(target, keys)
    # A view sorted by what is left after filtering: the most certain false positive comes first.
    scores = F(f"{keys.pred_field}.detections.confidence")
    false = _only(dataset.filter_labels(keys.pred_field, F(key) == "fp"), keys, keys.pred_field)
    yield (
        "false positives by score",
        "Only false positives, the most certain first",
        false.sort_by(scores.max(), reverse=True),
    )
    missed = _only(dataset.filter_labels(keys.gt_field, F(key) == "fn"), keys, keys.gt_field)
    areas = F(f"{keys.gt_field}.detections.area")
    yield (
        "missed objects",
        "Only ground truth that was not found, the largest first",
        missed.sort_by(areas.max(), reverse=True),
    )
    confused = F(f"{key}_{CONFUSED}") != None  # noqa: E711 - an expression for the database
    pairs = dataset.filter_labels(keys.gt_field, confused).filter_labels(keys.pred_field, confused, only_matches=False)
    yield "confused pairs", "Missed objects with the prediction of another class on the same place", _only(pairs, keys)
    if has_error_types:
        for what, types in _ERROR_VIEWS[task].items():
            is_one = F(f"{key}_{ERROR}").is_in(list(types))
            found = dataset.filter_labels(keys.pred_field, is_one, only_matches=False)
            found = found.filter_labels(keys.gt_field, is_one, only_matches=False)
            both = (F(f"{keys.pred_field}.detections").length() > 0) | (F(f"{keys.gt_field}.detections").length() > 0)
            yield what, f"Objects of error type {' or '.join(types)}", _only(found.match(both), keys)
        certain = F(f"{key}_{ERROR}").is_in(list(PROBABLE_LABEL_ERRORS)) & (F("confidence") >= _LABEL_ERROR_SCORE)
        probable = dataset.filter_labels(keys.pred_field, certain)
        description = f"Wrong predictions that score {_LABEL_ERROR_SCORE} or more, beside the ground truth"
        yield "probable label errors", description, _only(probable, keys).sort_by(scores.max(), reverse=True)


def _worst(target: Target, keys: Keys) -> Any:
    quality = f"{keys.metric}_quality"
    return _only(target.dataset.exists(quality), keys).sort_by(quality)


def _only(view: Any, keys: Keys, *label_fields: str) -> Any:
    """The view with those labels alone (the run's and the ground truth's by default): no other run, no pre-labels."""
    there = view.get_field_schema()
    scores = [f"{keys.metric}_{name}" for name in (*SCORE_FIELDS, *push_maps.SCORE_FIELDS)]
    labels = label_fields or (keys.gt_field, keys.pred_field)
    return view.select_fields([IMAGE_ID, *labels, *(name for name in dict.fromkeys(scores) if name in there)])
