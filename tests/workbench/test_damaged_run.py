"""Runs that lost files after they were complete: told with counts and a remedy, and mended by the same command."""

import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.reference.few_scenes import coco_scenes
from workbench.cli import main
from workbench.errors import RunError, SegmentTableError
from workbench.evaluation.compare import compare
from workbench.evaluation.evaluation import evaluate
from workbench.exports.api import export
from workbench.imports.api import import_predictions
from workbench.prediction.api import predict
from workbench.prediction.defaults import BUNDLED_MODEL
from workbench.runs import Run

SHARD = "part-00000.parquet"
LOST = "complete with 2 images, of which 0 are left"


def command(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


def predicted(definition: Path) -> Run:
    out = definition.parent / "run"
    return predict(definition, model=BUNDLED_MODEL, out=out, device="cpu", progress=False)


@pytest.fixture
def definition(in_empty_folder: Path) -> Path:
    return coco_scenes(in_empty_folder / "data", 2)


@pytest.fixture
def run(definition: Path) -> Run:
    return predicted(definition)


def test_a_complete_run_records_how_many_images_it_has(run: Run) -> None:
    assert run.manifest["images"] == run.images().num_rows == 2


def test_a_run_that_lost_images_is_neither_scored_nor_exported(run: Run, tmp_path: Path) -> None:
    evaluate(run)
    shutil.rmtree(run.path / "images")
    with pytest.raises(RunError, match=f"{LOST}.*workbench predict"):
        evaluate(run.path)
    with pytest.raises(RunError, match=LOST):
        compare(run.path, run.path)
    with pytest.raises(RunError, match=LOST):
        export(run.path, "index-png", tmp_path / "labels")
    assert not (tmp_path / "labels").exists()


def test_the_same_command_predicts_what_a_run_lost(run: Run, definition: Path) -> None:
    before = run.segments()
    shutil.rmtree(run.path / "images")
    again = predicted(definition)
    assert again.complete
    assert again.segments().equals(before)
    again.check_whole()


def test_the_same_command_imports_what_a_run_lost(run: Run, definition: Path, tmp_path: Path) -> None:
    labels = export(run, "coco-panoptic", tmp_path / "panoptic.json")
    imported = import_predictions(labels, definition, "coco-panoptic", tmp_path / "imported")
    assert imported.manifest["images"] == 2
    before = imported.segments()
    shutil.rmtree(imported.path / "images")
    with pytest.raises(RunError, match=f"{LOST}.*workbench import"):
        evaluate(imported.path)
    again = import_predictions(labels, definition, "coco-panoptic", tmp_path / "imported")
    assert again.segments().equals(before)


def test_a_lost_shard_is_named_with_a_remedy_that_works(run: Run, definition: Path) -> None:
    before = run.segments()
    (run.path / "predictions" / SHARD).unlink()
    for read in (run.segments, run.store.count_segments, lambda: run.store.has_null("score"), lambda: evaluate(run)):
        with pytest.raises(SegmentTableError, match=f"predictions/{SHARD}: missing.*Delete .*images/{SHARD} too"):
            read()
    (run.path / "images" / SHARD).unlink()
    assert predicted(definition).segments().equals(before)


def test_predict_tells_of_a_lost_shard_in_one_message(run: Run, definition: Path) -> None:
    (run.path / "predictions" / SHARD).unlink()
    result = command("predict", "--dataset", str(definition), "--model", BUNDLED_MODEL, "--out", str(run.path))
    assert result.exit_code == 1
    assert f"{SHARD}: missing" in result.stderr
