"""An audit's suspects in FiftyOne: rank, kind and reason on each object, and one saved view by rank.

Where a run has an audit of its latest evaluation, its ranking is what the App shows as label suspects; the cruder view
of probable label errors, certain predictions that are wrong, is for runs without.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from workbench.auditing import keeping
from workbench.auditing.api import TOP, Audit
from workbench.auditing.kinds import Kind
from workbench.runs import Run
from workbench.voxel51 import database
from workbench.voxel51.names import IMAGE_ID
from workbench.voxel51.push import Progress
from workbench.voxel51.scoring import Keys
from workbench.voxel51.target import Target, existing_target

TAG = "label suspect"
VIEW, CRUDE_VIEW = "label suspects", "probable label errors"
"""Of an audit; of browsing without one."""
_OF_OBJECTS = {
    "rank": "IntField",
    "suspicion": "FloatField",
    "kind": "StringField",
    "suggested": "StringField",
    "why": "StringField",
}
_OF_SAMPLES = {"rank": "IntField", "suspicion": "FloatField"}
_IMAGES_AT_ONCE = 256

_Rows = Mapping[str, list[dict[str, Any]]]


@database.told_if_it_fails()
def push_audit(
    audit: Audit,
    top: int = TOP,
    kinds: Sequence[Kind] = (),
    name: str | None = None,
    progress: Progress | None = None,
) -> str:
    """Put the first `top` rows of an audit on the objects of its run and ground truth; returns the view's name.

    The run is pushed first, so that its objects are there. Of earlier suspects nothing is left. Raises what
    `browse.push` raises.
    """
    from workbench.voxel51.browse import push

    browsed = push([audit.run], audit.dataset, name, progress)
    target = existing_target(browsed.name)
    pred_field = next(field for field in browsed.fields if field in target.info["runs"])
    gt_field = next(field for field in browsed.fields if field in target.info["ground_truth"])
    return put_suspects(target, gt_field, pred_field, audit.top(top, kinds))


def with_suspects(target: Target, keys: Keys, run: Run, views: Sequence[str]) -> list[str]:
    """Show the audit that is kept in the run's folder, if it is of the latest evaluation; returns the run's views."""
    table = keeping.kept(run)
    if table is None:
        forget(target, keys.gt_field, keys.pred_field)
        return list(views)
    view = put_suspects(target, keys.gt_field, keys.pred_field, table.slice(0, TOP).to_pylist())
    return [*(name for name in views if name != f"{keys.pred_field}: {CRUDE_VIEW}"), view]


def put_suspects(target: Target, gt_field: str, pred_field: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """Mark the objects of those rows, save their view in the place of the crude one, and return its name."""
    forget(target, gt_field, pred_field)
    key = key_of(pred_field)
    for field in (gt_field, pred_field):
        target.declare_detections(field, {f"{key}_{name}": kind for name, kind in _OF_OBJECTS.items()})
    target.declare_values({f"{key}_{name}": kind for name, kind in _OF_SAMPLES.items()})
    sides = {gt_field: _by_image(rows, missing=False), pred_field: _by_image(rows, missing=True)}
    for field, of_image in sides.items():
        _mark(target, field, key, of_image)
    together = _by_image(rows)
    target.write(f"{key}_rank", {i: min(row["rank"] for row in found) for i, found in together.items()})
    target.write(f"{key}_suspicion", {i: sum(row["suspicion"] for row in found) for i, found in together.items()})
    target.dataset.reload()
    return _save_view(target, gt_field, pred_field)


def forget(target: Target, gt_field: str, pred_field: str) -> None:
    """Take earlier suspects of that run away: their marks and the view."""
    key, dataset = key_of(pred_field), target.dataset
    if not dataset.has_sample_field(f"{key}_rank"):
        return
    image_ids = dataset.exists(f"{key}_rank").values(IMAGE_ID)
    for field in (gt_field, pred_field):
        _mark(target, field, key, {image_id: [] for image_id in image_ids})
    for name in _OF_SAMPLES:
        target.write(f"{key}_{name}", dict.fromkeys(image_ids))
    if (view := f"{pred_field}: {VIEW}") in dataset.list_saved_views():
        dataset.delete_saved_view(view)


def key_of(pred_field: str) -> str:
    """What the fields of a run's audit begin with."""
    return f"audit_{pred_field}"


def own_paths(gt_fields: Iterable[str], pred_field: str) -> list[str]:
    """What an audit of the run adds beside the run's own field: fields of samples, and attributes of their labels."""
    of_labels = [f"{field}.detections.{key_of(pred_field)}_{name}" for field in gt_fields for name in _OF_OBJECTS]
    return _sample_fields(pred_field) + of_labels


def _sample_fields(pred_field: str) -> list[str]:
    return [f"{key_of(pred_field)}_{name}" for name in _OF_SAMPLES]


def _mark(target: Target, field: str, key: str, of_image: _Rows) -> None:
    """Give the objects of those images their marks and the tag, or take both away from those that have none."""
    ids = list(of_image)
    for start in range(0, len(ids), _IMAGES_AT_ONCE):
        documents = target.read(field, ids[start : start + _IMAGES_AT_ONCE])
        for image_id, document in documents.items():
            marks = {_segment(row): row for row in of_image[image_id]}
            for detection in (document or {}).get("detections", ()):
                _describe(detection, key, marks.get(detection.get("segment_id")))
        target.write(field, {image_id: document for image_id, document in documents.items() if document is not None})


def _describe(detection: dict[str, Any], key: str, row: Mapping[str, Any] | None) -> None:
    for name in _OF_OBJECTS:
        detection.pop(f"{key}_{name}", None)
    tags = [tag for tag in detection.get("tags") or () if tag != TAG]
    detection["tags"] = tags if row is None else [*tags, TAG]
    if row is None:
        return
    values = {name: row[name] for name in ("rank", "suspicion", "kind", "why")}
    for name, value in {**values, "suggested": row["suggested_name"]}.items():
        if value is not None:
            detection[f"{key}_{name}"] = value


def _save_view(target: Target, gt_field: str, pred_field: str) -> str:
    from fiftyone import ViewField as F

    dataset, key = target.dataset, key_of(pred_field)
    marked = F(f"{key}_rank").exists()
    view = dataset.exists(f"{key}_rank")
    view = view.filter_labels(gt_field, marked, only_matches=False).filter_labels(
        pred_field, marked, only_matches=False
    )
    view = view.select_fields([IMAGE_ID, gt_field, pred_field, *_sample_fields(pred_field)]).sort_by(f"{key}_rank")
    name = f"{pred_field}: {VIEW}"
    dataset.save_view(name, view, description="Labels that `workbench audit` doubts, by rank", overwrite=True)
    if (crude := f"{pred_field}: {CRUDE_VIEW}") in dataset.list_saved_views():
        dataset.delete_saved_view(crude)
    return name


def _by_image(rows: Iterable[Mapping[str, Any]], missing: bool | None = None) -> dict[str, list[dict[str, Any]]]:
    """The rows of each image: all, or those of missing labels, or the others."""
    found: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        if missing is None or missing == (row["kind"] == "missing"):
            found.setdefault(row["image_id"], []).append(dict(row))
    return found


def _segment(row: Mapping[str, Any]) -> int:
    segment: int = row["pred_segment_id"] if row["kind"] == "missing" else row["segment_id"]
    return segment
