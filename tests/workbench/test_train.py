"""Training from end to end: the same seed is the same curve, whatever stops it; what it leaves is what it says."""

import csv
import json
import os
import shutil
import signal
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import workbench
from eomt import EomtForUniversalSegmentation
from tests.reference.oracles import transformers_processors
from tests.reference.sessions import start, wait_for
from tests.reference.tiny_training import tiny_config
from workbench.errors import OptionError, RunError
from workbench.prediction.interrupt import Interrupted
from workbench.progress import clock
from workbench.training import folder
from workbench.training import history as history_module
from workbench.training.api import Training
from workbench.training.progress import BarProgress, LineProgress, TrainingProgress, losses

SHORT: Mapping[str, Any] = {"steps": 6, "batch_size": 2, "log_every": 1, "progress": False}


@pytest.fixture
def tiny(in_empty_folder: Path) -> Path:
    return tiny_config(in_empty_folder)


def weights(training: Training) -> dict[str, Tensor]:
    return load_file(training.last / "model.safetensors")


def curve(training: Training) -> list[dict[str, Any]]:
    return [{name: value for name, value in line.items() if name != "images_per_second"} for line in training.history]


def equal(one: Training, other: Training) -> bool:
    a, b = weights(one), weights(other)
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a) and curve(one) == curve(other)


class StopAt(TrainingProgress):
    """Sends the process a Ctrl-C after some step."""

    def __init__(self, step: int) -> None:
        self.stop_at = step

    def advance(self, values: Mapping[str, float]) -> None:
        super().advance(values)
        if self.step == self.stop_at:
            os.kill(os.getpid(), signal.SIGINT)


def test_the_same_seed_is_the_same_curve_with_any_number_of_workers(tiny: Path) -> None:
    first = workbench.train("scenes_val", config=tiny, out="first", **SHORT)
    again = workbench.train("scenes_val", config=tiny, out="again", workers=2, **SHORT)
    other = workbench.train("scenes_val", config=tiny, out="other", seed=1, **SHORT)
    assert equal(first, again)
    assert not equal(first, other)
    assert len(first.history) == 6 and [line["step"] for line in first.history] == [1, 2, 3, 4, 5, 6]


def test_saving_validating_and_gradient_checkpointing_change_nothing(tiny: Path) -> None:
    plain = workbench.train("scenes_val", config=tiny, out="plain", **SHORT)
    busy = workbench.train(
        "scenes_val", config=tiny, out="busy", val="scenes_val", eval_every=2, eval_limit=2, save_every=1,
        gradient_checkpointing=True, **SHORT
    )  # fmt: skip
    assert all(torch.equal(weights(plain)[key], weights(busy)[key]) for key in weights(plain))


def test_a_resume_after_kill_9_gives_the_weights_and_the_curve_of_an_undisturbed_training(tiny: Path) -> None:
    options: dict[str, Any] = {"steps": 40, "batch_size": 2, "ema": 0.9, "log_every": 3, "save_every": 2}
    options |= {"dense_weight": 2.0, "dense_until": 1.0}
    undisturbed = workbench.train("scenes_val", config=tiny, out="undisturbed", progress=False, **options)
    flags = [text for name, value in options.items() for text in ("--" + name.replace("_", "-"), str(value))]
    arguments = ("--dataset", "scenes_val", "--config", tiny, *flags, "--out", "killed")
    process = start(tiny.parent, ["train", *map(str, arguments)])
    state = tiny.parent / "killed" / "state.pt"
    assert wait_for(state, process), "the training ended before it could be killed"
    process.kill()
    process.join()
    step = torch.load(state, weights_only=True)["training"]["step"]
    assert 0 < step < 40
    resumed = workbench.train("scenes_val", config=tiny, out="killed", progress=False, **options)
    assert equal(undisturbed, resumed)
    assert resumed.summary()["status"] == "complete"


def test_ctrl_c_saves_the_step_and_the_same_call_goes_on(tiny: Path) -> None:
    undisturbed = workbench.train("scenes_val", config=tiny, out="undisturbed", **SHORT)
    with pytest.raises(Interrupted, match=r"3 of 6 steps are in stopped\. Run the same command again"):
        workbench.train("scenes_val", config=tiny, out="stopped", **{**SHORT, "progress": StopAt(3)})
    assert Training(Path("stopped")).summary()["status"] == "incomplete"
    assert equal(undisturbed, workbench.train("scenes_val", config=tiny, out="stopped", **SHORT))


def test_a_stop_during_validation_and_a_lost_checkpoint_are_made_up_for(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {**SHORT, "val": "scenes_val", "eval_every": 3, "eval_limit": 2}
    from workbench.training import loop

    real = loop.validate

    def stopped(*arguments: Any) -> tuple[str, float]:
        raise Interrupted("the prediction's own words")

    monkeypatch.setattr(loop, "validate", stopped)
    with pytest.raises(Interrupted, match="3 of 6 steps are in out"):
        workbench.train("scenes_val", config=tiny, out="out", **options)
    shutil.rmtree("out/last")  # as if a crash had come between the state and the checkpoint
    monkeypatch.setattr(loop, "validate", real)
    resumed = workbench.train("scenes_val", config=tiny, out="out", **options)
    assert [line["step"] for line in resumed.history if "metric" in line] == [3, 6]


@pytest.mark.parametrize(("task", "metric"), [("panoptic", "PQ"), ("instance", "AP"), ("semantic", "mIoU")])
def test_validation_is_what_predict_and_evaluate_say_of_the_checkpoint(tiny: Path, task: str, metric: str) -> None:
    trained = workbench.train(
        "scenes_val", val="scenes_val", config=tiny, task=task, out="out", eval_limit=6, eval_every=3, ema=0.5, **SHORT
    )
    scored = [line for line in trained.history if "metric" in line]
    assert [line["metric"] for line in scored] == [metric, metric]
    run = workbench.predict("scenes_val", model=trained.last, limit=6, batch_size=2, progress=False)
    assert run.task == task  # as the checkpoint says
    metrics = workbench.evaluate(run).metrics
    value = {
        "panoptic": lambda: metrics["panoptic"]["all"]["pq"],
        "instance": lambda: metrics["instance"]["segm"]["AP"],
        "semantic": lambda: metrics["semantic"]["miou"],
    }[task]()
    assert scored[-1]["value"] == value
    assert trained.summary()["value"] == max(line["value"] for line in scored)


def test_the_best_checkpoint_is_the_one_that_scored_highest(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from workbench.training import loop

    scores = iter([0.2, 0.6, 0.6, 0.1])
    kept = {}

    def validate(plan: Any, checkpoint: Path, folder: Path) -> tuple[str, float]:
        value = next(scores)
        kept[value] = kept.get(value) or (checkpoint / "model.safetensors").read_bytes()
        return "PQ", value

    monkeypatch.setattr(loop, "validate", validate)
    options = {**SHORT, "steps": 4, "val": "scenes_val", "eval_every": 1}
    trained = workbench.train("scenes_val", config=tiny, out="out", **options)
    assert (trained.best / "model.safetensors").read_bytes() == kept[0.6]
    assert trained.summary()["step"] == 2
    assert "PQ 60.00" in (trained.best / "README.md").read_text()


def test_a_checkpoint_is_in_the_published_layout(tiny: Path) -> None:
    transformers_processors()
    import transformers

    trained = workbench.train("scenes_val", config=tiny, out="out", **SHORT)
    files = {path.name for path in trained.last.iterdir()}
    assert files == {"README.md", "config.json", "model.safetensors", "preprocessor_config.json"}
    ours = EomtForUniversalSegmentation.from_pretrained(trained.last)
    theirs = transformers.EomtForUniversalSegmentation.from_pretrained(trained.last)
    image = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        mine, reference = ours(image), theirs.eval()(image)
    assert torch.allclose(mine.masks_queries_logits, reference.masks_queries_logits, atol=1e-4)
    assert torch.allclose(mine.class_queries_logits, reference.class_queries_logits, atol=1e-4)
    assert ours.attn_mask_probs.tolist() == [0, 0]  # annealed away
    card = (trained.last / "README.md").read_text()
    assert "panoptic segmentation" in card and "6 of 6, 2 images each" in card and "person, car, boat" in card
    assert str(Path.cwd()) not in card


def test_the_average_of_the_weights_is_what_is_saved(tiny: Path) -> None:
    plain = workbench.train("scenes_val", config=tiny, out="plain", **SHORT)
    average = workbench.train("scenes_val", config=tiny, out="average", ema=0.9, **SHORT)
    assert curve(plain) == curve(average)
    assert not torch.equal(weights(plain)["query.weight"], weights(average)["query.weight"])


def test_the_csv_is_the_json_lines(tiny: Path) -> None:
    trained = workbench.train(
        "scenes_val", val="scenes_val", config=tiny, out="out", eval_limit=2, eval_every=3, **SHORT
    )
    with (trained.path / "history.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(trained.history) == 6 + 2
    for row, line in zip(rows, trained.history, strict=True):
        assert {name: value for name, value in row.items() if value} == {name: str(v) for name, v in line.items()}


def test_the_loss_is_the_sum_of_its_parts_and_the_lines_are_means(tiny: Path) -> None:
    each = workbench.train("scenes_val", config=tiny, out="each", **SHORT).history
    pairs = workbench.train("scenes_val", config=tiny, out="pairs", **{**SHORT, "log_every": 2}).history
    for line in each:
        parts = line["loss_mask"] + line["loss_dice"] + line["loss_cross_entropy"]
        assert line["loss"] == pytest.approx(parts, rel=1e-5)
    assert pairs[1]["loss"] == pytest.approx((each[2]["loss"] + each[3]["loss"]) / 2)
    assert pairs[1]["lr_heads"] == each[3]["lr_heads"] and pairs[1]["epoch"] == pytest.approx(8 / 60, abs=1e-4)


def test_the_recipes_numbers_reach_the_training(tiny: Path) -> None:
    options = {"betas": (0.8, 0.98), "annealing": (0.0, 0.5), "lr_end": 0.5, "dense_weight": 2.0, "dense_until": 0.5}
    training = workbench.train("scenes_val", config=tiny, out="out", **options, **SHORT)
    recipe = json.loads((training.path / "train.json").read_text())["identity"]["recipe"]
    assert recipe["betas"] == [0.8, 0.98] and recipe["annealing_span"] == [0, 0.5] and recipe["end_share"] == 0.5
    assert recipe["dense_weight"] == 2 and recipe["dense_until"] == 0.5
    dense = [line["loss_dense"] for line in training.history]
    assert min(dense[:3]) > 0 and dense[3:] == [0, 0, 0]
    for line in training.history:
        parts = line["loss_mask"] + line["loss_dice"] + line["loss_cross_entropy"] + line["loss_dense"]
        assert line["loss"] == pytest.approx(parts, rel=1e-5)
    assert "dense" not in " ".join(weights(training))


def test_a_finished_training_is_not_repeated(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trained = workbench.train("scenes_val", config=tiny, **SHORT)
    assert trained.path == Path("trainings/scenes_val-panoptic-tiny")
    written = (trained.last / "model.safetensors").stat().st_mtime_ns
    again = workbench.train("scenes_val", config=tiny, **{**SHORT, "progress": True})
    assert again.path == trained.path and (trained.last / "model.safetensors").stat().st_mtime_ns == written
    assert "complete already" in capsys.readouterr().err
    anew = workbench.train("scenes_val", config=tiny, resume=False, **SHORT)
    assert anew.path == Path("trainings/scenes_val-panoptic-tiny-2")


def test_another_training_never_touches_a_folder(tiny: Path) -> None:
    workbench.train("scenes_val", config=tiny, out="out", **SHORT)
    with pytest.raises(RunError, match=r"recipe.learning_rate is 0.0005 there, 0.001 now"):
        workbench.train("scenes_val", config=tiny, out="out", lr=1e-3, **SHORT)
    with pytest.raises(RunError, match="a training is there already"):
        workbench.train("scenes_val", config=tiny, out="out", resume=False, **SHORT)
    Path("letters").mkdir()
    (Path("letters") / "mother.txt").write_text("dear")
    with pytest.raises(RunError, match="not empty and no training"):
        workbench.train("scenes_val", config=tiny, out="letters", **SHORT)


def test_a_damaged_state_is_told(tiny: Path) -> None:
    with pytest.raises(Interrupted):
        workbench.train("scenes_val", config=tiny, out="out", **{**SHORT, "progress": StopAt(3)})
    Path("out/state.pt").write_bytes(b"no zip archive")
    with pytest.raises(RunError, match=r"state\.pt: not readable"):
        workbench.train("scenes_val", config=tiny, out="out", **SHORT)


def test_tensorboard_gets_the_curve_where_it_is_installed(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[tuple[str, float, int]] = []
    board = SimpleNamespace(
        add_scalar=lambda *values: shown.append(values), close=lambda: shown.append(("close", 0, 0))
    )
    monkeypatch.setattr(history_module, "_tensorboard", lambda folder, step: board)
    trained = workbench.train(
        "scenes_val", val="scenes_val", config=tiny, out="out", eval_limit=2, eval_every=3, **SHORT
    )
    assert [value for tag, value, _ in shown if tag == "training/loss"] == [
        line["loss"] for line in trained.history if "loss" in line
    ]
    assert ("validation/PQ", trained.history[-1]["value"], 6) in shown and shown[-1][0] == "close"


def test_an_unfinished_line_of_history_is_dropped(tmp_path: Path) -> None:
    lines = [json.dumps({"step": step, "epoch": 0.0, "loss": 1.0}) for step in (1, 2, 3)]
    (tmp_path / "history.jsonl").write_text("\n".join(lines) + '\n{"step": 4, "lo')
    history = history_module.History(tmp_path, step=2)
    assert [entry["step"] for entry in history.entries] == [1, 2]
    history.add({"step": 3, "epoch": 0.0, "loss": float("nan")})
    assert history_module.read_entries(tmp_path / "history.jsonl")[-1] == {"step": 3, "epoch": 0.0, "loss": None}


def test_lines_tell_loss_parts_speed_and_time_left(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    workbench.train("scenes_val", config=tiny, out="out", **{**SHORT, "progress": LineProgress()})
    told = capsys.readouterr().err
    assert "12 classes: 12 new" in told and "Without --val nothing is validated" in told
    last = next(line for line in told.splitlines() if line.startswith("step 6/6"))
    for part in ("loss ", "mask ", "dice ", "class ", "images/s", "0:00 left"):
        assert part in last


def test_the_bar_goes_on_from_an_earlier_session(capsys: pytest.CaptureFixture[str]) -> None:
    values = {"loss": 3.0, "loss_mask": 1.5, "loss_dice": 1.0, "loss_cross_entropy": 0.5}
    with BarProgress() as bar:
        bar.begin(2, 4, 8)
        bar.advance(values)
        bar.note("half of the rest")
        assert bar.step == 3 and bar.images_per_second > 0 and bar.seconds_left > 0
    assert "half of the rest" in capsys.readouterr().err
    assert losses(values) == "loss 3.000 (mask 1.500, dice 1.000, class 0.500)"
    assert (clock(59.6), clock(3725)) == ("1:00", "1:02:05")


def test_two_trainings_never_share_a_folder(tiny: Path) -> None:
    with folder.lock(Path("out")), pytest.raises(RunError, match="in use by process"):
        workbench.train("scenes_val", config=tiny, out="out", **SHORT)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 5, "epochs": 2}, "--steps 5 and --epochs 2 both"),
        ({"task": "panoptik"}, "Did you mean 'panoptic'"),
        ({"lr": 0.0}, "--lr is 0.0; it must be above 0"),
        ({"ema": 1.5}, "--ema is 1.5"),
        ({"scale": (2.0, 1.0)}, "--scale is 2 1"),
        ({"annealing": (0.5, 0.2)}, "--annealing is 0.5 0.2; give START END"),
        ({"annealing": (0.5, 2.0)}, "--annealing is 0.5 2; it must be at least 0 and at most 1"),
        ({"lr_end": -0.5}, "--lr-end is -0.5"),
        ({"betas": (0.9, 1.0)}, "--betas is 0.9 1; each must be below 1"),
        ({"dense_weight": -0.5}, "--dense-weight is -0.5; it must be at least 0"),
        ({"weight_decay": -0.5}, "--weight-decay is -0.5; it must be at least 0"),
        ({"dense_until": 0.0}, "--dense-until is 0.0; it must be above 0"),
        ({"dtype": "float16"}, "gradients underflow"),
        ({"augmentation": "some"}, "no augmentation 'some'"),
        ({"workers": -1}, "--workers is -1"),
        ({"colour": True}, "unexpected keyword argument 'colour'"),
    ],
)
def test_options_that_make_no_training_are_told_before_anything_is_written(
    tiny: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(OptionError, match=message):
        workbench.train("scenes_val", config=tiny, out="out", **options)
    assert not Path("out").exists()


def test_a_dense_weight_without_a_layer_before_the_queries_is_told_before_anything_is_written(
    in_empty_folder: Path,
) -> None:
    config = tiny_config(in_empty_folder, num_blocks=3)
    with pytest.raises(OptionError, match=r"--dense-weight: .* all 3 layers .* Leave it out"):
        workbench.train("scenes_val", config=config, out="out", dense_weight=1.0, **SHORT)
    assert not Path("out").exists()


def test_the_validation_data_must_fit(tiny: Path) -> None:
    with pytest.raises(OptionError, match="it has annotations for semantic, not panoptic"):
        workbench.train("scenes_val", val="scenes_semantic_val", config=tiny, **SHORT)
    with pytest.raises(OptionError, match="--task instance: scenes_semantic_val has annotations for semantic only"):
        workbench.train("scenes_semantic_val", config=tiny, task="instance", **SHORT)
