"""The training benchmark: both models train alike, and a report says what was measured on what."""

from pathlib import Path

import pytest
import torch

from tests.reference.tiny_training import tiny_config
from workbench.bench import train as bench
from workbench.errors import WorkbenchError
from workbench.training.start import StartOptions


def test_both_models_have_the_same_losses_step_after_step(tmp_path: Path) -> None:
    case = bench.Case("tiny", StartOptions(config=str(tiny_config(tmp_path))), 2)
    result = bench.measure(case, torch.device("cpu"), "float32", steps=3)
    assert result.difference < 1e-4
    assert [len(seconds) for seconds in result.seconds] == [3, 3] and result.ratio > 0


def test_a_report_gives_medians_ratio_and_machine() -> None:
    case = bench.Case("some model", StartOptions(), 4)
    result = bench.Result(case, "float32", ([0.5, 0.25, 1.0], [2.0, 1.0, 0.75]), 1e-7)
    text = bench.report([result], torch.device("cpu"), threads=1)
    row = "| some model | float32 | 4 | 0.500 s | 0.250 to 1.000 | 8 | 1.000 s | 0.750 to 2.000 | 4 | **2.00** |"
    assert row in text
    assert "CPU time" in text and f"torch: {torch.__version__}" in text and "peak memory" in text


def test_times_of_different_trainings_are_not_compared() -> None:
    with pytest.raises(WorkbenchError, match="do not train the same model"):
        bench._check_agreement(bench.CASES["bundled"], 0, [10.0, 10.1], "float32")
