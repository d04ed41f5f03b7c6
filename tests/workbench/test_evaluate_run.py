"""`evaluate` from end to end: what it measures, what it refuses, and what it leaves in the run's folder."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings

from tests.reference.miou import iou_by_pixels
from tests.reference.scene_dataset import SceneDataset, images_of, make_run, with_columns
from tests.reference.scenes import CATEGORIES, Listed, PanopticImage, panoptic_pairs, panopticapi_scores, table_of
from workbench import runs
from workbench.cli import main
from workbench.errors import EvaluationError, RunError
from workbench.evaluation import keeping, partitions, slices
from workbench.evaluation.evaluation import evaluate
from workbench.formats.base import Category
from workbench.segments import write_parquet

THINGS = (Listed(1, 1), Listed(2, 2))
SCENE = np.array([[1, 1, 1, 2, 2, 7], [1, 1, 1, 2, 2, 7], [0, 0, 0, 7, 7, 7]])


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "cache"))


def scenes(count: int = 3) -> list[PanopticImage]:
    """Images with two things and a stuff segment, shifted a little in each."""
    listed = (*THINGS, Listed(7, 7))
    return [PanopticImage(str(10 * i), np.roll(SCENE, i, axis=1), listed) for i in range(count)]


def worn(images: Sequence[PanopticImage]) -> list[PanopticImage]:
    """The images with their first column left void."""
    return [replace(image, label_map=np.where(np.arange(6) > 0, image.label_map, 0)) for image in images]


def test_a_panoptic_run_gets_pq_ap_of_its_things_and_miou(tmp_path):
    dataset = SceneDataset(scenes())
    metrics = evaluate(make_run(tmp_path / "run", dataset, worn(scenes())), dataset).metrics
    official = panopticapi_scores(scenes(), worn(scenes()))
    for name in ("all", "things", "stuff"):
        assert metrics["panoptic"][name] == official[name]
    counts = iou_by_pixels(scenes(), worn(scenes()), tuple(CATEGORIES))
    assert {
        int(key): (row["intersection"], row["union"], row["gt_pixels"])
        for key, row in metrics["semantic"]["per_category"].items()
    } == counts
    assert metrics["instance"]["segm"]["per_category"]["1"]["gt"] == 3
    assert metrics["instance"]["segm"]["per_category"]["7"]["AP"] is None  # stuff
    assert 0 < metrics["instance"]["bbox"]["AP"] < 1


def test_a_perfect_run_scores_one(tmp_path):
    dataset = SceneDataset(scenes())
    metrics = evaluate(make_run(tmp_path / "run", dataset, scenes()), dataset).metrics
    assert metrics["panoptic"]["all"]["pq"] == metrics["semantic"]["miou"] == 1.0
    assert metrics["instance"]["segm"]["AP"] == pytest.approx(1.0, abs=1e-12)


def test_metrics_json_holds_the_documented_keys(tmp_path):
    dataset = SceneDataset(scenes())
    run = make_run(tmp_path / "run", dataset, scenes())
    evaluation = evaluate(run, dataset)
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics == evaluation.metrics == run.metrics()
    scored = ["panoptic", "instance", "semantic"]
    about = ["images", "notes", "provenance", "intervals", "mode", "errors", "calibration", "slices"]
    assert list(metrics) == [*scored, *about]
    assert list(metrics["panoptic"]) == ["all", "things", "stuff", "per_category"]
    assert list(metrics["panoptic"]["all"]) == ["pq", "sq", "rq", "n"]
    twelve = ["AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl"]
    assert list(metrics["instance"]["segm"]) == list(metrics["instance"]["bbox"]) == [*twelve, "per_category"]
    assert {"miou", "aacc", "macc", "per_category"} < set(metrics["semantic"])
    assert metrics["instance"]["segm"]["APl"] is None
    assert metrics["images"]["panoptic"] == {"scored": 3, "failed": 0, "missing": 0}
    assert metrics["notes"] == []


def test_per_category_parquet_is_the_json_in_long_form(tmp_path):
    dataset = SceneDataset(scenes())
    metrics = evaluate(make_run(tmp_path / "run", dataset, worn(scenes())), dataset).metrics
    rows = pq.read_table(tmp_path / "run" / "per_category.parquet").to_pylist()
    for row in rows:
        part = metrics[row["task"]] if row["geometry"] is None else metrics[row["task"]][row["geometry"]]
        numbers = part["per_category"][str(row["category_id"])]
        assert (row["name"], row["isthing"]) == (numbers["name"], numbers["isthing"])
        assert row["value"] == numbers[row["metric"]]
    assert len(rows) == len(CATEGORIES) * (7 + 2 * 13 + 5)


@settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pair=panoptic_pairs(images=4))
def test_neither_chunks_nor_shards_nor_the_order_of_images_move_a_bit(tmp_path_factory, pair):
    folder, dataset = tmp_path_factory.mktemp("run"), SceneDataset(pair[0])
    together = evaluate(make_run(folder / "a", dataset, pair[1], shard=4), dataset)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(partitions, "IMAGES_PER_CHUNK", 1)
        apart = evaluate(make_run(folder / "b", dataset, pair[1][::-1], shard=1), dataset)
    for task in ("panoptic", "instance", "semantic"):
        assert together.metrics[task] == apart.metrics[task]
    key = ["task", "kind", "image_id", "segment_id"]
    first, second = (each.run.matches().to_pandas().sort_values(key, ignore_index=True) for each in (together, apart))
    assert first.equals(second)


def test_a_run_with_a_limit_is_scored_on_its_own_images(tmp_path):
    dataset = SceneDataset(scenes())
    run = make_run(tmp_path / "run", dataset, scenes()[:2], identity={"limit": 2})
    evaluation = evaluate(run, dataset)
    assert evaluation.metrics["panoptic"]["all"]["pq"] == 1.0
    assert evaluation.metrics["images"]["panoptic"]["scored"] == 2
    assert evaluation.notes == ("scored on 2 of 3 images: the run was made with --limit 2",)


def test_a_run_of_chosen_images_is_scored_on_them(tmp_path):
    dataset = SceneDataset(scenes())
    ids = [record.image_id for record in dataset.images()]
    run = make_run(tmp_path / "run", dataset, scenes()[:1], identity={"limit": None, "images": ids[:1]})
    evaluation = evaluate(run, dataset)
    assert evaluation.metrics["panoptic"]["all"]["pq"] == 1.0
    assert evaluation.notes == ("scored on 1 of 3 images: the run was made with chosen images",)


def test_a_run_that_has_not_reached_its_limit_lacks_the_others(tmp_path):
    dataset = SceneDataset(scenes())
    run = make_run(tmp_path / "run", dataset, scenes()[:1], identity={"limit": 2})
    evaluation = evaluate(run, dataset)
    assert evaluation.metrics["images"]["panoptic"] == {"scored": 2, "failed": 0, "missing": 1}
    assert evaluation.metrics["panoptic"]["all"]["pq"] < 1.0
    assert any("1 of 2 images are not in the run" in note for note in evaluation.notes)


def test_segments_without_scores_give_no_ap(tmp_path):
    dataset = SceneDataset(scenes())
    run = make_run(tmp_path / "run", dataset, scenes(), shard=3)
    part = run.store.segments_folder / run.store.parts[0]
    table = run.segments()
    place = table.schema.get_field_index("score")
    write_parquet(table.set_column(place, table.schema.field(place), pa.nulls(len(table), pa.float64())), part)
    metrics = evaluate(run, dataset).metrics
    assert metrics["panoptic"]["all"]["pq"] == 1.0
    assert metrics["instance"] is None
    assert any("without a score" in note for note in metrics["notes"])


def test_an_evaluation_that_fails_late_leaves_the_earlier_one_whole(tmp_path, monkeypatch):
    dataset = SceneDataset(scenes())
    run = make_run(tmp_path / "run", dataset, scenes())
    evaluate(run, dataset)
    before = {file.name: file.read_bytes() for file in run.path.glob("*.parquet")} | {"": run.metrics()}
    monkeypatch.setattr(slices, "slices_table", lambda parts: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        evaluate(run, dataset, corrected=True)
    assert {file.name: file.read_bytes() for file in run.path.glob("*.parquet")} | {"": run.metrics()} == before
    assert not (run.path / ".evaluation.partial").exists()


def test_an_evaluation_killed_while_it_moves_files_counts_as_none(tmp_path, monkeypatch):
    dataset = SceneDataset(scenes())
    run = make_run(tmp_path / "run", dataset, scenes())
    evaluate(run, dataset)
    replace_file = Path.replace

    def killed(path, target):
        return 1 / 0 if target == run.path / keeping.METRICS else replace_file(path, target)

    with monkeypatch.context() as patch, pytest.raises(ZeroDivisionError):
        patch.setattr(Path, "replace", killed)
        evaluate(run, dataset)
    with pytest.raises(RunError, match="not evaluated yet"):
        run.metrics()


def test_images_that_a_run_lacks_count_as_empty(tmp_path):
    dataset = SceneDataset(scenes())
    evaluation = evaluate(make_run(tmp_path / "run", dataset, scenes()[:2]), dataset)
    assert evaluation.metrics["panoptic"]["per_category"]["1"]["fn"] == 1
    assert evaluation.notes == ("1 of 3 images are not in the run and count as images without predictions: 20",)


def test_an_incomplete_run_is_told(tmp_path):
    dataset = SceneDataset(scenes())
    evaluation = evaluate(make_run(tmp_path / "run", dataset, scenes()[:2], status=runs.INCOMPLETE), dataset)
    assert "the run is incomplete" in evaluation.notes[0]


def test_failed_images_count_as_empty_and_are_told(tmp_path):
    dataset = SceneDataset(scenes())
    evaluation = evaluate(make_run(tmp_path / "run", dataset, scenes(), failed=["10"]), dataset)
    assert evaluation.metrics["panoptic"]["per_category"]["1"]["fn"] == 1
    assert evaluation.metrics["images"]["panoptic"]["failed"] == 1
    assert any("1 of 3 images failed in the run" in note and "10" in note for note in evaluation.notes)


def test_an_image_that_the_dataset_lacks_is_refused(tmp_path):
    dataset = SceneDataset(scenes())
    run = make_run(tmp_path / "run", dataset, [*scenes(), replace(scenes()[0], image_id="77")])
    with pytest.raises(EvaluationError, match=r"1 of its 4 images are not in the dataset \(77\)"):
        evaluate(run, dataset)


def test_a_predicted_category_that_the_dataset_lacks_is_named(tmp_path):
    dataset = SceneDataset(scenes())
    strange = replace(scenes()[0], listed=(Listed(1, 5), Listed(2, 2), Listed(7, 7)))
    categories = [*dataset.categories, Category(5, "zebra", True, (0, 0, 0))]
    run = make_run(tmp_path / "run", dataset, [strange], categories=categories)
    with pytest.raises(EvaluationError, match=r"segment 1 of image 0 has the category 5 \(zebra\)"):
        evaluate(run, dataset)


def test_categories_of_another_name_are_told(tmp_path):
    dataset = SceneDataset(scenes())
    categories = [replace(dataset.categories[0], name="otter"), *dataset.categories[1:]]
    evaluation = evaluate(make_run(tmp_path / "run", dataset, scenes(), categories=categories), dataset)
    assert any("'otter'" in note for note in evaluation.notes)


def test_another_image_size_is_refused(tmp_path):
    dataset = SceneDataset(scenes())
    small = replace(scenes()[1], label_map=SCENE[:, :4])
    with pytest.raises(EvaluationError, match=r"image 10: its segments have 3 x 6 pixels .* and 3 x 4"):
        evaluate(make_run(tmp_path / "run", dataset, [small]), dataset)


def overlapping_run(folder: Path, dataset: SceneDataset) -> runs.Run:
    """A panoptic run in which segment 2 is segment 1 once more."""
    run = make_run(folder, dataset, [])
    table = table_of(scenes(1), score=0.5)
    counts, areas = table["counts"].to_pylist(), table["area"].to_pylist()
    table = with_columns(table, counts=[counts[0], counts[0], counts[2]], area=[areas[0], areas[0], areas[2]])
    runs.writer(run).commit(table, images_of(scenes(1)))
    return run


def test_overlapping_segments_are_no_panoptic_run(tmp_path):
    dataset = SceneDataset(scenes(1))
    with pytest.raises(EvaluationError, match="image 0: predicted segments 1 and 2 overlap"):
        evaluate(overlapping_run(tmp_path / "run", dataset), dataset)


def test_a_failed_evaluation_leaves_earlier_results_as_they_were(tmp_path):
    dataset = SceneDataset(scenes(1))
    run = overlapping_run(tmp_path / "run", dataset)
    for name in ("metrics.json", "matches.parquet", "per_category.parquet"):
        (run.path / name).write_text("earlier")
    with pytest.raises(EvaluationError):
        evaluate(run, dataset)
    for name in ("metrics.json", "matches.parquet", "per_category.parquet"):
        assert (run.path / name).read_text() == "earlier"
    assert not list(run.path.glob(".*.partial"))


def test_evaluating_again_replaces_the_results(tmp_path):
    dataset, other = SceneDataset(scenes()), SceneDataset(worn(scenes()))
    run = make_run(tmp_path / "run", dataset, scenes())
    before = evaluate(run, dataset).metrics
    after = evaluate(run, other).metrics
    assert run.metrics() == after != before


def test_semantic_ground_truth_of_its_own_decides_miou(tmp_path):
    """The panoptic ground truth is met exactly, the semantic one has another class in every image."""
    semantic = [replace(scene, listed=(Listed(1, 9), *scene.listed[1:])) for scene in scenes()]
    dataset = SceneDataset(scenes(), semantic=semantic)
    metrics = evaluate(make_run(tmp_path / "run", dataset, scenes()), dataset).metrics
    assert metrics["panoptic"]["all"]["pq"] == 1.0
    assert metrics["semantic"]["per_category"]["9"]["iou"] == 0.0


def test_a_semantic_run_gets_miou_alone(tmp_path):
    dataset = SceneDataset(scenes())
    evaluation = evaluate(make_run(tmp_path / "run", dataset, scenes(), task="semantic"), dataset)
    assert (evaluation.metrics["panoptic"], evaluation.metrics["instance"]) == (None, None)
    assert evaluation.metrics["semantic"]["miou"] == 1.0
    assert set(evaluation.run.matches()["task"].to_pylist()) == {"semantic"}


def test_an_instance_run_gets_ap_alone(tmp_path):
    dataset = SceneDataset(scenes())
    metrics = evaluate(make_run(tmp_path / "run", dataset, scenes(), task="instance"), dataset).metrics
    assert (metrics["panoptic"], metrics["semantic"]) == (None, None)
    assert metrics["instance"]["bbox"]["AP"] == pytest.approx(1.0, abs=1e-12)


def test_boxes_alone_are_not_scored_as_masks(tmp_path):
    dataset = SceneDataset(scenes())
    run = make_run(tmp_path / "run", dataset, scenes(), task="instance", iou_types=["bbox"])
    evaluation = evaluate(run, dataset)
    assert evaluation.metrics["instance"]["segm"] is None
    assert any("boxes without masks" in note for note in evaluation.notes)
    assert len(pq.read_table(run.path / "matches.parquet")) > 0


def test_a_run_without_ground_truth_of_its_task_is_refused(tmp_path):
    dataset = SceneDataset(scenes(), tasks=("semantic",), semantic=scenes())
    run = make_run(tmp_path / "run", dataset, scenes(), task="instance")
    with pytest.raises(
        EvaluationError, match="a run of the task instance needs instance ground truth, but dataset tiny has semantic"
    ):
        evaluate(run, dataset)


def matches_of(run: runs.Run, task: str) -> dict[tuple[str, int], tuple[str, int | None, float | None]]:
    """(kind, segment) -> (status, matched segment, IoU) of a run of one image."""
    rows = [row for row in run.matches().to_pylist() if row["task"] == task]
    return {(row["kind"], row["segment_id"]): (row["status"], row["matched_segment_id"], row["iou"]) for row in rows}


def test_the_match_table_tells_what_became_of_every_segment(tmp_path):
    """Truth: 1 found with IoU 2/3, 2 missed, 3 a crowd. Predictions: 1 true, 2 false, 3 on void, 4 on the crowd."""
    truth = PanopticImage("0", np.array([[1, 1, 1, 2, 0, 3]]), (Listed(1, 1), Listed(2, 2), Listed(3, 1, iscrowd=True)))
    guess = PanopticImage("0", np.array([[1, 1, 2, 2, 3, 4]]), (Listed(1, 1), Listed(2, 7), Listed(3, 9), Listed(4, 1)))
    dataset = SceneDataset([truth])
    run = evaluate(make_run(tmp_path / "run", dataset, [guess]), dataset).run
    iou = 2 / 3
    assert matches_of(run, "panoptic") == {
        ("prediction", 1): ("tp", 1, iou),
        ("prediction", 2): ("fp", None, None),
        ("prediction", 3): ("ignored", None, None),
        ("prediction", 4): ("ignored", None, None),
        ("ground_truth", 0): ("void", None, None),
        ("ground_truth", 1): ("tp", 1, iou),
        ("ground_truth", 2): ("fn", None, None),
        ("ground_truth", 3): ("crowd", None, None),
    }
    assert matches_of(run, "instance") == {
        ("prediction", 1): ("tp", 1, iou),
        ("prediction", 4): ("ignored", 3, 1.0),
        ("ground_truth", 1): ("tp", 1, iou),
        ("ground_truth", 2): ("fn", None, None),
        ("ground_truth", 3): ("crowd", None, None),
    }


def test_a_class_of_a_semantic_map_is_matched_with_itself(tmp_path):
    truth = PanopticImage("0", np.array([[1, 1, 2, 0]]), (Listed(1, 1), Listed(2, 2)))
    guess = PanopticImage("0", np.array([[1, 7, 7, 9]]), (Listed(1, 1), Listed(7, 7), Listed(9, 9)))
    dataset = SceneDataset([truth])
    run = evaluate(make_run(tmp_path / "run", dataset, [guess], task="semantic"), dataset).run
    assert matches_of(run, "semantic") == {
        ("prediction", 1): ("tp", 1, 0.5),
        ("prediction", 2): ("fp", None, None),
        ("prediction", 3): ("ignored", None, None),
        ("ground_truth", 0): ("void", None, None),
        ("ground_truth", 1): ("tp", 1, 0.5),
        ("ground_truth", 2): ("fn", None, None),
    }


def test_detections_beyond_the_best_hundred_are_ignored(tmp_path):
    dataset = SceneDataset(scenes(1), tasks=("panoptic", "instance"))
    many = PanopticImage("0", np.arange(1, 19).reshape(3, 6), tuple(Listed(i, 1) for i in range(1, 19)))
    run = make_run(tmp_path / "run", dataset, [], task="instance")
    one = table_of([many], score=0.5)
    rows = one.take(list(range(18)) * 7)
    rows = with_columns(rows, segment_id=range(1, len(rows) + 1), ordinal=range(len(rows)))
    runs.writer(run).commit(rows, images_of(scenes(1)))
    statuses = [
        status
        for (kind, _), (status, *_) in matches_of(evaluate(run, dataset).run, "instance").items()
        if kind == "prediction"
    ]
    assert (len(statuses), statuses.count("ignored")) == (126, 26)


@pytest.fixture
def bundled_run(in_empty_folder: Path, shared_data: Path) -> Path:
    """The perturbed panoptic sample as the newest run below runs/."""
    from workbench.imports.api import import_predictions

    definition = Path(__file__).parent.parent / "definitions" / "coco_panoptic_sample.toml"
    source = shared_data / "coco_panoptic_sample" / "predictions" / "panoptic_perturbed.json"
    return import_predictions(source, str(definition), "coco-panoptic").path


def test_changed_annotations_are_told(bundled_run):
    run = runs.Run.open(bundled_run)
    before = evaluate(run).notes
    assert not any("changed" in note for note in before)
    run = run.updated(identity={**run.manifest["identity"], "dataset": "another"})
    assert evaluate(run).notes == (
        "the annotations or images of coco_panoptic_sample have changed since the run was made",
        *before,
    )


def test_the_command_prints_json_alone_on_stdout(bundled_run):
    done = CliRunner().invoke(main, ["evaluate", "--json"])
    assert done.exit_code == 0
    assert json.loads(done.stdout) == json.loads((bundled_run / "metrics.json").read_text())


def test_the_command_prints_tables_in_percent(bundled_run):
    done = CliRunner().invoke(main, ["evaluate", str(bundled_run), "--per-category"])
    assert done.exit_code == 0
    assert "51.84" in done.stdout and "19 horse" in done.stdout
    assert "metrics.json" in done.stderr


def test_the_command_fails_with_one_message(in_empty_folder):
    done = CliRunner().invoke(main, ["evaluate", "nowhere"])
    assert done.exit_code == 1
    assert done.stderr.startswith("Error: nowhere: not a run folder (it does not exist)")
    assert done.stdout == ""


def test_an_evaluation_that_finds_no_room_leaves_the_earlier_one(tmp_path, monkeypatch):
    dataset = SceneDataset(scenes())
    run = make_run(tmp_path / "run", dataset, worn(scenes()))
    evaluate(run, dataset)
    earlier = {path.name: path.read_bytes() for path in run.path.glob("[a-z]*.*")}

    def full(path, value):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(runs, "write_json", full)
    with pytest.raises(OSError, match="No space left"):
        evaluate(run, dataset, boundary=True)
    assert {path.name: path.read_bytes() for path in run.path.glob("[a-z]*.*")} == earlier


def test_a_run_that_cannot_be_written_is_told_with_its_remedy(monkeypatch, tmp_path):
    def refused(self, *given, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refused)
    with (
        pytest.raises(RunError, match=r"cannot be written \(Permission denied\)\. Make it writable"),
        keeping.staging(tmp_path),
    ):
        pass
