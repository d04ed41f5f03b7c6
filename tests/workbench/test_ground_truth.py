"""Ground truth is converted once, survives crashes and rivals, and follows every change of what is behind it."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.reference.ground_truth_rows import opened, rows
from tests.reference.small_datasets import (
    write_classes,
    write_ids,
    write_image,
    write_panoptic,
    write_semantic,
    write_toml,
)
from workbench import ground_truth
from workbench.errors import DatasetError
from workbench.files import digests
from workbench.formats.annotated import AnnotatedDataset


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("WORKBENCH_CACHE", str(folder))
    return folder


@pytest.fixture
def definition(tmp_path: Path) -> Path:
    maps = {image_id: [[1, 2, 0]] for image_id in range(5)}
    infos = [{"id": 1, "category_id": 7}, {"id": 2, "category_id": 90}]
    return write_panoptic(tmp_path / "data", maps, dict.fromkeys(maps, infos))[0]


@pytest.mark.parametrize("task", ["panoptic", "instance", "semantic"])
def test_store_holds_the_readers_rows(definition, task):
    store = ground_truth.load(opened(definition), task)
    assert store.segments().to_pylist() == rows(definition, task)
    assert store.images()["image_id"].to_pylist() == ["0", "1", "2", "3", "4"]


def test_second_load_converts_nothing(definition, monkeypatch):
    first = ground_truth.load(opened(definition), "panoptic")
    monkeypatch.setattr(AnnotatedDataset, "ground_truth", lambda *_: pytest.fail("converted again"))
    assert ground_truth.load(opened(definition), "panoptic").folder == first.folder


def test_progress_counts_the_images(definition):
    told = []
    ground_truth.load(opened(definition), "panoptic", lambda done, total: told.append((done, total)))
    assert told == [(5, 5)]


def test_task_without_annotations_leaves_nothing_that_looks_whole(tmp_path, cache):
    path = write_semantic(tmp_path / "semantic", {"a": [[1]]})
    with pytest.raises(DatasetError, match="no panoptic ground truth"):
        ground_truth.load(opened(path), "panoptic")
    assert list(cache.glob("ground_truth/*/ground_truth.json")) == []


def test_what_a_crash_left_is_replaced(definition, cache, monkeypatch):
    real = AnnotatedDataset.ground_truth

    def crashing(self, task, images_per_table=256):
        yield from list(real(self, task, 2))[:1]
        raise KeyboardInterrupt

    monkeypatch.setattr(AnnotatedDataset, "ground_truth", crashing)
    with pytest.raises(KeyboardInterrupt):
        ground_truth.load(opened(definition), "panoptic")
    assert list(cache.glob("ground_truth/.*.partial/images/*.parquet"))
    monkeypatch.setattr(AnnotatedDataset, "ground_truth", real)
    assert ground_truth.load(opened(definition), "panoptic").segments().to_pylist() == rows(definition, "panoptic")
    assert not list(cache.glob("ground_truth/.*.partial"))


def test_folder_without_its_marker_is_converted_again(definition):
    store = ground_truth.load(opened(definition), "panoptic")
    (store.folder / ground_truth.COMPLETE).unlink()
    next(store.images_folder.iterdir()).unlink()
    assert ground_truth.load(opened(definition), "panoptic").segments().to_pylist() == rows(definition, "panoptic")


def test_what_was_converted_under_laxer_checks_is_converted_again(definition, monkeypatch):
    first = ground_truth.load(opened(definition), "panoptic")
    monkeypatch.setattr(ground_truth, "CONVERSION_VERSION", ground_truth.CONVERSION_VERSION + 1)
    assert ground_truth.load(opened(definition), "panoptic").folder != first.folder


def test_a_conversion_takes_away_those_that_nobody_has_read_for_long(definition, tmp_path):
    old, used = (ground_truth.load(opened(definition), task).folder for task in ("panoptic", "semantic"))
    long_ago = time.time() - (ground_truth.DAYS_KEPT + 1) * 86_400
    for folder in (old, used):
        os.utime(folder / ground_truth.COMPLETE, (long_ago, long_ago))
    ground_truth.load(opened(definition), "semantic")
    new = ground_truth.load(opened(definition), "instance").folder
    assert {path for path in old.parent.iterdir() if path.is_dir()} == {used, new}
    assert ground_truth.load(opened(definition), "panoptic").count_images() == 5


def test_two_processes_convert_once_and_both_read_it(definition, cache):
    program = (
        "import sys, time\nfrom workbench import catalog, ground_truth\nfrom workbench.formats import open_dataset\n"
        "from workbench.formats.annotated import AnnotatedDataset as A\nreal = A.ground_truth\n"
        "def slow(*arguments):\n    print('converting', flush=True); time.sleep(0.5); return real(*arguments)\n"
        "A.ground_truth = slow\n"
        "print(len(ground_truth.load(open_dataset(catalog.find(sys.argv[1])), 'panoptic').segments()))"
    )
    command = [sys.executable, "-c", program, str(definition)]
    rivals = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [rival.communicate(timeout=60)[0].split() for rival in rivals]
    assert sorted(said) == [["15"], ["converting", "15"]]


def test_cache_that_cannot_be_written_names_the_remedy(definition, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "file"))
    with pytest.raises(DatasetError, match="Set WORKBENCH_CACHE"):
        ground_truth.load(opened(definition), "panoptic")


# The fingerprint


def test_fingerprint_does_not_depend_on_where_or_when(definition, tmp_path):
    before = opened(definition).fingerprint()
    (tmp_path / "data").rename(tmp_path / "moved")
    later = time.time() + 100
    for path in (tmp_path / "moved").rglob("*.png"):
        os.utime(path, (later, later))
    assert opened(tmp_path / "moved/small.toml").fingerprint() == before


def test_fingerprint_changes_with_a_pixel_of_a_label_map(definition, tmp_path):
    before = opened(definition).fingerprint()
    size = (tmp_path / "data/panoptic/3.png").stat().st_size
    write_ids(tmp_path / "data/panoptic/3.png", [[2, 1, 0]])
    assert (tmp_path / "data/panoptic/3.png").stat().st_size == size  # only the content tells
    assert opened(definition).fingerprint() != before


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: write_image(folder / "images/b.jpg", (1, 2)),
        lambda folder: write_classes(folder / "classes.csv", "1,wall,1\n2,door,1\n3,cat,1\n"),
        lambda folder: (folder / "labels/a.png").unlink(),
        lambda folder: (folder / "small.toml").write_text((folder / "small.toml").read_text() + "void = [0, 9]\n"),
        lambda folder: (folder / "small.toml").write_text((folder / "small.toml").read_text() + "ignore_index = 3\n"),
    ],
    ids=["image added", "class table", "label map gone", "void", "ignore_index"],
)
def test_fingerprint_changes_with_whatever_decides_the_rows(tmp_path, change):
    path = write_semantic(tmp_path / "data", {"a": [[1, 2]]})
    before = opened(path).fingerprint()
    change(tmp_path / "data")
    assert opened(path).fingerprint() != before


def test_fingerprint_of_unlabelled_images_is_their_list(tmp_path):
    write_image(tmp_path / "photos/a.jpg", (1, 2))
    path = write_toml(tmp_path, format="images", images="photos")
    before = opened(path).fingerprint()
    assert opened(path).fingerprint() == before
    write_image(tmp_path / "photos/b.jpg", (1, 2))
    assert opened(path).fingerprint() != before


def test_changed_annotations_are_converted_anew(definition, tmp_path):
    first = ground_truth.load(opened(definition), "panoptic")
    write_ids(tmp_path / "data/panoptic/3.png", [[1, 1, 2]])
    second = ground_truth.load(opened(definition), "panoptic")
    assert second.folder != first.folder
    assert second.segments().to_pylist() == rows(definition, "panoptic")


def test_digests_are_read_once_and_again_after_a_change(tmp_path, monkeypatch):
    file = tmp_path / "file"
    file.write_bytes(b"one")
    first = digests.content_digests([file, tmp_path / "none"])
    assert first[1] == "missing"
    monkeypatch.setattr(digests, "_sha256", lambda _: pytest.fail("read again"))
    assert digests.content_digests([file, tmp_path / "none"]) == first
    monkeypatch.undo()
    file.write_bytes(b"two")
    assert digests.content_digests([file])[0] != first[0]


@pytest.mark.parametrize("replaced", [False, True], ids=["written over", "replaced"])
def test_a_file_whose_modification_time_was_set_back_is_read_again(tmp_path, replaced):
    file = tmp_path / "file"
    file.write_bytes(b"one")
    before, status = digests.content_digests([file]), file.stat()
    new = tmp_path / "new" if replaced else file
    new.write_bytes(b"two")
    os.utime(new, ns=(status.st_atime_ns, status.st_mtime_ns))
    new.replace(file)
    assert digests.content_digests([file]) != before


def test_digests_need_no_cache(tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(b"one")
    expected = digests.content_digests([tmp_path / "file"])
    monkeypatch.setenv("WORKBENCH_CACHE", "/dev/null/cache")
    assert digests.content_digests([tmp_path / "file"]) == expected


def test_reading_ground_truth_needs_no_torch(definition):
    program = (
        "import sys\nfrom workbench import catalog, ground_truth\nfrom workbench.formats import open_dataset\n"
        "ground_truth.load(open_dataset(catalog.find(sys.argv[1])), 'panoptic').segments()\n"
        "print('torch' in sys.modules)"
    )
    result = subprocess.run(
        [sys.executable, "-c", program, str(definition)], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "False"


def test_what_is_taken_away_goes_as_a_whole_before_any_of_its_files(definition, monkeypatch):
    old = ground_truth.load(opened(definition), "panoptic").folder
    long_ago = time.time() - (ground_truth.DAYS_KEPT + 1) * 86_400
    os.utime(old / ground_truth.COMPLETE, (long_ago, long_ago))
    files = {path.relative_to(old) for path in old.rglob("*")}
    seen = []

    def killed(folder, ignore_errors=False):
        if not folder.name.endswith(".partial"):
            seen.append((old.exists(), files == {path.relative_to(folder) for path in folder.rglob("*")}))

    with monkeypatch.context() as patch:
        patch.setattr(ground_truth.shutil, "rmtree", killed)
        ground_truth.load(opened(definition), "instance")
    assert seen == [(False, True)]
    os.utime(ground_truth.load(opened(definition), "instance").folder / ground_truth.COMPLETE, (long_ago, long_ago))
    new = ground_truth.load(opened(definition), "semantic").folder
    assert {path for path in old.parent.iterdir() if path.is_dir()} == {new}
