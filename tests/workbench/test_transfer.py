"""`workbench import` and `workbench export` from end to end: run folders, files, options and refusals."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from workbench import rle
from workbench.cli import main
from workbench.errors import OptionError, RunError, TransferError
from workbench.exports.api import export
from workbench.imports import api
from workbench.imports.api import import_predictions
from workbench.runs import Run
from workbench.transfer_formats import TRANSFER_FORMATS

SIZES = {1: (4, 6), 2: (3, 5), 10: (5, 3)}


@pytest.fixture
def dataset(tmp_path: Path) -> str:
    """The definition of a COCO dataset of three images, annotations only."""
    content = {
        "images": [{"id": i, "file_name": f"{i:03}.jpg", "height": h, "width": w} for i, (h, w) in SIZES.items()],
        "categories": [{"id": 1, "name": "cup"}, {"id": 7, "name": "pen"}],
        "annotations": [],
    }
    (tmp_path / "instances.json").write_text(json.dumps(content))
    (tmp_path / "tiny.toml").write_text('format = "coco"\nroot = "."\ninstances = "instances.json"\n')
    return str(tmp_path / "tiny.toml")


def left_half(size_hw: tuple[int, int]) -> np.ndarray:
    mask = np.zeros(size_hw, dtype=np.bool_)
    mask[:, : size_hw[1] // 2] = True
    return mask


@pytest.fixture
def results(tmp_path: Path) -> Path:
    records: list[dict[str, Any]] = [
        {
            "image_id": image_id,
            "category_id": 7,
            "segmentation": {"size": list(SIZES[image_id]), "counts": rle.encode(left_half(SIZES[image_id])).decode()},
            "score": 0.25,
        }
        for image_id in (1, 10)
    ]
    path = tmp_path / "results.json"
    path.write_text(json.dumps(records))
    return path


@pytest.fixture
def imported(dataset: str, results: Path, tmp_path: Path) -> Run:
    return import_predictions(results, dataset, "coco-results", tmp_path / "run")


def test_every_image_of_the_dataset_has_a_row(imported: Run) -> None:
    images = imported.images().to_pylist()
    assert [(image["image_id"], image["height"], image["width"], image["status"]) for image in images] == [
        ("1", 4, 6, "ok"),
        ("2", 3, 5, "ok"),
        ("10", 5, 3, "ok"),
    ]
    assert imported.segments()["image_id"].to_pylist() == ["1", "10"]


def test_the_manifest_says_what_was_imported(imported: Run, results: Path) -> None:
    manifest = imported.manifest
    assert (manifest["source"], manifest["status"], imported.task) == ("import", "complete", "instance")
    assert set(manifest["identity"]) == {"dataset", "format", "source_sha256"}
    assert manifest["provenance"]["source"] == str(results.resolve())
    assert manifest["provenance"]["notes"] == ["no record for 1 of 3 images, which get no segments: 2"]


def test_the_same_import_again_is_the_run_that_is_there(imported: Run, dataset: str, results: Path) -> None:
    before = (imported.path / "run.json").stat().st_mtime_ns
    again = import_predictions(results, dataset, "coco-results", imported.path)
    assert again.manifest == imported.manifest
    assert (imported.path / "run.json").stat().st_mtime_ns == before


def test_another_import_never_touches_a_run(imported: Run, dataset: str, results: Path) -> None:
    results.write_text("[]")
    with pytest.raises(RunError, match=r"holds a run made differently.*source_sha256.*--out"):
        import_predictions(results, dataset, "coco-results", imported.path)
    assert imported.segments().num_rows == 2


def test_without_out_the_run_is_named_after_dataset_task_and_source(
    dataset: str, results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    first = import_predictions(results, dataset, "coco-results")
    assert first.path == Path("runs/tiny-instance-results")
    assert import_predictions(results, dataset, "coco-results").path == first.path
    results.write_text("[]")
    assert import_predictions(results, dataset, "coco-results").path == Path("runs/tiny-instance-results-2")


def test_predictions_that_break_their_format_leave_no_run(
    dataset: str, results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "_IMAGES_PER_SHARD", 1)  # the first image is written when the last one is found broken
    records = json.loads(results.read_text())
    records[1]["segmentation"]["counts"] = "1"
    results.write_text(json.dumps(records))
    with pytest.raises(TransferError, match="record 1 "):
        import_predictions(results, dataset, "coco-results", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_stopped_import_goes_on_where_it_was(
    imported: Run, dataset: str, results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "_IMAGES_PER_SHARD", 1)

    def stop(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_predictions(results, dataset, "coco-results", tmp_path / "stopped", progress=stop)
    assert not Run.open(tmp_path / "stopped").complete
    finished = import_predictions(results, dataset, "coco-results", tmp_path / "stopped")
    assert finished.complete
    assert finished.segments().equals(imported.segments())
    assert finished.images().equals(imported.images())


def test_all_three_formats_give_the_run_back(imported: Run, dataset: str, tmp_path: Path) -> None:
    names = {"coco-results": "out.json", "coco-panoptic": "panoptic.json", "index-png": "labels"}
    for format_ in TRANSFER_FORMATS:
        path = export(imported, format_, tmp_path / names[format_])
        again = import_predictions(path, dataset, format_, tmp_path / f"run-{format_}")
        assert again.segments()["counts"].to_pylist() == imported.segments()["counts"].to_pylist()
        assert again.segments()["category_id"].to_pylist() == [7, 7]
        assert again.images().equals(imported.images())


def test_boxes_without_masks_are_exported_without_masks(dataset: str, tmp_path: Path) -> None:
    records = [{"image_id": 1, "category_id": 1, "bbox": [0.5, 1.25, 3.0, 2.0], "score": 0.1}]
    (tmp_path / "boxes.json").write_text(json.dumps(records))
    run = import_predictions(tmp_path / "boxes.json", dataset, "coco-results", tmp_path / "run")
    assert json.loads(export(run, "coco-results", tmp_path / "out.json").read_text()) == records


def test_an_incomplete_run_is_exported_with_a_note(imported: Run, tmp_path: Path) -> None:
    notes: list[str] = []
    export(imported.updated(status="incomplete"), "coco-results", tmp_path / "out.json", note=notes.append)
    assert notes == [f"{imported.path} is incomplete: only the images that it holds so far are exported"]


def test_images_that_could_not_be_read_are_named(imported: Run, tmp_path: Path) -> None:
    part = imported.path / "images" / imported.store.parts[0]
    images = imported.images()
    from workbench.segments import image_table, write_parquet

    columns = images.to_pydict()
    columns["height"][1] = columns["width"][1] = None
    write_parquet(image_table(columns), part)
    notes: list[str] = []
    export(imported, "index-png", tmp_path / "labels", note=notes.append)
    assert notes == ["1 images that could not be read have no size and are left out: 2"]
    assert sorted(path.name for path in (tmp_path / "labels").iterdir()) == ["001.png", "010.png"]


def test_a_json_goes_into_a_folder_where_out_names_one(imported: Run, dataset: str, tmp_path: Path) -> None:
    assert export(imported, "coco-results", tmp_path / "a") == tmp_path / "a" / "results.json"
    assert export(imported, "coco-panoptic", tmp_path / "b") == tmp_path / "b" / "panoptic.json"
    assert sorted(path.name for path in (tmp_path / "b").iterdir()) == ["panoptic", "panoptic.json"]
    again = import_predictions(tmp_path / "b", dataset, "coco-panoptic", tmp_path / "again")
    assert again.segments()["counts"].equals(imported.segments()["counts"])


def test_a_failed_export_leaves_what_was_there(imported: Run, tmp_path: Path) -> None:
    (tmp_path / "out.json").write_text("old")
    labels = import_predictions(
        export(imported, "index-png", tmp_path / "labels"),
        imported.dataset.source,
        "index-png",
        tmp_path / "labels-run",
    )
    with pytest.raises(TransferError, match="has no score"):
        export(labels, "coco-results", tmp_path / "out.json", overwrite=True)
    assert (tmp_path / "out.json").read_text() == "old"
    assert not list(tmp_path.glob(".*partial"))


def test_formats_and_options_that_make_no_sense_are_misuse(imported: Run, dataset: str, results: Path) -> None:
    with pytest.raises(OptionError, match="Did you mean 'coco-results'"):
        import_predictions(results, dataset, "coco-result")  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="unknown format 'yolo'"):
        export(imported, "yolo", "out")  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="--png names the PNG folder of a panoptic JSON"):
        import_predictions(results, dataset, "coco-results", png="folder")


def test_a_source_that_is_not_there_or_not_clear_is_refused(dataset: str, tmp_path: Path) -> None:
    (tmp_path / "second.json").write_text("[]")
    with pytest.raises(TransferError, match="holds 2 JSON files, not one"):
        import_predictions(tmp_path, dataset, "coco-panoptic", tmp_path / "run")
    with pytest.raises(TransferError, match=r"nothing\.json: no such file"):
        import_predictions(tmp_path / "nothing.json", dataset, "coco-results", tmp_path / "run")


# The commands


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_the_commands_end_with_what_they_made(dataset: str, results: Path, tmp_path: Path) -> None:
    run, out = tmp_path / "run", tmp_path / "out.json"
    imported = invoke("import", results, "--dataset", dataset, "--format", "coco-results", "--out", run)
    assert (imported.exit_code, imported.stdout) == (0, f"{run}\n")
    assert "2 segments in 3 images of tiny (instance)." in imported.stderr
    assert "Note: no record for 1 of 3 images" in imported.stderr
    exported = invoke("export", run, "--format", "coco-results", "--out", out)
    assert (exported.exit_code, exported.stdout) == (0, f"{out}\n")
    assert json.loads(out.read_text()) == json.loads(results.read_text())


def test_json_output_has_stable_keys(dataset: str, results: Path, tmp_path: Path) -> None:
    run, out = tmp_path / "run", tmp_path / "labels"
    imported = invoke("import", results, "--dataset", dataset, "--format", "coco-results", "--out", run, "--json")
    assert json.loads(imported.stdout) == {"path": str(run), "task": "instance", "images": 3, "segments": 2}
    exported = invoke("export", run, "--format", "index-png", "--out", out, "--json")
    assert json.loads(exported.stdout) == {"path": str(out), "format": "index-png"}
    with Image.open(out / "001.png") as image:
        np.testing.assert_array_equal(np.asarray(image), np.where(left_half((4, 6)), 7, 255))


def test_export_replaces_only_with_yes(imported: Run, tmp_path: Path) -> None:
    for format_, name in (("coco-panoptic", "panoptic.json"), ("index-png", "labels")):
        arguments = ("export", imported.path, "--format", format_, "--out", tmp_path / name)
        assert invoke(*arguments).exit_code == 0
        refused = invoke(*arguments)
        assert refused.exit_code == 1
        assert "exists already" in refused.stderr
        assert invoke(*arguments, "--yes").exit_code == 0


def test_a_broken_file_is_one_message_and_exit_code_1(dataset: str, tmp_path: Path) -> None:
    (tmp_path / "broken.json").write_text("{")
    outcome = invoke("import", tmp_path / "broken.json", "--dataset", dataset, "--format", "coco-results")
    assert outcome.exit_code == 1
    assert outcome.stderr.startswith(f"Error: {tmp_path / 'broken.json'}: not a JSON array of objects")
    assert outcome.stdout == ""


def test_an_unknown_format_is_misuse(dataset: str, results: Path) -> None:
    assert invoke("import", results, "--dataset", dataset, "--format", "yolo").exit_code == 2
