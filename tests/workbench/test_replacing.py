"""Files and folders appear whole, and what was there before is never lost."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from workbench.files.replacing import new_file, new_file_and_folder, new_folder, recover, recover_pair, remove_partials


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A folder with an old file."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old").write_text("old")
    return tmp_path / "out"


def test_a_block_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), new_file(tmp_path / "out.json") as path:
        path.write_text("half")
        raise RuntimeError
    with pytest.raises(RuntimeError), new_folder(tmp_path / "out") as path:
        (path / "half.png").write_text("half")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_replaced_as_a_whole(out: Path) -> None:
    with new_folder(out) as path:
        (path / "deep").mkdir()
        (path / "deep" / "new").write_text("new")
    assert [entry.name for entry in out.parent.rglob("*")] == ["out", "deep", "new"]


@pytest.mark.parametrize("error", [OSError("disk gone"), KeyboardInterrupt()])
def test_the_old_folder_comes_back_where_the_new_one_cannot_take_its_place(
    out: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    monkeypatch.setattr(Path, "rename", failing(Path.rename, error, lambda path: path.name.endswith(".partial")))
    with pytest.raises(type(error)), new_folder(out) as path:
        (path / "new").write_text("new")
    assert [entry.name for entry in out.parent.rglob("*")] == ["out", "old"]


def failing(
    rename: Callable[[Path, Path], Path], error: BaseException, where: Callable[[Path], bool]
) -> Callable[[Path, Path], Path]:
    """`rename`, which raises where the path is such."""

    def renamed(path: Path, target: Path) -> Path:
        if where(path):
            raise error
        return rename(path, target)

    return renamed


def test_what_a_kill_between_the_renames_left_is_put_back(out: Path) -> None:
    out.rename(out.with_name(".out.old"))
    recover(out)
    assert (out / "old").read_text() == "old"
    assert not out.with_name(".out.old").exists()


def test_a_new_folder_that_fails_after_such_a_kill_leaves_the_old_one(out: Path) -> None:
    out.rename(out.with_name(".out.old"))
    with pytest.raises(RuntimeError), new_folder(out):
        raise RuntimeError
    assert (out / "old").read_text() == "old"


def test_an_old_folder_whose_successor_is_there_is_removed(out: Path) -> None:
    out.with_name(".out.old").mkdir()
    recover(out)
    assert [entry.name for entry in out.parent.rglob("*")] == ["out", "old"]


def test_a_link_stays_and_the_folder_that_it_leads_to_is_replaced(out: Path) -> None:
    link = out.with_name("link")
    link.symlink_to(out)
    with new_folder(link) as path:
        (path / "new").write_text("new")
    assert link.is_symlink()
    assert [entry.name for entry in out.iterdir()] == ["new"]


def test_the_partial_folders_of_killed_processes_are_removed_by_whoever_holds_the_lock(out: Path) -> None:
    for name in (".out.1.partial", ".out.1.gone", ".other.1.partial"):
        out.with_name(name).mkdir()
    remove_partials(out)
    assert sorted(entry.name for entry in out.parent.iterdir()) == [".other.1.partial", "out"]


_WRITE_A_PAIR_AND_DIE = """
import os, sys
from pathlib import Path
from workbench.files.replacing import new_file_and_folder

renames, place = int(sys.argv[1]), Path(sys.argv[2])

def die(event, arguments):
    global renames
    if event == "os.rename":
        if renames == 0:
            os._exit(9)
        renames -= 1

with new_file_and_folder(place / "out.json", place / "out") as (file, folder):
    file.write_text("new")
    (folder / "new").write_text("new")
    sys.addaudithook(die)
"""


@pytest.mark.parametrize("renames", range(5))
def test_a_file_that_is_there_belongs_to_the_folder_beside_it_whenever_the_process_is_killed(
    out: Path, renames: int
) -> None:
    file = out.with_name("out.json")
    file.write_text("old")
    subprocess.run([sys.executable, "-c", _WRITE_A_PAIR_AND_DIE, str(renames), str(out.parent)], check=False)
    if file.exists():
        assert [entry.name for entry in out.iterdir()] == [file.read_text()]
    recover_pair(file, out)
    expected = "old" if renames < 4 else "new"
    assert file.read_text() == expected
    assert [entry.name for entry in out.iterdir()] == [expected]
    with new_file_and_folder(file, out) as (new, _):
        new.write_text("newest")
    assert sorted(entry.name for entry in out.parent.iterdir()) == ["out", "out.json"]
    assert (file.read_text(), list(out.iterdir())) == ("newest", [])


@pytest.mark.parametrize("error", [OSError("disk gone"), KeyboardInterrupt()])
@pytest.mark.parametrize("stuck", [".out.json.", ".out."])
def test_the_old_pair_comes_back_where_a_new_one_cannot_take_its_place(
    out: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, stuck: str
) -> None:
    file = out.with_name("out.json")
    file.write_text("old")
    own = f"{stuck}{socket.gethostname()}.{os.getpid()}.partial"
    monkeypatch.setattr(Path, "rename", failing(Path.rename, error, lambda path: path.name == own))
    with pytest.raises(type(error)), new_file_and_folder(file, out) as (new, _):
        new.write_text("new")
    assert sorted(entry.name for entry in out.parent.rglob("*")) == ["old", "out", "out.json"]
    assert file.read_text() == "old"


def test_what_processes_that_are_no_more_began_to_write_is_removed_and_nothing_else(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    own, other = f".out.{socket.gethostname()}", ".out.elsewhere"
    for name in (f"{own}.{process.pid}.partial", f"{own}.{process.pid}.gone", f"{own}.{os.getppid()}.partial"):
        (tmp_path / name).mkdir()
    (tmp_path / f"{other}.{process.pid}.partial").mkdir()
    with new_folder(tmp_path / "out"):
        pass
    left = sorted(entry.name for entry in tmp_path.iterdir())
    assert left == sorted(["out", f"{own}.{os.getppid()}.partial", f"{other}.{process.pid}.partial"])
