"""Taking a run out of a FiftyOne dataset again: its field, its evaluations, its views."""

from workbench.errors import FiftyOneError, did_you_mean
from workbench.voxel51 import appearance, auditing, database, push_maps, views
from workbench.voxel51.scoring import CONFUSED, ERROR, SCORE_FIELDS
from workbench.voxel51.target import Target, existing_target


@database.told_if_it_fails()
def remove_run(name: str, field: str) -> Target:
    """Remove the run whose field is `field` from the FiftyOne dataset `name`; the run folder stays.

    Raises FiftyOneError where there is no such dataset of ours, or no such run in it.
    """
    target = existing_target(name)
    runs = target.info["runs"]
    if field not in runs:
        raise FiftyOneError(f"FiftyOne dataset {name!r} has no run {field!r}. {did_you_mean(field, runs)}")
    views.delete_views(target, field)
    for gt_field in target.info["ground_truth"]:
        auditing.forget(target, gt_field, field)  # the tag, which is on objects of the ground truth
    for key in runs[field].get("evaluations", []):
        if target.dataset.has_evaluation(key):
            target.dataset.delete_evaluation(key)
    schema = target.dataset.get_field_schema(flat=True)
    own = _own_paths(target, runs[field].get("evaluations", []))
    left = [path for path in (*own, *auditing.own_paths(target.info["ground_truth"], field)) if path in schema]
    target.dataset.delete_sample_fields([*left, field], error_level=1)
    del runs[field]
    target.save_info()
    appearance.dress(target)
    return target


def _own_paths(target: Target, evaluations: list[str]) -> list[str]:
    """What FiftyOne's own evaluations do not know of: an image's quality, an object's error type and confusion."""
    scores = dict.fromkeys((*SCORE_FIELDS, *push_maps.SCORE_FIELDS))
    of_images = [f"{key}_{name}" for key in evaluations for name in scores]
    of_objects = [
        f"{field}.detections.{key}_{name}"
        for field in target.info["ground_truth"]
        for key in evaluations
        for name in (CONFUSED, ERROR)
    ]
    return of_images + of_objects
