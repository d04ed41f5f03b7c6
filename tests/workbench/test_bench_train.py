"""The training benchmark: both models train alike, and what trains otherwise is not compared."""

from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from tests.reference.tiny_training import tiny_config
from workbench.bench import train as bench
from workbench.bench.measuring import Disagreement, measure
from workbench.cli import main
from workbench.training.start import StartOptions


@pytest.fixture
def pair(tmp_path: Path) -> bench.Pair:
    case = bench.TrainingCase("tiny", StartOptions(config=str(tiny_config(tmp_path))), 2)
    return bench.Pair(case, torch.device("cpu"), "float32", steps=3)


def test_both_models_have_the_same_losses_step_after_step(pair: bench.Pair) -> None:
    result = measure(pair.case(), rounds=2)
    assert pair.difference < 1e-4
    assert result.theirs is not None and len(result.ours.seconds) == len(result.theirs.seconds) == 2


def test_times_of_different_trainings_are_not_compared(pair: bench.Pair) -> None:
    agree = pair.case().agree
    assert agree is not None
    with pytest.raises(Disagreement, match="do not train the same model"):
        agree(10.0, 10.1)


def test_the_command_prints_a_report() -> None:
    done = CliRunner().invoke(main, ["bench", "train", "--case", "bundled", "--rounds", "1"])
    assert done.exit_code == 0, done.output
    assert "times as fast" in done.stdout and "losses to 0.0001" in done.stdout
