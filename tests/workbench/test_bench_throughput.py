"""`workbench bench throughput`: the whole way is run, twice alike, and told in images a second."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from workbench.bench import fitted_model, throughput
from workbench.bench.measuring import Disagreement
from workbench.bench.predict import OurPipeline
from workbench.bench.throughput import SHAPES, Plan, Shape, benchmark
from workbench.cli import main
from workbench.cli.bench_throughput import THROUGHPUT_SHAPES
from workbench.prediction.model import Predictor

TINY = {"hidden_size": 384, "num_hidden_layers": 2, "num_attention_heads": 6, "num_blocks": 1}


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(fitted_model.ARCHITECTURES, "s", TINY)
    monkeypatch.setitem(SHAPES, "s-640", Shape("s", 160, "panoptic", 1200))
    monkeypatch.setitem(SHAPES, "l-512-semantic", Shape("s", 160, "semantic", 230))


@pytest.fixture
def on_a_gpus_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every predictor goes the way of a GPU, on the CPU."""
    usual = Predictor.__init__

    def like_a_gpu(self: Predictor, *given: Any, **options: Any) -> None:
        usual(self, *given, **options, like_a_gpu=True)

    monkeypatch.setattr(Predictor, "__init__", like_a_gpu)


def test_the_command_offers_every_shape_that_there_is() -> None:
    assert tuple(SHAPES) == THROUGHPUT_SHAPES
    assert {shape.size for shape in SHAPES.values()} <= set(fitted_model.ARCHITECTURES)


@pytest.mark.usefixtures("on_a_gpus_way")
def test_the_command_tells_images_a_second_and_writes_a_report(tmp_path: Path) -> None:
    arguments = [
        "bench",
        "throughput",
        "--shape",
        "s-640",
        "--shape",
        "l-512-semantic",
        "--images",
        "3",
        "--rounds",
        "1",
    ]
    done = CliRunner().invoke(main, [*arguments, "--device", "cpu", "--dtype", "bfloat16", "--out", str(tmp_path)])
    assert done.exit_code == 0, done.output
    content = json.loads(next(tmp_path.glob("*-throughput-cpu-*.json")).read_text())
    for section, task in zip(content["sections"], ("panoptic", "semantic"), strict=True):
        (result,) = section["results"]
        assert result["what"] == f"{task}, 3 images, batches of 2, bfloat16"
        assert result["items"] == 3
        assert section["notes"][0] == "Two runs had the same rows, bit for bit."
        assert "Profile of 3 images" in section["notes"][1]
    assert "PQ of bfloat16 against float32: " in content["sections"][0]["notes"][2]


def test_runs_that_differ_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usual, runs = OurPipeline.run, []

    def shorter(self: OurPipeline, out: Path) -> Any:
        rows = usual(self, out)
        runs.append(rows)
        return rows.slice(len(runs) - 1)

    monkeypatch.setattr(throughput.OurPipeline, "run", shorter)
    plan = Plan(["s-640"], "cpu", "float32", 1, 1, 1, None, 1, 0)
    with pytest.raises(Disagreement, match="two runs of EoMT-S at 160 have different rows"):
        benchmark(plan, "", tmp_path, lambda text: None)


def test_the_giants_architecture_is_the_published_one() -> None:
    config = fitted_model.published_config("g", 640)
    assert (config.hidden_size, config.num_hidden_layers, config.num_attention_heads) == (1536, 40, 24)
    assert config.use_swiglu_ffn and config.mlp_size == 4096
