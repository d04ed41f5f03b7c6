"""Taking a run out of a FiftyOne dataset again: its field, its evaluations, its views."""

from workbench.errors import FiftyOneError, did_you_mean
from workbench.voxel51 import appearance, views
from workbench.voxel51.target import Target, existing_target


def remove_run(name: str, field: str) -> Target:
    """Remove the run whose field is `field` from the FiftyOne dataset `name`; the run folder stays.

    Raises FiftyOneError where there is no such dataset of ours, or no such run in it.
    """
    target = existing_target(name)
    runs = target.info["runs"]
    if field not in runs:
        raise FiftyOneError(f"FiftyOne dataset {name!r} has no run {field!r}. {did_you_mean(field, runs)}")
    views.delete_views(target, field)
    for key in runs[field].get("evaluations", []):
        if target.dataset.has_evaluation(key):
            target.dataset.delete_evaluation(key)
    schema = target.dataset.get_field_schema(flat=True)
    keys = tuple(f"{key}_" for key in runs[field].get("evaluations", []))
    # What FiftyOne's own evaluations do not know of: an image's quality, an object's error type and confusion.
    left = [path for path in schema if keys and path.rsplit(".", 1)[-1].startswith(keys) and not path.startswith(field)]
    target.dataset.delete_sample_fields([*left, field], error_level=1)
    del runs[field]
    target.save_info()
    appearance.dress(target)
    return target
