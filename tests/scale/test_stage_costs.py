"""What an image costs is measured stage by stage, and its bytes are those of the files."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.reference.sharded_runs import sharded_run
from workbench.bench import fitted_model, stage_costs
from workbench.cli import main


def test_bytes_are_those_of_the_files(tmp_path: Path) -> None:
    run = sharded_run(tmp_path / "run", shards=3, images_per_shard=40, segments=5)
    found = stage_costs.bytes_an_image(run.path)
    files = [*run.path.rglob("part-*.parquet")]
    assert len(files) == 6
    assert found["files"] == pytest.approx(sum(file.stat().st_size for file in files) / 120, abs=0.1)
    columns = set(run.segments().column_names)
    assert found.keys() == columns | {"files", "images"}
    assert sum(found[name] for name in columns) < found["files"] - found["images"]


def test_quantiles_ascend_around_their_mean() -> None:
    quantiles = stage_costs.service_quantiles(rounds=1, images=6, count=5)
    assert quantiles == sorted(quantiles)
    assert sum(quantiles) / 5 == pytest.approx(1, abs=0.001)


def test_the_command_reports_every_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = {"hidden_size": 384, "num_hidden_layers": 2, "num_attention_heads": 6, "num_blocks": 1}
    monkeypatch.setitem(fitted_model.ARCHITECTURES, "s", tiny)
    monkeypatch.setattr(stage_costs, "EDGE", 160)
    monkeypatch.setattr(stage_costs, "IMAGES_PER_SHARD", 4)
    monkeypatch.setattr(stage_costs, "service_quantiles", lambda rounds: [0.5, 1.5])
    run = sharded_run(tmp_path / "mine")
    command = ["bench", "stages", "--images", "1", "--rounds", "1", "--run", str(run.path), "--out", str(tmp_path)]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 0, result.output
    content = json.loads(next(tmp_path.glob("*-stages-cpu.json")).read_text())
    stages = {section["title"]: [each["what"] for each in section["results"]] for section in content["sections"]}
    around = ["read, decode and prepare", "post-process", "encode"]
    assert stages["Around the model, panoptic"] == stages["Around the model, instance"] == around
    assert stages["EoMT-S"] == ["model"]
    assert len(stages["Shards on disk"]) == 2
    assert content["bytes_an_image"].keys() == {*stages["Shards on disk"], "mine"}
