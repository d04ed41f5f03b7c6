"""`workbench sweep`: every number and row is that of a run made with the thresholds."""

import json
import re
import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray

import workbench
from eomt.candidates import panoptic_candidates
from eomt.post_processing import SegmentMap, panoptic_segments
from tests.reference.few_scenes import coco_scenes
from tests.reference.scene_dataset import SceneDataset, make_run
from tests.reference.scenes import Listed, PanopticImage, table_of
from tests.reference.segmentation_outputs import random_outputs, random_sizes
from workbench import runs
from workbench.cli import main
from workbench.errors import EvaluationError, OptionError, RunError
from workbench.evaluation import panoptic
from workbench.evaluation.columns import Segments, segments_of
from workbench.evaluation.overlaps import intersect
from workbench.evaluation.resampling import Bootstrap
from workbench.formats.base import Category, ImageRecord
from workbench.prediction.candidates import CandidateBuilder
from workbench.prediction.encode import PredictedImage, PredictedMap, ShardBuilder
from workbench.report.api import report
from workbench.runs import Run
from workbench.sweeping import contests, grid
from workbench.sweeping.api import Sweep
from workbench.sweeping.applying import apply
from workbench.sweeping.contests import candidates_of
from workbench.sweeping.curve import OPTIMISTIC, Setting, best_of, held_out_json
from workbench.sweeping.merging import as_segments, merge, overlaps_of

IMAGES = 14
SIZE = {"shortest_edge": 64, "longest_edge": 64}
THRESHOLDS = (0.45, 0.6, 0.8, 0.97)
OVERLAPS = (0.5, 0.8, 0.95)


def predict(out: Path, **options: Any) -> Run:
    return workbench.predict("scenes_val", **{"out": out, "limit": IMAGES, "progress": False, **options})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sweep")


@pytest.fixture(scope="module")
def run(folder: Path) -> Run:
    return predict(folder / "kept", keep_candidates=True)


@pytest.fixture(scope="module")
def swept(run: Run) -> Sweep:
    return workbench.sweep(run, THRESHOLDS, OVERLAPS)


def point(report: Any, threshold: float, overlap: float | None = None) -> dict[str, Any]:
    (found,) = [
        each for each in report["points"] if each["threshold"] == threshold and each.get("overlap_threshold") == overlap
    ]
    return dict(found)


@pytest.mark.parametrize(("threshold", "overlap"), [(0.45, 0.5), (0.6, 0.95), (0.8, 0.8), (0.97, 0.5)])
def test_rows_and_numbers_are_those_of_a_fresh_prediction(
    swept: Sweep, folder: Path, threshold: float, overlap: float
) -> None:
    fresh = predict(folder / f"fresh-{threshold}-{overlap}", threshold=threshold, overlap_threshold=overlap)
    applied = swept.apply(folder / f"applied-{threshold}-{overlap}", Setting(threshold, overlap))
    assert applied.segments().equals(fresh.segments())
    assert applied.images().equals(fresh.images())
    assert applied.manifest["identity"] == fresh.manifest["identity"]
    assert applied.complete
    found = point(swept.report, threshold, overlap)
    scored = workbench.evaluate(fresh).metrics["panoptic"]
    for mean, suffix in (("all", ""), ("things", "_things"), ("stuff", "_stuff")):
        for name in ("pq", "sq", "rq"):
            assert found[f"{name}{suffix}"] == scored[mean][name]
    for name in ("tp", "fp", "fn"):
        assert found[name] == sum(category[name] for category in scored["per_category"].values())
    frame = swept.table.to_pandas()
    frame = frame[(frame["threshold"] == threshold) & (frame["overlap_threshold"] == overlap)]
    for row in frame[frame["category_id"].notna()].itertuples():
        expected = scored["per_category"][str(int(row.category_id))]
        assert (row.name, row.pq, row.tp, row.fn) == (
            expected["name"],
            *(expected[name] for name in ("pq", "tp", "fn")),
        )


def test_a_run_at_its_own_thresholds_is_the_run(swept: Sweep, run: Run, folder: Path) -> None:
    applied = swept.apply(folder / "own", Setting(0.8, 0.8))
    assert applied.segments().equals(run.segments())
    assert applied.manifest["provenance"]["made_by"]["sweep"] == str(run.path)
    assert applied.manifest["provenance"]["model"] == run.manifest["provenance"]["model"]
    assert swept.report["current"] == point(swept.report, 0.8, 0.8)


def test_the_gain_and_its_interval_are_those_of_comparing_the_two_runs(swept: Sweep, run: Run, folder: Path) -> None:
    assert swept.report["best"] == max(swept.report["points"], key=lambda each: each["pq"])
    best = swept.apply(folder / "best")
    compared = workbench.compare(run, best).report["headlines"]["pq"]
    gain = swept.report["gain"]
    assert gain["difference"] == compared["difference"] > 0
    assert gain["interval"] == compared["interval"]
    assert OPTIMISTIC in swept.report["notes"]


def test_what_is_kept_can_be_read_by_anyone(swept: Sweep, run: Run) -> None:
    assert json.loads((run.path / "sweep.json").read_text()) == swept.report
    frame = pd.read_parquet(run.path / "sweep.parquet")
    whole = frame[frame["category_id"].isna()]
    assert len(whole) == len(THRESHOLDS) * len(OVERLAPS)
    assert whole["pq"].tolist() == [each["pq"] for each in swept.report["points"]]


def test_thresholds_by_default_begin_at_the_floor_and_hold_the_runs_own(folder: Path) -> None:
    kept = predict(folder / "high", limit=3, threshold=0.77, overlap_threshold=0.83, candidate_floor=0.6)
    report = workbench.sweep(kept).report
    thresholds = sorted({each["threshold"] for each in report["points"]})
    assert thresholds == [0.6, 0.65, 0.7, 0.75, 0.77, 0.8, 0.85, 0.9, 0.95]
    assert sorted({each["overlap_threshold"] for each in report["points"]}) == [0.5, 0.6, 0.7, 0.8, 0.83, 0.9]
    assert (report["current"]["threshold"], report["current"]["overlap_threshold"]) == (0.77, 0.83)
    assert report["held_out"] is None  # three images make no folds
    assert any("3 images are too narrow" in note for note in report["notes"])
    with pytest.raises(OptionError, match=r"0\.5 is below 0\.6, .* again with --candidate-floor 0\.5"):
        workbench.sweep(kept, "0.5,0.7")


def test_a_report_draws_the_curve_of_a_run_that_was_swept_and_no_other(run: Run, folder: Path, tmp_path: Path) -> None:
    workbench.sweep(run, THRESHOLDS, OVERLAPS)
    page = report([run], out=tmp_path / "swept", tiles=0)
    (content,) = page.contents
    swept = json.loads((run.path / "sweep.json").read_text())
    assert content.thresholds is not None
    assert content.thresholds.best == (swept["best"]["threshold"], swept["best"]["pq"])
    assert content.thresholds.held_out == swept["held_out"]["pq"]
    now = content.thresholds.lines["overlap threshold 0.8"]
    assert now == tuple((t, point(swept, t, 0.8)["pq"]) for t in THRESHOLDS)
    assert "PQ over the threshold of the score" in page.html.read_text()
    assert "--candidate-floor 0.05" in content.commands[0]

    for damaged in ("{", "[]", json.dumps({**swept, "points": None})):
        (run.path / "sweep.json").write_text(damaged)
        with pytest.raises(RunError, match=r"sweep\.json: cannot be read.*workbench sweep"):
            report([run], out=tmp_path / "damaged", tiles=0)
    (run.path / "sweep.json").write_text(json.dumps(swept))

    other = predict(folder / "unswept", limit=3)
    shutil.copy(run.path / "sweep.json", other.path / "sweep.json")
    (content,) = report([other], out=tmp_path / "other", tiles=0).contents
    assert content.thresholds is None


# Any outputs at all, by the definitions.

CATEGORIES = [Category(1, "one", True, (0, 0, 0)), Category(2, "two", True, (0, 0, 0))]
CATEGORIES += [Category(category_id, f"stuff {category_id}", False, (0, 0, 0)) for category_id in (7, 9)]


def random_truth(seed: int, index: int, guess: SegmentMap) -> PanopticImage:
    """The prediction shifted, with void, crowds and other categories: some of it matches."""
    generator = np.random.default_rng([seed, index])
    labels = np.roll(guess.segment_map.numpy(), generator.integers(0, 4), axis=generator.integers(0, 2)) + 1
    labels[: generator.integers(0, 5)] = 0
    ids = [int(label) for label in np.unique(labels) if label]
    right = [CATEGORIES[int(guess.class_index[label - 1])].category_id for label in ids]
    listed = [
        Listed(label, category if generator.random() < 0.9 else 1, iscrowd=bool(generator.random() < 0.2))
        for label, category in zip(ids, right, strict=True)
    ]
    return PanopticImage(str(index), labels.astype(np.int64), tuple(listed))


def expected_rows(
    outputs: SimpleNamespace, sizes: Sequence[tuple[int, int]], threshold: float, overlap: float
) -> pa.Table:
    options = {"threshold": threshold, "overlap_mask_area_threshold": overlap}
    maps = panoptic_segments(outputs, sizes, SIZE, **options, stuff_classes={2, 3})
    builder = ShardBuilder(CATEGORIES)
    for index, each in enumerate(maps):
        outcome = PredictedMap(each.segment_map.numpy(), each.class_index, each.scores)
        builder.add(PredictedImage(ImageRecord(str(index), f"{index}.jpg", Path(f"{index}.jpg"), index), outcome))
    return builder.build()[0]


@pytest.mark.parametrize("compiled", [True, False], ids=["compiled", "numpy"])
@pytest.mark.parametrize("seed", range(4))
def test_matches_are_those_of_the_segments_that_post_processing_makes(
    seed: int, compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not compiled:
        monkeypatch.setattr(contests, "_kernels", lambda: None)
    outputs = random_outputs(seed, rows=4, classes=4)
    outputs.class_queries_logits[2, :, -1] = 50.0  # an image without candidates
    sizes, ids = random_sizes(seed, 4, least=20, most=90), [str(index) for index in range(4)]
    builder = CandidateBuilder(CATEGORIES)
    found = panoptic_candidates(outputs, sizes, SIZE, floor=0.1)
    guesses = panoptic_segments(outputs, sizes, SIZE, threshold=0.5, overlap_mask_area_threshold=0.0)
    for index, each in enumerate(found):
        outcome = PredictedMap(guesses[index].segment_map.numpy(), each.class_index, each.scores, each)
        builder.add(PredictedImage(ImageRecord(str(index), "", Path(), index), outcome))
    candidates = candidates_of(builder.build(), ids)
    truth = [random_truth(seed, i, guess) for i, guess in enumerate(guesses)]
    gt = segments_of(table_of(truth), ids)
    thresholds = (0.1, 0.3, 0.5, 0.7, 0.9, 1.0)
    assert len(next(contests.contests(candidates, gt, [1.0])).kept) == 0
    matched = 0
    for threshold, contest in zip(thresholds, contests.contests(candidates, gt, thresholds), strict=True):
        for overlap in (0.0, 0.5, 0.8):
            expected = segments_of(expected_rows(outputs, sizes, threshold, overlap), ids)
            merged = merge(candidates, contest, overlap)
            ours, pairs = as_segments(candidates, contest, merged), overlaps_of(contest, merged)
            assert_same(ours, expected)
            theirs = intersect(gt, expected)
            for name in ("first", "second", "pixels"):
                assert getattr(pairs, name).tolist() == getattr(theirs, name).tolist()
            matches = panoptic.match(gt, ours, pairs)
            reference = panoptic.match(gt, expected, theirs)
            assert matches.iou.tolist() == reference.iou.tolist()
            assert matches.false.tolist() == reference.false.tolist()
            matched += len(matches.iou)
    assert matched > 5


def assert_same(ours: Segments, expected: Segments) -> None:
    for name in ("image", "segment_id", "ordinal", "category_id", "score", "area", "height", "width"):
        assert getattr(ours, name).tolist() == getattr(expected, name).tolist(), name


# Instances.


@pytest.fixture(scope="module")
def instances(folder: Path) -> Run:
    return predict(folder / "instances", task="instance")


def test_counts_of_instances_are_those_of_a_run_with_the_threshold(instances: Run, folder: Path) -> None:
    swept = workbench.sweep(instances, "0.05,0.3,0.7")
    assert [each["threshold"] for each in swept.report["points"]] == [0.0, 0.05, 0.3, 0.7]
    fresh = predict(folder / "fresh-instances", task="instance", threshold=0.3)
    applied = swept.apply(folder / "applied-instances", Setting(0.3))
    assert applied.segments().equals(fresh.segments())
    assert applied.manifest["identity"] == fresh.manifest["identity"]
    workbench.evaluate(fresh)
    rows = fresh.matches().to_pandas()
    predicted = rows[rows["kind"] == "prediction"]["status"].value_counts()
    truth = rows[rows["kind"] == "ground_truth"]["status"].value_counts()
    found = point(swept.report, 0.3)
    tp, fp, fn = int(predicted["tp"]), int(predicted["fp"]), int(truth["fn"])
    assert (found["tp"], found["fp"], found["fn"]) == (tp, fp, fn)
    assert found["precision"] == tp / (tp + fp)
    assert found["recall"] == tp / (tp + fn)
    assert found["f1"] == 2 * tp / (2 * tp + fp + fn)


def test_each_category_gets_its_own_best_threshold(instances: Run) -> None:
    swept = workbench.sweep(instances, "0:0.9:0.1")
    frame = swept.table.to_pandas()
    frame = frame[frame["category_id"].notna() & frame["f1"].notna()]
    best = {row["category_id"]: row for row in swept.report["best_by_category"]}
    assert len(best) > 3
    for category_id, rows in frame.groupby("category_id"):
        assert best[int(category_id)]["f1"] == rows["f1"].max()
        assert best[int(category_id)]["threshold"] == rows[rows["f1"] == rows["f1"].max()]["threshold"].min()


def test_thresholds_that_an_instance_run_cannot_give_are_refused(folder: Path, instances: Run) -> None:
    with pytest.raises(OptionError, match="--overlaps has no meaning for an instance run"):
        workbench.sweep(instances, overlaps=0.5)
    cut = workbench.sweep(instances, "0.5").apply(folder / "cut", Setting(0.5))
    with pytest.raises(OptionError, match=r"0\.3 is below 0\.5, .* again with --threshold 0\.3"):
        workbench.sweep(cut, 0.3)


# Choosing.


class Counts:
    """A curve whose main number is a mean over images: (points, images)."""

    main = "mean"

    def __init__(self, values: NDArray[np.float64]) -> None:
        self.values = values
        self.settings = [Setting(threshold) for threshold in range(len(values))]
        self.images = values.shape[1]

    def value(self, point: int, images: NDArray[np.bool_] | None = None) -> float | None:
        chosen = self.values[point] if images is None else self.values[point][images]
        return float(chosen.mean()) if len(chosen) else None

    def joined(self, points: Sequence[int], images: Sequence[NDArray[np.bool_]]) -> float | None:
        parts = [self.values[point][part] for point, part in zip(points, images, strict=True)]
        return float(np.concatenate(parts).mean())

    def samples(self, points: Sequence[int], bootstrap: Bootstrap) -> list[NDArray[np.float64]]:
        raise NotImplementedError

    def numbers(self, point: int) -> dict[str, float | int | None]:
        raise NotImplementedError

    def category_rows(self, point: int) -> pa.Table:
        raise NotImplementedError


def test_of_equal_settings_the_current_one_is_the_best() -> None:
    curve = Counts(np.array([[0.1, 0.3], [0.4, 0.4], [0.4, 0.4]]))
    assert best_of(curve, None) == 1
    assert best_of(curve, 2) == 2
    assert best_of(curve, 0) == 1


def test_a_choice_that_is_chance_is_worth_nothing_on_other_images() -> None:
    noise = np.random.default_rng(1).normal(0.5, 0.1, (40, 60))
    curve = Counts(noise)
    best = max(curve.value(each) or 0.0 for each in range(40))
    held_out = held_out_json(curve, None, seed=0)
    assert held_out is not None
    assert best > 0.52
    assert held_out["mean"] < best - 0.01
    assert len(held_out["chosen"]) == held_out["folds"] == 5


def test_a_choice_that_is_right_everywhere_is_worth_all_of_it() -> None:
    curve = Counts(np.array([[0.2] * 10, [0.9] * 10]))
    held_out = held_out_json(curve, 0, seed=0)
    assert held_out is not None
    assert held_out["mean"] == pytest.approx(0.9)
    assert held_out_json(Counts(np.ones((2, 9))), 0, seed=0) is None


# What cannot be swept.


def test_a_run_without_candidates_names_the_command_that_keeps_them(folder: Path) -> None:
    plain = predict(folder / "plain", limit=2)
    with pytest.raises(RunError, match=r"workbench predict --dataset scenes_val --model .* --keep-candidates"):
        workbench.sweep(plain)


def test_the_command_names_a_dataset_outside_the_catalog_by_its_path(tmp_path: Path) -> None:
    definition = coco_scenes(tmp_path / "my scenes", 1)
    plain = workbench.predict(definition, model="eomt_scenes_panoptic", out=tmp_path / "run", progress=False)
    with pytest.raises(RunError, match=re.escape(f"--dataset {shlex.quote(str(definition))} --model")):
        workbench.sweep(plain)


def test_a_semantic_run_has_nothing_to_sweep(folder: Path) -> None:
    semantic = predict(folder / "semantic", limit=2, task="semantic")
    with pytest.raises(EvaluationError, match="a semantic run has no threshold to choose"):
        workbench.sweep(semantic)


def test_a_run_without_images_has_nothing_to_sweep(tmp_path: Path) -> None:
    dataset = SceneDataset([PanopticImage("1", np.ones((3, 4), np.int64), (Listed(1, 1),))])
    empty = make_run(tmp_path / "empty", dataset, [], identity={"candidate_floor": 0.05})
    with pytest.raises(EvaluationError, match="it holds no image yet"):
        workbench.sweep(empty, dataset=dataset)


def test_images_without_ground_truth_of_the_task_are_an_error(tmp_path: Path) -> None:
    definition = coco_scenes(tmp_path / "scenes", 2)
    kept = workbench.predict(
        definition, model="eomt_scenes_panoptic", out=tmp_path / "run", keep_candidates=True, progress=False
    )
    with pytest.raises(EvaluationError, match="sweeping a panoptic run needs panoptic ground truth"):
        workbench.sweep(kept)


def test_a_run_that_cannot_be_written_is_swept_into_another_folder(run: Run, tmp_path: Path) -> None:
    with runs.lock(run.path):
        workbench.sweep(run, 0.8, 0.8, out=tmp_path / "out")
        with pytest.raises(RunError, match="in use by process"):
            workbench.sweep(run, 0.8, 0.8)
    assert (tmp_path / "out" / "sweep.json").exists()
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match=r"file: cannot be written .* with --out"):
        workbench.sweep(run, 0.8, 0.8, out=tmp_path / "file")


def test_only_a_complete_run_and_a_setting_that_it_knows_can_be_applied(
    swept: Sweep, run: Run, folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(OptionError, match=r"thresholds from 0\.05 to 1, not 0\.01"):
        swept.apply(tmp_path / "low", Setting(0.01, 0.8))
    with pytest.raises(OptionError, match="panoptic ones alone have an overlap"):
        swept.apply(tmp_path / "none", Setting(0.5))
    with pytest.raises(RunError, match=r"another run is there\. Name another folder with --apply"):
        swept.apply(run.path, Setting(0.5, 0.5))
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match=r"a file, not a run folder\. Name another folder with --apply"):
        swept.apply(tmp_path / "file", Setting(0.5, 0.5))
    (tmp_path / "file").unlink()
    half = Run(run.path, {**run.manifest, "status": "incomplete"})
    with pytest.raises(RunError, match="incomplete, so no run can be made of it"):
        apply(half, Setting(0.5, 0.5), tmp_path / "half")
    assert list(tmp_path.iterdir()) == []


def test_two_fine_grids_together_are_refused(run: Run) -> None:
    with pytest.raises(OptionError, match="951 x 101 values make 96051 points, more than 10000"):
        workbench.sweep(run, "0.05:1:0.001", "0:1:0.01")


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("0.5", (0.5,)),
        ("0.8,0.5, 0.8", (0.5, 0.8)),
        ("0.1:0.7:0.1", (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)),
        ("0.2:0.5:0.2,1", (0.2, 0.4, 1.0)),
        (0.25, (0.25,)),
        ([0.9, 0], (0.0, 0.9)),
    ],
)
def test_a_grid_is_read_as_it_is_written(text: Any, values: tuple[float, ...]) -> None:
    assert grid.parse(text, "--thresholds") == values


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "'' is neither a number nor a range"),
        ("high", "'high' is neither a number nor a range. Write for instance"),
        ("nan", "'nan' is neither"),
        ("0.1:0.9", "'0.1:0.9' is no range. Write first:last:step"),
        ("0.1:0.9:0", "no range"),
        ("0.9:0.1:0.1", "no range"),
        ("0:1:0.0001", "10001 values, more than 1000"),
        ("0.5,1.5", "1.5 lies outside 0 to 1"),
        ([], "no value is given"),
        ([float("nan")], "nan lies outside"),
    ],
)
def test_a_grid_that_makes_no_sense_is_refused(text: Any, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        grid.parse(text, "--thresholds")


# The command.


def test_the_command_marks_now_and_best_and_writes_the_best_run(swept: Sweep, run: Run, tmp_path: Path) -> None:
    options = ["--thresholds", "0.45,0.8,0.97", "--overlaps", "0.5,0.8"]
    arguments = ["sweep", str(run.path), *options, "--out", str(tmp_path / "out"), "--apply", str(tmp_path / "best")]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "out" / "sweep.json").read_text())
    lines = result.stdout.splitlines()
    now, best = (f"{name} {100 * report[key]['pq']:.2f}" for name, key in (("now", "current"), ("best", "best")))
    assert any(line.strip().startswith("0.8") and now in line for line in lines)
    assert any(best in line for line in lines)
    assert f"Best less now: {100 * report['gain']['difference']:+.2f} points of PQ" in result.stdout
    assert "Chosen on four fifths of the images" in result.stdout
    assert OPTIMISTIC in result.stderr
    assert Run.open(tmp_path / "best").manifest["identity"]["threshold"] == report["best"]["threshold"]
    assert max(map(len, lines)) <= 110
    as_json = CliRunner().invoke(main, ["sweep", str(run.path), *options, "--out", str(tmp_path / "out"), "--json"])
    assert json.loads(as_json.stdout) == {**report, "provenance": json.loads(as_json.stdout)["provenance"]}


def test_the_command_shows_instances_by_category(instances: Run, tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["sweep", str(instances.path), "--out", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert "F1 at IoU 0.5 by threshold" in result.stdout
    assert "Best threshold by category" in result.stdout


def test_a_misuse_exits_with_2_and_one_line(run: Run) -> None:
    result = CliRunner().invoke(main, ["sweep", str(run.path), "--thresholds", "0.1:0.9"])
    assert result.exit_code == 2
    assert "--thresholds: '0.1:0.9' is no range" in result.stderr
