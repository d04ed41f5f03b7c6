"""A folder belongs to one piece of work, whatever kind it is, and its second holder is told who has it."""

import os
import re
import socket
from pathlib import Path

import pytest

from workbench.errors import RunError
from workbench.files.claims import Claim, differences, first_fitting

CLAIM = Claim("training", "train.json")


def test_a_folder_is_numbered_until_one_fits(tmp_path: Path) -> None:
    taken = {tmp_path / "a", tmp_path / "a-2"}
    assert first_fitting(tmp_path / "a", lambda folder: folder not in taken) == tmp_path / "a-3"
    assert first_fitting(tmp_path / "b", lambda folder: folder not in taken) == tmp_path / "b"


def test_a_folder_of_another_kind_is_named_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{}")
    with (
        pytest.raises(RunError, match=r"no training folder \(it holds 'run.json'\)\. .* with --apply"),
        CLAIM.lock(tmp_path, "--apply"),
    ):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


def test_the_second_holder_is_told_who_the_first_is_and_since_when(tmp_path: Path) -> None:
    host = re.escape(socket.gethostname())
    with (
        CLAIM.lock(tmp_path / "a"),
        pytest.raises(RunError, match=rf"in use by process {os.getpid()} on {host}, since 20\d\d-.* UTC\. Wait for it"),
        CLAIM.lock(tmp_path / "a"),
    ):
        pass
    with CLAIM.lock(tmp_path / "a"):
        CLAIM.discard(tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_a_folder_with_content_is_not_discarded(tmp_path: Path) -> None:
    (tmp_path / "train.json").write_text("{}")
    CLAIM.discard(tmp_path)
    assert (tmp_path / "train.json").exists()


def test_differences_name_nested_keys_and_take_tuples_for_lists() -> None:
    old = {"recipe": {"lr": 0.1, "betas": [0.9, 0.98]}, "classes": list("abcde")}
    new = {"recipe": {"lr": 0.2, "betas": (0.9, 0.98)}, "classes": list("abcdef"), "seed": 1}
    assert differences(old, new) == [
        "classes is 5 of them there, 6 of them now",
        "recipe.lr is 0.1 there, 0.2 now",
        "seed is None there, 1 now",
    ]
