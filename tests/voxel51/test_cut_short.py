"""Pushes and pre-labels that are cut short: the same command goes on, and no half passes for whole."""

from typing import Any

import pymongo.errors
import pytest

from workbench.errors import FiftyOneError
from workbench.voxel51 import browse, prelabel
from workbench.voxel51.editing import RANK, WORTH
from workbench.voxel51.removing import remove_run
from workbench.voxel51.target import INFO, Target


class Cut(BaseException):
    """What no code expects, as a signal."""


def cut(*arguments: Any, **options: Any) -> None:
    raise Cut


def test_a_push_goes_on_with_the_field_of_one_that_was_cut_short(pets, fo, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(Cut):
        patch.setattr(browse, "push_images", cut)
        browse.push([pets.run])
    runs = fo.load_dataset("pets").info[INFO]["runs"]
    assert [about["complete"] for about in runs.values()] == [False]
    dataset = browse.push([pets.run]).dataset
    about = dataset.info[INFO]["runs"]
    assert (list(about), [each["complete"] for each in about.values()]) == (list(runs), [True])
    assert all(sample[field] is not None for field in runs for sample in dataset)


def test_a_dataset_has_its_name_only_once_it_says_what_it_is(pets, fo, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(Cut):
        patch.setattr(Target, "save_info", cut)
        browse.push([pets.run])
    assert "pets" not in fo.list_datasets()
    assert not any(fo.load_dataset(name).persistent for name in fo.list_datasets())
    assert browse.push([pets.run]).dataset.persistent


def test_pre_labels_that_were_cut_short_get_the_worth_and_rank_of_whole_ones(pets, fo, monkeypatch):
    def order() -> list[tuple[str, float, int]]:
        dataset = fo.load_dataset("pets")
        return list(zip(*dataset.values(["image_id", WORTH, RANK]), strict=True))

    prelabel.prelabel(pets.dataset, pets.run, labelled=True)
    whole = order()
    fo.delete_dataset("pets")
    with monkeypatch.context() as patch, pytest.raises(Cut):
        patch.setattr(prelabel, "_write_order", cut)
        prelabel.prelabel(pets.dataset, pets.run, labelled=True)
    assert prelabel.prelabel(pets.dataset, pets.run, labelled=True).kept == len(whole)
    assert order() == whole


@pytest.mark.parametrize("error", [pymongo.errors.AutoReconnect("gone"), pymongo.errors.WriteError("no room")])
def test_a_database_that_fails_is_one_message(pets, fo, monkeypatch, error):
    def fail(*arguments: Any, **options: Any) -> None:
        raise error

    browse.push([pets.run])
    monkeypatch.setattr(Target, "save_info", fail)
    for command in (
        lambda: browse.push([pets.run]),
        lambda: prelabel.prelabel(pets.dataset, pets.run, labelled=True),
        lambda: remove_run("pets", "first"),
    ):
        with pytest.raises(FiftyOneError, match=rf"database failed \({type(error).__name__}: .*the same command again"):
            command()


def test_an_error_of_ours_is_not_taken_for_one_of_the_database(pets, fo, monkeypatch):
    def fail(*arguments: Any, **options: Any) -> None:
        raise KeyError("not the database's")

    monkeypatch.setattr(browse, "push_images", fail)
    with pytest.raises(KeyError, match="not the database's"):
        browse.push([pets.run])
