"""`workbench datasets ...`: what the commands print, and how they exit."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.reference.archives import zipped
from tests.reference.file_server import serving
from tests.reference.small_datasets import write_instances, write_json, write_semantic
from workbench.catalog.definitions import FORMATS as KNOWN_FORMATS
from workbench.cli import main
from workbench.cli.datasets import FORMATS


def run(*arguments: str, **options) -> Result:
    return CliRunner().invoke(main, ["datasets", *arguments], **options)


@pytest.fixture
def mine(in_empty_folder: Path) -> str:
    """A dataset `mine` that is found by its name."""
    write_instances(in_empty_folder / "data", {1: (6, 5)}, [])
    keys = ["--format", "coco", "--root", "data", "--images", "images", "--instances", "instances.json"]
    assert run("add", "mine", *keys).exit_code == 0
    return "mine"


def test_list_has_an_object_for_every_name(mine, in_empty_folder):
    listed = {line["name"]: line for line in json.loads(run("list", "--json").output)}
    assert listed["mine"] == {
        "name": "mine",
        "title": "",
        "format": "coco",
        "tasks": ["instance"],
        "root": str(in_empty_folder / "data"),
        "present": True,
        "bundled": False,
    }
    assert listed["scenes_val"]["bundled"] and listed["scenes_val"]["present"]
    assert set(listed) >= {"coco_val", "coco_train", "ade20k_val", "ade20k_train", "cityscapes_val"}


def test_list_prints_a_line_a_dataset_and_tells_unusable_ones(mine):
    Path("datasets/broken.toml").write_text("format = 3")
    result = run("list")
    assert result.exit_code == 0
    assert [line.split()[:3] for line in result.stdout.splitlines() if line.startswith("mine")] == [
        ["mine", "coco", "yes"]
    ]
    assert "broken.toml" in result.stderr
    assert {line["name"]: "error" in line for line in json.loads(run("list", "--json").output)}["broken"]


def test_show_tells_files_tasks_and_categories(mine):
    told = json.loads(run("show", "mine", "--json").output)
    assert (told["images"], told["ground_truth"]) == (1, {"instance": "instances"})
    assert [category["name"] for category in told["categories"]] == ["cat", "dog"]
    assert [(file["key"], file["exists"]) for file in told["files"]] == [("images", True), ("instances", True)]
    assert "2: cat, dog" in run("show", "mine").output


def test_show_of_what_is_not_there_yet_tells_the_classes(monkeypatch, tmp_path):
    monkeypatch.setenv("COCO_ROOT", str(tmp_path))
    told = json.loads(run("show", "coco_val", "--json").output)
    assert (told["present"], told["images"], len(told["categories"])) == (False, None, 133)
    assert "not there yet" in run("show", "coco_val").output


def test_check_exits_by_what_it_found(mine):
    assert "No errors." in run("check", "mine").output
    content = json.loads(Path("data/instances.json").read_text())
    content["annotations"].append({"id": 1, "image_id": 1, "category_id": 4})
    write_json(Path("data/instances.json"), content)
    result = run("check", "mine")
    assert result.exit_code == 1
    assert "error: unknown_category, 1 x" in result.output
    report = json.loads(run("check", "mine", "--json").stdout)
    assert (report["ok"], report["findings"][0]["code"], report["findings"][0]["count"]) == (
        False,
        "unknown_category",
        1,
    )


def test_add_asks_before_it_replaces(mine):
    keys = ["--format", "images", "--root", "data", "--images", "images"]
    refused = run("add", "mine", *keys, input="n\n")
    assert (refused.exit_code, "there already" in refused.stderr) == (1, True)
    assert 'format = "coco"' in Path("datasets/mine.toml").read_text()
    assert run("add", "mine", *keys, "--yes").exit_code == 0
    assert 'format = "images"' in Path("datasets/mine.toml").read_text()


def test_add_takes_every_key_of_an_ade20k_style_dataset(in_empty_folder):
    write_semantic(in_empty_folder / "data", {"a": [[1, 0]]})
    keys = ["--format", "ade20k", "--root", "data", "--images", "images", "--annotations", "labels", "--void", "0"]
    keys += ["--classes", "data/classes.csv", "--void", "9", "--ignore-index", "254", "--title", "Mine"]
    told = json.loads(run("add", "mine", *keys, "--json").output)
    assert told == {"name": "mine", "source": "datasets/mine.toml", "images": 1, "categories": 3, "tasks": ["semantic"]}
    assert json.loads(run("show", "mine", "--json").output)["void"] == [0, 9]
    assert run("check", "mine").exit_code == 0


def test_add_warns_of_a_folder_without_images(in_empty_folder):
    (in_empty_folder / "photos").mkdir()
    added = run("add", "mine", "--format", "images", "--root", "photos", "--images", ".")
    assert (added.exit_code, "Warning: mine has no images" in added.stderr) == (0, True)


def test_add_of_what_does_not_open_says_why_and_writes_nothing(in_empty_folder):
    result = run("add", "mine", "--format", "coco", "--root", "data", "--instances", "none.json")
    assert (result.exit_code, "does not exist" in result.stderr) == (1, True)
    assert not Path("datasets").exists()


def test_download_prints_the_root_last_and_notes_a_missing_checksum(in_empty_folder, tmp_path):
    with serving(tmp_path) as server:
        instances = json.dumps({"images": [], "annotations": [], "categories": []}).encode()
        (tmp_path / "data.zip").write_bytes(zipped({"images/a.txt": b"", "i.json": instances}))
        keys = 'format = "coco"\nroot = "root"\nimages = "images"\ninstances = "i.json"'
        Path("mine.toml").write_text(f'{keys}\n[[archives]]\nurl = "{server.url}/data.zip"\n')
        result = run("download", "mine.toml")
        assert result.exit_code == 0
        assert result.stdout.splitlines()[-1] == str(in_empty_folder / "root")
        assert "has no checksum" in result.stderr
        (archive,) = json.loads(run("download", "mine.toml", "--json").stdout)["archives"]
        assert (archive["already_there"], archive["files"]) == (True, 2)


def test_unknown_dataset_is_one_message(in_empty_folder):
    for command in ("show", "check", "download"):
        result = run(command, "coco_vall")
        assert (result.exit_code, result.stdout) == (1, "")
        assert "Did you mean 'coco_val'" in result.stderr


def test_formats_of_the_option_are_those_that_exist():
    assert FORMATS == KNOWN_FORMATS
