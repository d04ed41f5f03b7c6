"""Files and folders appear whole, and what was there before is never lost."""

from collections.abc import Callable
from pathlib import Path

import pytest

from workbench.files.replacing import new_file, new_folder, recover, remove_partials


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
