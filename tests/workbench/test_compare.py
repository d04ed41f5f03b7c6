"""`workbench compare` and the gates: paired differences, refusals, exit codes."""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from tests.reference.scene_dataset import SceneDataset, make_run
from tests.reference.scenes import Listed, PanopticImage
from workbench.cli import main
from workbench.errors import EvaluationError, OptionError
from workbench.evaluation import compare as comparing
from workbench.evaluation import gates
from workbench.evaluation.compare import compare
from workbench.evaluation.evaluation import evaluate
from workbench.evaluation.resampling import Bootstrap
from workbench.runs import Run

LISTED = (Listed(1, 1), Listed(2, 2), Listed(7, 7))
SCENE = np.array([[1, 1, 1, 2, 2, 7], [1, 1, 1, 2, 2, 7], [0, 0, 0, 7, 7, 7]])
FEW = Bootstrap(resamples=50)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "cache"))


def scenes(count: int = 4, without: dict[int, int] | None = None) -> list[PanopticImage]:
    """Images with two things and a stuff segment; `without` says which segment an image lacks."""
    images = [PanopticImage(str(i), SCENE, LISTED) for i in range(count)]
    for index, gone in (without or {}).items():
        listed = tuple(entry for entry in LISTED if entry.id != gone)
        images[index] = replace(images[index], label_map=np.where(gone == SCENE, 0, SCENE), listed=listed)
    return images


def test_a_run_and_itself_differ_nowhere(tmp_path):
    dataset = SceneDataset(scenes())
    run = make_run(tmp_path / "run", dataset, scenes(without={1: 1, 2: 2}))
    report = compare(run, run, dataset, FEW).report
    rows = [*report["headlines"].values(), *(row for rows in report["per_category"].values() for row in rows.values())]
    known = [row for row in rows if row["a"] is not None]
    assert len(known) > 20
    for row in known:
        assert row["difference"] == row["b_better"] == 0.0
        assert row["interval"] in (None, {"low": 0.0, "high": 0.0})
    assert {row["difference"] for row in report["images"]} == {0.0}


def test_a_loss_on_one_image_in_four_worked_by_hand(tmp_path):
    """B lacks thing 1 of image 2: class 1 has 3 of 4, PQ 3 / 3.5; the mean over 3 classes falls by a third."""
    dataset = SceneDataset(scenes())
    a, b = make_run(tmp_path / "a", dataset, scenes()), make_run(tmp_path / "b", dataset, scenes(without={2: 1}))
    comparison = compare(a, b, dataset, Bootstrap(resamples=400))
    row = comparison.report["headlines"]["pq"]
    assert (row["a"], row["b"]) == (1.0, pytest.approx((2 + 3 / 3.5) / 3))
    assert row["difference"] == pytest.approx((3 / 3.5 - 1) / 3)
    assert row["b_better"] == 0.0
    # Image 2 comes k times of 4 draws: class 1 then has PQ (4 - k) / (4 - k / 2), and at 95 % k lies in 0..3.
    assert row["interval"] == {"low": pytest.approx((1 / 2.5 - 1) / 3), "high": 0.0}
    assert comparison.main == "pq"
    moved = comparison.report["per_category"]["pq"]
    assert [key for key, entry in moved.items() if entry["difference"]] == ["1"]
    first, *others = comparison.report["images"]
    assert first == {"image_id": "2", "a": 1.0, "b": pytest.approx(2 / 2.5), "difference": pytest.approx(-0.2)}
    assert all(image["difference"] == 0 for image in others)


def test_swapping_the_runs_swaps_the_signs(tmp_path):
    dataset = SceneDataset(scenes())
    a = make_run(tmp_path / "a", dataset, scenes(without={0: 2}))
    b = make_run(tmp_path / "b", dataset, scenes(without={2: 1, 3: 1}))
    there, back = compare(a, b, dataset, FEW).report, compare(b, a, dataset, FEW).report
    for name, row in there["headlines"].items():
        other = back["headlines"][name]
        assert (row["a"], row["b"]) == (other["b"], other["a"])
        if row["interval"]:
            assert row["interval"]["low"] == pytest.approx(-other["interval"]["high"], abs=1e-12)


def test_what_is_not_evaluated_is_evaluated_and_what_is_stays(tmp_path, monkeypatch):
    dataset = SceneDataset(scenes())
    a, b = make_run(tmp_path / "a", dataset, scenes()), make_run(tmp_path / "b", dataset, scenes())
    evaluate(a, dataset)
    scored: list[Path] = []
    monkeypatch.setattr(comparing, "evaluate", lambda run, *rest: scored.append(run.path) or evaluate(run, *rest))
    compare(a, b, dataset, FEW)
    compare(a, b, dataset, FEW)
    assert scored == [b.path]
    later = (b.path / "metrics.json").stat().st_mtime_ns + 1
    os.utime(b.path / "run.json", ns=(later, later))  # as when predictions were added since
    compare(a, b, dataset, FEW)
    assert scored == [b.path, b.path]


def test_runs_are_compared_on_the_images_that_both_have(tmp_path):
    dataset = SceneDataset(scenes())
    a = make_run(tmp_path / "a", dataset, scenes(without={3: 1}))
    b = make_run(tmp_path / "b", dataset, scenes()[:2], identity={"limit": 2})
    report = compare(a, b, dataset, FEW).report
    assert report["images_compared"] == 2
    assert report["headlines"]["pq"]["a"] == report["headlines"]["pq"]["b"] == 1.0
    assert any("2 of its images are left out" in note for note in report["notes"])


def test_other_tasks_and_datasets_are_refused(tmp_path, monkeypatch):
    dataset, other = SceneDataset(scenes()), SceneDataset(scenes())
    a, b = make_run(tmp_path / "a", dataset, scenes()), make_run(tmp_path / "b", other, scenes())
    semantic = make_run(tmp_path / "c", dataset, scenes(), task="semantic")
    with pytest.raises(EvaluationError, match="one task"):
        compare(a, semantic, dataset, FEW)
    own = {a.path: dataset, b.path: other}
    with monkeypatch.context() as patched:
        patched.setattr(Run, "dataset", property(lambda run: own[run.path]))
        for module in ("compare", "evaluation"):
            patched.setattr(f"workbench.evaluation.{module}.open_dataset", lambda definition: definition)
        with pytest.raises(EvaluationError, match="different versions of tiny"):
            compare(a, b, bootstrap=FEW)


def test_few_images_are_told(tmp_path):
    dataset = SceneDataset(scenes())
    run = make_run(tmp_path / "run", dataset, scenes())
    told = "intervals from 4 images are too narrow"
    assert not any(told in note for note in evaluate(run, dataset).notes)
    assert any(note.startswith(told) for note in compare(run, run, dataset, FEW).report["notes"])
    assert any(note.startswith(told) for note in evaluate(run, dataset, bootstrap=FEW).notes)


def test_strict_and_corrected_numbers_are_not_compared(tmp_path):
    dataset = SceneDataset(scenes())
    a, b = make_run(tmp_path / "a", dataset, scenes()), make_run(tmp_path / "b", dataset, scenes())
    evaluate(a, dataset)
    evaluate(b, dataset, corrected=True)
    with pytest.raises(EvaluationError, match="in the mode strict"):
        compare(a, b, dataset, FEW)


def test_stale_metrics_are_measured_again(tmp_path, monkeypatch):
    """Without --dataset the runs' own dataset decides: its annotations were corrected, or another one was scored."""
    own, other, corrected = (SceneDataset(images) for images in (scenes(without={0: 1}), scenes(), scenes()))
    runs = [make_run(tmp_path / name, own, scenes(without={0: 1})) for name in "ab"]
    monkeypatch.setattr(Run, "dataset", corrected.definition)
    for module in ("compare", "evaluation"):
        monkeypatch.setattr(f"workbench.evaluation.{module}.open_dataset", lambda definition: corrected)
    evaluate(runs[0], own)
    evaluate(runs[1], other)
    report = compare(*runs, bootstrap=FEW).report
    assert report["dataset"]["fingerprint"] == corrected.fingerprint()
    assert report["headlines"]["pq"]["a"] == report["headlines"]["pq"]["b"] < 1.0


def evaluated_pair(folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Run, Run]:
    """Two runs whose own dataset is found although it is no file."""
    dataset = SceneDataset(scenes())
    monkeypatch.setattr(Run, "dataset", dataset.definition)
    monkeypatch.setattr(comparing, "open_dataset", lambda definition: dataset)
    a = make_run(folder / "a", dataset, scenes())
    b = make_run(folder / "b", dataset, scenes(without={2: 1}))
    evaluate(a, dataset)
    evaluate(b, dataset)
    return a, b


def test_the_command_prints_tables_or_json(tmp_path, monkeypatch):
    a, b = evaluated_pair(tmp_path, monkeypatch)
    arguments = ["compare", str(a.path), str(b.path), "--resamples", "20"]
    tables = CliRunner().invoke(main, arguments)
    assert tables.exit_code == 0, tables.output
    for shown in ("Headline numbers", "pq by category", "Images that changed most", "100.00", "-4.76"):
        assert shown in tables.output
    printed = CliRunner().invoke(main, [*arguments, "--json"])
    report = json.loads(printed.stdout)
    assert {"a", "b", "task", "dataset", "headlines", "per_category", "images", "confidence", "seed"} <= set(report)
    assert report["headlines"]["pq"].keys() == {"a", "b", "difference", "interval", "b_better"}


@pytest.mark.parametrize(
    ("gate", "code", "message"),
    [
        (["--fail-if-worse", "0.01"], 1, "pq fell by 0.0476 to 0.9524, more than 0.01"),
        (["--fail-if-worse", "0.05"], 0, ""),
        (["--fail-if-worse", "miou=0.001"], 1, "miou fell by"),
        (["--fail-below", "PQ=0.99", "--fail-below", "miou=0"], 1, "pq is 0.9524, below 0.99"),
        (["--fail-below", "pq=0.9"], 0, ""),
        (["--fail-below", "moiu=0.9"], 2, "Did you mean 'miou'?"),
        (["--fail-below", "pq=55"], 2, "for 55 % write 0.55"),
        (["--fail-below", "pq"], 2, "is no number"),
        (["--fail-below", "0.5"], 2, "of which metric?"),
    ],
)
def test_gates_decide_the_exit_code(tmp_path, monkeypatch, gate, code, message):
    a, b = evaluated_pair(tmp_path, monkeypatch)
    result = CliRunner().invoke(main, ["compare", str(a.path), str(b.path), "--resamples", "10", *gate])
    assert result.exit_code == code, result.output
    assert message in result.output


def test_a_number_that_does_not_exist_passes_no_gate():
    assert gates.below({"APl": None}, [("APl", 0.1)]) == ["APl does not exist here, so it is not at least 0.1"]
    assert gates.worse({"pq": 0.5}, {"pq": None}, [(None, 0.1)], "pq") == ["pq does not exist any more, more than 0.1"]
    assert gates.worse({"pq": None}, {"pq": 0.1}, [(None, 0.1)], "pq") == []


def test_a_metric_that_was_not_measured_is_told():
    with pytest.raises(OptionError, match="no metric 'boundary_pq' here"):
        gates.below({"pq": 0.5}, gates.parse(["boundary_pq=0.1"], "--fail-below"))
