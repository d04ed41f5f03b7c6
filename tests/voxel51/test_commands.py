"""The commands as a user types them, and without the extra."""

import importlib.util
import json
from importlib.machinery import ModuleSpec

import pytest
from click.testing import CliRunner

from tests.reference.labelled_pets import Pets
from workbench.cli import main
from workbench.voxel51 import app


def run(*arguments: str) -> str:
    result = CliRunner().invoke(main, list(arguments))
    assert result.exit_code == 0, result.output
    return result.stdout


def test_browse_prelabel_and_pull_say_what_they_did(pets: Pets, fo, tmp_path):
    browsed = json.loads(run("browse", str(pets.run.path), "--no-launch", "--json"))
    assert (browsed["name"], browsed["images"], browsed["written"]) == ("pets", 3, 12)
    dataset = ["--dataset", str(pets.definition)]
    assert json.loads(run("prelabel", *dataset, "--run", str(pets.run.path), "--labelled", "--json"))["objects"] == 6
    pulled = json.loads(run("pull", *dataset, "--out", str(tmp_path / "new.toml"), "--json"))
    assert (pulled["images"], pulled["kept"]) == (3, 6)
    run("browse", *dataset, "--remove", "first")
    assert not fo.load_dataset("pets").has_sample_field("first")


def test_browse_takes_the_newest_run(pets: Pets, fo, monkeypatch):
    monkeypatch.chdir(pets.folder)
    assert run("browse", "--no-launch") == "pets\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ("browse", "RUN", "--no-launch"),
        ("browse", "--dataset", "scenes_val", "--remove", "first"),
        ("prelabel", "--dataset", "scenes_val"),
        ("pull", "--dataset", "scenes_val", "--out", "new.toml"),
    ],
)
def test_without_the_extra_commands_say_how_to_install_it(arguments, pets, monkeypatch, in_empty_folder):
    real = importlib.util.find_spec

    def without(name: str, package: str | None = None) -> ModuleSpec | None:
        return None if name == "fiftyone" else real(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", without)
    result = CliRunner().invoke(main, [str(pets.run.path) if part == "RUN" else part for part in arguments])
    assert result.exit_code == 1
    assert "pip install 'eomt-workbench[fiftyone]'" in result.stderr


@pytest.mark.parametrize(
    ("address", "only_here"), [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False)]
)
def test_addresses_that_others_reach_are_known(address, only_here):
    assert app.is_loopback(address) is only_here
