"""A run folder holds one run, says what it is, and is never overwritten."""

import json
import multiprocessing
from pathlib import Path
from typing import Any

import pytest

from workbench import runs
from workbench.catalog.definitions import DatasetDefinition
from workbench.errors import RunError
from workbench.formats.base import Category
from workbench.runs import Run
from workbench.segments import image_table

CATEGORIES = (Category(1, "person", True, (220, 20, 60)), Category(119, "sky", False, (70, 130, 180)))


def manifest(tmp_path: Path, **identity: Any) -> dict[str, Any]:
    definition = DatasetDefinition("tiny", tmp_path / "tiny.toml", "coco", tmp_path)
    return runs.new_manifest("predict", definition, "panoptic", CATEGORIES, {"threshold": 0.8, **identity}, {})


def test_a_new_run_says_what_it_is(tmp_path: Path) -> None:
    made = runs.create_or_resume(tmp_path / "run", manifest(tmp_path))
    run = Run.open(tmp_path / "run")
    assert run == made
    assert run.task == "panoptic"
    assert run.categories == CATEGORIES
    assert not run.complete
    assert run.updated(status=runs.COMPLETE).complete
    assert Run.open(run.path).complete
    assert run.segments().num_rows == run.images().num_rows == 0


def test_the_dataset_is_found_by_its_file_and_then_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = runs.create_or_resume(tmp_path / "run", manifest(tmp_path))
    with pytest.raises(RunError, match="its dataset cannot be found: no dataset 'tiny'"):
        _ = run.dataset
    text = f'format = "images"\nroot = "{tmp_path}"\nimages = "."\ntitle = "%s"\n'
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "tiny.toml").write_text(text % "by name")
    monkeypatch.setenv("WORKBENCH_DATASETS", str(tmp_path / "elsewhere"))
    assert run.dataset.title == "by name"
    (tmp_path / "tiny.toml").write_text(text % "by file")
    assert run.dataset.title == "by file"


def test_a_resume_with_the_same_identity_gives_the_run_as_it_is(tmp_path: Path) -> None:
    runs.create_or_resume(tmp_path / "run", manifest(tmp_path)).updated(status=runs.COMPLETE)
    assert runs.create_or_resume(tmp_path / "run", manifest(tmp_path)).complete


def test_tuples_in_an_identity_equal_the_lists_that_json_makes_of_them(tmp_path: Path) -> None:
    runs.create_or_resume(tmp_path / "run", manifest(tmp_path, size=(640, 640)))
    runs.create_or_resume(tmp_path / "run", manifest(tmp_path, size=(640, 640)))


def test_a_resume_with_another_identity_names_each_difference(tmp_path: Path) -> None:
    runs.create_or_resume(tmp_path / "run", manifest(tmp_path, limit=None))
    with pytest.raises(RunError) as error:
        runs.create_or_resume(tmp_path / "run", manifest(tmp_path, limit=3, threshold=0.5))
    assert "limit is None there, 3 now; threshold is 0.8 there, 0.5 now" in str(error.value)
    assert "--out" in str(error.value)


def test_nested_settings_are_compared_one_by_one(tmp_path: Path) -> None:
    runs.create_or_resume(tmp_path / "run", manifest(tmp_path, processor={"size": 640, "do_pad": True}))
    with pytest.raises(
        RunError, match=r"differently, so it cannot be resumed: processor\.size is 640 there, 512 now\."
    ):
        runs.create_or_resume(tmp_path / "run", manifest(tmp_path, processor={"size": 512, "do_pad": True}))


def test_without_resume_a_run_is_refused(tmp_path: Path) -> None:
    runs.create_or_resume(tmp_path / "run", manifest(tmp_path))
    with pytest.raises(RunError, match="a run is there already"):
        runs.create_or_resume(tmp_path / "run", manifest(tmp_path), resume=False)


def test_a_folder_with_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").touch()
    with (
        pytest.raises(RunError, match=r"not empty and no run folder \(it holds 'cat.jpg'\)"),
        runs.lock(tmp_path / "photos"),
    ):
        pass
    with pytest.raises(RunError, match="no run folder"):
        runs.create_or_resume(tmp_path / "photos", manifest(tmp_path))
    assert [path.name for path in (tmp_path / "photos").iterdir()] == ["cat.jpg"]


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").touch()
    with pytest.raises(RunError, match="a file, not a run folder"), runs.lock(tmp_path / "run"):
        pass


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match="cannot be written"), runs.lock(tmp_path / "file" / "run"):
        pass


def test_what_a_process_killed_at_its_start_leaves_is_no_obstacle(tmp_path: Path) -> None:
    with runs.lock(tmp_path / "run"):
        (tmp_path / "run" / ".run.json.partial").write_text("{")
    assert runs.is_free(tmp_path / "run")
    runs.create_or_resume(tmp_path / "run", manifest(tmp_path))
    assert not runs.is_free(tmp_path / "run")


def _hold(folder: Path, held: Any, release: Any) -> None:
    with runs.lock(folder):
        held.set()
        release.wait(30)


def test_a_second_process_is_told_who_holds_the_folder(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    held, release = context.Event(), context.Event()
    process = context.Process(target=_hold, args=(tmp_path / "run", held, release))
    process.start()
    try:
        assert held.wait(30)
        with pytest.raises(RunError, match=f"in use by process {process.pid}"), runs.lock(tmp_path / "run"):
            pass
    finally:
        release.set()
        process.join(30)
    with runs.lock(tmp_path / "run"):
        pass


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not readable as JSON"),
        ("[]", "not a run manifest"),
        ('{"version": "1"}', "not a run manifest"),
        ('{"version": 99}', "manifest version 99; this workbench reads up to 1"),
    ],
)
def test_a_broken_or_newer_manifest_is_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(RunError, match=message):
        Run.open(tmp_path)


def test_a_folder_without_a_manifest_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"it has no run\.json"):
        Run.open(tmp_path)


def test_the_newest_run_is_the_one_written_last(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no run below"):
        Run.newest(tmp_path)
    first = runs.create_or_resume(tmp_path / "a", manifest(tmp_path))
    runs.create_or_resume(tmp_path / "b", manifest(tmp_path))
    assert Run.newest(tmp_path).path.name == "b"
    first.updated(status=runs.COMPLETE)
    assert Run.newest(tmp_path).path.name == "a"


def test_metrics_and_matches_before_an_evaluation_say_how_to_get_them(tmp_path: Path) -> None:
    run = runs.create_or_resume(tmp_path / "run", manifest(tmp_path))
    for read in (run.metrics, run.matches):
        with pytest.raises(RunError, match="workbench evaluate"):
            read()


def test_a_manifest_is_always_whole(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    runs.write_json(path, {"a": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        runs.write_json(path, {"a": float("nan")})
    assert json.loads(path.read_text()) == {"a": 1}


def test_the_images_of_a_run_are_those_committed_by_now(tmp_path: Path) -> None:
    run = runs.create_or_resume(tmp_path / "run", manifest(tmp_path))
    images = image_table({"image_id": ["1"], "file_name": ["1.jpg"], "ordinal": [0], "status": ["ok"]})
    runs.writer(run).commit(run.segments(), images)
    assert run.images()["image_id"].to_pylist() == ["1"]
