"""An evaluation's files that are whole JSON or Parquet and yet not what was written: one message with a remedy."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from tests.reference.few_scenes import coco_scenes
from workbench.cli import main
from workbench.evaluation.evaluation import evaluate
from workbench.prediction.api import predict
from workbench.prediction.defaults import BUNDLED_MODEL
from workbench.runs import Run

COMMANDS = (("report", "--tiles", "0", "--out"), ("compare",))


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("evaluated")
    run = predict(
        coco_scenes(folder / "data", 2), model=BUNDLED_MODEL, out=folder / "run", device="cpu", progress=False
    )
    evaluate(run, boundary=True, by=("area",))
    return run


@pytest.fixture
def copy(evaluated: Run, tmp_path: Path) -> Path:
    return Path(shutil.copytree(evaluated.path, tmp_path / "copy"))


def refused(folder: Path) -> str:
    """What `report` and `compare` say of it: the same, without a traceback."""
    told = set()
    for name, *options in COMMANDS:
        last = str(folder.parent / "out") if options else str(folder)
        done = CliRunner().invoke(main, [name, str(folder), *options, last])
        assert isinstance(done.exception, SystemExit), done.exception
        assert done.exit_code == 1
        told.add(done.stderr)
    assert len(told) == 1
    return told.pop()


def without(*path: str) -> Callable[[dict[str, Any]], None]:
    def change(metrics: dict[str, Any]) -> None:
        for key in path[:-1]:
            metrics = metrics[key]
        del metrics[path[-1]]

    return change


def with_value(value: Any, *path: str) -> Callable[[dict[str, Any]], None]:
    def change(metrics: dict[str, Any]) -> None:
        for key in path[:-1]:
            metrics = metrics[key]
        metrics[path[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "place"),
    [
        (without("provenance"), "'provenance' is missing in it"),
        (without("provenance", "dataset", "name"), "'name' is missing in provenance.dataset"),
        (without("mode"), "'mode' is missing in it"),
        (
            with_value(
                [],
                "notes",
            ),
            None,
        ),
        (with_value("none", "notes"), "notes is 'none'"),
        (with_value({"scored": "2"}, "images", "panoptic"), "images.panoptic.scored is '2'"),
        (with_value([1], "panoptic"), "panoptic is [1] and no object"),
        (with_value("high", "instance", "segm", "AP"), "instance.segm.AP is 'high'"),
        (with_value({}, "instance", "segm", "per_category", "x"), "'name' is missing in instance.segm.per_category.x"),
        (with_value(7, "instance", "segm", "per_category"), "instance.segm.per_category is 7 and no object"),
        (with_value(-1, "errors", "instance", "prediction", "matched"), "errors.instance.prediction.matched is -1"),
        (with_value([{"n": 1}], "calibration", "instance", "bins"), "calibration.instance.bins is [{'n': 1}]"),
        (with_value(3, "slices"), "slices is 3"),
    ],
)
def test_metrics_that_no_evaluation_writes_name_the_key(
    copy: Path, change: Callable[[dict[str, Any]], None], place: str | None
) -> None:
    file = copy / "metrics.json"
    metrics = json.loads(file.read_text())
    change(metrics)
    file.write_text(json.dumps(metrics))
    if place is None:
        assert Run.open(copy).metrics() == metrics
        return
    told = " ".join(refused(copy).split())
    assert f"metrics.json: {place}, which no evaluation writes. Run `workbench evaluate" in told


@pytest.mark.parametrize("name", ["per_image.parquet", "detections.parquet", "matches.parquet"])
def test_tables_with_other_columns_are_named(copy: Path, name: str) -> None:
    rows = pq.read_table(copy / name)
    pq.write_table(rows.drop_columns(["image_id"]), copy / name)
    assert f"{name}: its column image_id is missing, not string." in " ".join(refused(copy).split())
    place = rows.schema.get_field_index("category_id")
    pq.write_table(rows.set_column(place, "category_id", pa.nulls(len(rows), pa.string())), copy / name)
    assert f"{name}: its column category_id is string, not int32." in " ".join(refused(copy).split())
    (copy / name).write_bytes(b"PAR1")
    assert f"{name}: not a readable Parquet file" in " ".join(refused(copy).split())
