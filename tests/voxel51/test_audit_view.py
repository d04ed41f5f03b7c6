"""An audit's suspects in a real database: marks, the view by rank, what a second push and a removal leave."""

from typing import Any

import pytest
from click.testing import CliRunner

from workbench.auditing.api import audit
from workbench.cli import main
from workbench.evaluation.evaluation import evaluate
from workbench.voxel51.auditing import TAG, push_audit
from workbench.voxel51.browse import push
from workbench.voxel51.removing import remove_run

KEY = "audit_first"


@pytest.fixture
def audited(pets: Any) -> Any:
    return audit(pets.run)


def labels(dataset: Any, field: str) -> dict[tuple[str, int], dict[str, Any]]:
    """The labels as the database holds them, by image and segment."""
    collection = fiftyone_database()[dataset._sample_collection_name]
    return {
        (sample["image_id"], label["segment_id"]): label
        for sample in collection.find({})
        for label in sample[field]["detections"]
    }


def fiftyone_database() -> Any:
    from fiftyone.core.odm import get_db_conn

    return get_db_conn()


def marks(dataset: Any, field: str) -> dict[tuple[str, int], tuple[int, str]]:
    """(image, segment) -> (rank, kind) of the labels that carry the marks; just those carry the tag."""
    found = {key: label for key, label in labels(dataset, field).items() if f"{KEY}_rank" in label}
    assert {key for key, label in labels(dataset, field).items() if TAG in label["tags"]} == set(found)
    return {key: (label[f"{KEY}_rank"], label[f"{KEY}_kind"]) for key, label in found.items()}


def expected(rows: list[dict[str, Any]], missing: bool) -> dict[tuple[str, int], tuple[int, str]]:
    key = "pred_segment_id" if missing else "segment_id"
    return {
        (row["image_id"], row[key]): (row["rank"], row["kind"]) for row in rows if (row["kind"] == "missing") == missing
    }


def test_every_suspect_is_marked_on_its_label_or_on_the_prediction_that_has_none(audited, fo):
    view = push_audit(audited)
    dataset = fo.load_dataset("pets")
    rows = audited.top()
    assert {row["kind"] for row in rows} >= {"wrong_class", "spurious"}
    assert marks(dataset, "ground_truth") == expected(rows, missing=False)
    assert marks(dataset, "first") == expected(rows, missing=True)
    label = labels(dataset, "ground_truth")["1", 2]
    assert (label[f"{KEY}_suggested"], label[f"{KEY}_why"]) == ("cat", rows[label[f"{KEY}_rank"] - 1]["why"])
    assert view == "first: label suspects"


def test_the_view_has_the_images_by_their_first_suspect_and_only_suspects(audited, fo):
    saved = push_audit(audited)
    view = fo.load_dataset("pets").load_saved_view(saved)
    first = {row["image_id"]: row["rank"] for row in reversed(audited.top())}
    assert view.values("image_id") == sorted(first, key=first.__getitem__)
    shown = [label for sample in view for field in ("ground_truth", "first") for label in sample[field].detections]
    assert len(shown) == len(audited.top())
    assert all(TAG in label.tags for label in shown)


def test_a_second_push_leaves_only_its_own_suspects_and_the_tags_of_the_user(audited, fo):
    push_audit(audited)
    dataset = fo.load_dataset("pets")
    sample = dataset.match({"image_id": "1"}).first()
    sample.ground_truth.detections[1].tags.append("looked at")
    sample.save()
    push_audit(audited, top=1)
    dataset.reload()
    assert marks(dataset, "ground_truth") | marks(dataset, "first") == {
        **expected(audited.top(1), missing=False),
        **expected(audited.top(1), missing=True),
    }
    assert "looked at" in dataset.match({"image_id": "1"}).first().ground_truth.detections[1].tags


def test_browse_shows_the_audit_of_the_latest_evaluation_and_else_the_crude_view(pets, fo):
    assert "first: probable label errors" in push([pets.run]).views
    audit(pets.run)
    views = push([pets.run]).views
    assert "first: label suspects" in views
    assert "first: probable label errors" not in [*views, *fo.load_dataset("pets").list_saved_views()]
    metrics = pets.run.path / "metrics.json"
    evaluate(pets.run)
    before = metrics.read_text()
    metrics.write_text(before.replace('"evaluated": "', '"evaluated": "9'))  # a later one: seconds are its precision
    views = push([pets.run]).views
    assert "first: probable label errors" in views
    dataset = fo.load_dataset("pets")
    assert "first: label suspects" not in [*views, *dataset.list_saved_views()]
    assert marks(dataset, "ground_truth") == {}


def test_removing_the_run_removes_its_suspects_from_the_ground_truth(audited, fo):
    push_audit(audited)
    remove_run("pets", "first")
    dataset = fo.load_dataset("pets")
    assert not [path for path in dataset.get_field_schema(flat=True) if KEY in path]
    assert all(TAG not in label["tags"] for label in labels(dataset, "ground_truth").values())


def test_the_command_pushes_the_view_and_names_what_comes_next(pets, fo, in_empty_folder):
    result = CliRunner().invoke(main, ["audit", str(pets.run.path), "--view", "--top", "2"])
    assert result.exit_code == 0, result.output
    assert "the view 'first: label suspects'" in result.stderr
    assert "fiftyone app launch pets; then workbench pull" in result.stderr
    assert len(marks(fo.load_dataset("pets"), "ground_truth")) + len(marks(fo.load_dataset("pets"), "first")) == 2
