"""The small parts of prediction: defaults, checkpoints, folders, devices, encoding, progress."""

import errno
import hashlib
import os
import signal
import struct
import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow.compute as pc
import pytest
import torch

from eomt import EomtConfig, EomtForUniversalSegmentation, EomtImageProcessor
from eomt.errors import ImageInputError
from tests.reference.memory_dataset import MemoryDataset
from workbench import catalog, rle, runs
from workbench.catalog.class_tables import read_class_table
from workbench.errors import DatasetError, ModelError, OptionError
from workbench.formats.base import Category, ImageRecord, Task
from workbench.prediction import defaults, pipeline, progress
from workbench.prediction.checkpoint import BUNDLED_CHECKPOINTS, Checkpoint, open_checkpoint, place_of
from workbench.prediction.defaults import BUNDLED_MODEL
from workbench.prediction.device import choose_batch_size, choose_device, choose_dtype
from workbench.prediction.encode import Failed, PredictedImage, PredictedMap, PredictedMasks, ShardBuilder
from workbench.prediction.encoded import BatchEncoder, EncodedBatch
from workbench.prediction.interrupt import StopRequest, stop_on_signals
from workbench.prediction.model import Prepared
from workbench.prediction.reading import reader
from workbench.prediction.run_folder import choose_folder, run_name
from workbench.prediction.session import missing_batches

TABLES = catalog.built_in_folder() / "classes"
BANANA, SKY = Category(52, "banana", True, (0, 0, 0)), Category(187, "sky", False, (0, 0, 0))


class DatasetOf(MemoryDataset):
    """A dataset of given categories and kinds of ground truth."""

    def __init__(self, categories: Sequence[Category], tasks: Sequence[Task] = ()) -> None:
        super().__init__({})
        self._categories, self._tasks = tuple(categories), tuple(tasks)

    @property
    def tasks(self) -> tuple[Task, ...]:
        return self._tasks


def record(ordinal: int) -> ImageRecord:
    return ImageRecord(str(ordinal), f"{ordinal}.jpg", Path(f"{ordinal}.jpg"), ordinal)


def checkpoint(
    model_id: str = "tue-mps/some_model", split: bool = False, names: Sequence[str] = ("banana", "sky")
) -> Checkpoint:
    config = EomtConfig(hidden_size=8, num_attention_heads=2, id2label=dict(enumerate(names)))
    return Checkpoint(model_id, model_id, config, EomtImageProcessor(do_split_image=split, do_pad=not split))


def table(name: str, things_only: bool = False) -> list[Category]:
    return [c for c in read_class_table(TABLES / name).categories if c.isthing or not things_only]


@pytest.mark.parametrize(
    ("categories", "kinds", "task", "expected"),
    [
        (table("coco_panoptic.csv"), ["panoptic", "instance"], None, "tue-mps/coco_panoptic_eomt_large_640"),
        (table("coco_panoptic.csv"), ["panoptic", "instance"], "instance", "tue-mps/coco_instance_eomt_large_640"),
        (table("coco_panoptic.csv", True), ["instance"], None, "tue-mps/coco_instance_eomt_large_640"),
        (table("ade20k_150.csv"), ["semantic"], None, "tue-mps/ade20k_semantic_eomt_large_512"),
        (table("ade20k_150.csv"), ["semantic"], "panoptic", "tue-mps/ade20k_panoptic_eomt_large_640"),
        (table("cityscapes_19.csv"), ["semantic"], None, "tue-mps/cityscapes_semantic_eomt_large_1024"),
    ],
)
def test_published_datasets_have_a_default_model(
    categories: list[Category], kinds: list[Task], task: Task | None, expected: str
) -> None:
    assert defaults.default_model(DatasetOf(categories, kinds), task) == expected


@pytest.mark.parametrize(
    ("dataset", "task"),
    [
        (DatasetOf([BANANA]), None),
        (DatasetOf([BANANA], ["instance"]), None),
        (DatasetOf(table("cityscapes_19.csv"), ["semantic"]), "panoptic"),
    ],
)
def test_other_datasets_need_a_model_and_are_told_so(dataset: DatasetOf, task: Task | None) -> None:
    with pytest.raises(OptionError, match="Name one with --model"):
        defaults.default_model(dataset, task)


def test_a_bundled_name_comes_before_a_folder_of_that_name_and_a_path_after_none(in_empty_folder: Path) -> None:
    (in_empty_folder / BUNDLED_MODEL).mkdir()
    assert place_of(BUNDLED_MODEL) == str(BUNDLED_CHECKPOINTS / BUNDLED_MODEL)
    assert Path(place_of(f"./{BUNDLED_MODEL}")).resolve() == in_empty_folder / BUNDLED_MODEL
    assert [Path(place_of(name)).resolve() for name in (".", "..")] == [in_empty_folder, in_empty_folder.parent]


def test_bundled_datasets_take_the_bundled_model() -> None:
    from workbench.formats import open_dataset

    assert defaults.default_model(open_dataset(catalog.find("scenes_val")), None) == defaults.BUNDLED_MODEL


@pytest.mark.parametrize(
    ("model_id", "split", "kinds", "expected"),
    [
        ("tue-mps/coco_instance_eomt_large_640", False, ["panoptic", "instance"], "instance"),
        ("tue-mps/eomt-dinov3-coco-panoptic-small-640", False, ["instance"], "panoptic"),
        ("tue-mps/ade20k_eomt", True, ["panoptic"], "semantic"),
        ("mine", False, ["instance", "semantic"], "instance"),
        ("panoptic_and_semantic", False, ["semantic"], "semantic"),
        ("mine", False, [], "panoptic"),
    ],
)
def test_the_task_is_the_checkpoints_own_then_the_datasets(
    model_id: str, split: bool, kinds: list[Task], expected: Task
) -> None:
    assert defaults.default_task(checkpoint(model_id, split), DatasetOf([BANANA], kinds)) == expected


def test_unlabelled_images_take_ids_after_the_class_index_where_no_table_fits() -> None:
    unlabelled = DatasetOf([])
    made = defaults.categories_for(unlabelled, checkpoint(), "instance")
    assert [(c.category_id, c.name, c.isthing) for c in made] == [(1, "banana", True), (2, "sky", True)]
    assert not any(c.isthing for c in defaults.categories_for(unlabelled, checkpoint(), "semantic"))
    with pytest.raises(ModelError, match="things and stuff cannot be told apart"):
        defaults.categories_for(unlabelled, checkpoint(), "panoptic")


def test_unlabelled_images_take_cocos_ids_for_a_coco_checkpoint() -> None:
    things = table("coco_panoptic.csv", things_only=True)
    made = defaults.categories_for(DatasetOf([]), checkpoint(names=[c.name for c in things]), "instance")
    assert [c.category_id for c in made] == [c.category_id for c in things]


@pytest.mark.parametrize("max_shard_size", ["5GB", 2000])
def test_the_hash_of_weights_covers_every_shard(tmp_path: Path, max_shard_size: str | int) -> None:
    model = EomtForUniversalSegmentation(
        EomtConfig(hidden_size=8, num_attention_heads=2, num_hidden_layers=2, num_blocks=1, image_size=32)
    )
    model.save_pretrained(tmp_path, max_shard_size=max_shard_size)
    EomtImageProcessor(size={"shortest_edge": 32, "longest_edge": 32}, do_pad=True).save_pretrained(tmp_path)
    before = open_checkpoint(str(tmp_path)).weights_sha256()
    files = sorted(tmp_path.glob("*.safetensors"))
    if len(files) == 1:
        assert before == hashlib.sha256(files[0].read_bytes()).hexdigest()
    for file in files:
        content = file.read_bytes()
        file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        assert open_checkpoint(str(tmp_path)).weights_sha256() != before
        file.write_bytes(content)
    assert open_checkpoint(str(tmp_path)).weights_sha256() == before


def test_a_run_name_has_only_harmless_characters() -> None:
    assert run_name("my data", "panoptic", "a:b/c") == "my_data-panoptic-a_b_c"


def test_a_folder_that_is_no_run_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "name").mkdir()
    (tmp_path / "name" / "notes.txt").touch()
    (tmp_path / "name-2").mkdir()
    (tmp_path / "name-2" / runs.MANIFEST).write_text("broken")
    assert choose_folder("name", {}, resume=True, root=tmp_path) == tmp_path / "name-3"


def test_a_folder_that_a_crash_left_empty_is_taken(tmp_path: Path) -> None:
    with runs.lock(tmp_path / "name"):
        pass
    assert choose_folder("name", {}, resume=True, root=tmp_path) == tmp_path / "name"


def test_auto_is_exact_on_a_cpu_and_fast_on_a_gpu() -> None:
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert (choose_dtype("auto", cpu), choose_dtype("auto", gpu)) == ("float32", "bfloat16")
    assert choose_batch_size("auto", cpu, (640, 640)) == choose_batch_size("auto", cpu, (128, 128)) == 2
    sizes = [choose_batch_size("auto", gpu, (edge, edge)) for edge in (128, 640, 1280, 4096)]
    assert sizes == [64, 16, 4, 1]
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert choose_device("cpu") == cpu


def test_batches_keep_their_places_in_the_dataset() -> None:
    records = [record(i) for i in range(7)]
    ids = [[r.image_id for r in batch] for batch in missing_batches(records, 3, {"1", "3", "4", "5"})]
    assert ids == [["0", "2"], ["6"]]


def test_a_map_becomes_rows_in_its_own_order_without_void_and_empty_segments() -> None:
    segment_map = np.array([[-1, 1, 1], [0, 0, 1]])
    prediction = PredictedMap(segment_map, np.array([1, 0, 0]), np.array([0.5, 0.25, 0.125], np.float32))
    builder = ShardBuilder([BANANA, SKY])
    builder.add(PredictedImage(record(7), prediction))
    segments, images = builder.build()
    rows = segments.to_pylist()
    assert [(r["segment_id"], r["ordinal"], r["category_id"], r["isthing"], r["score"]) for r in rows] == [
        (1, 0, 187, False, 0.5),
        (2, 1, 52, True, 0.25),
    ]
    for row, index in zip(rows, (0, 1), strict=True):
        assert np.array_equal(rle.decode(row["counts"], 2, 3), segment_map == index)
    assert (rows[0]["area"], rows[0]["bbox"]) == (2, [0, 1, 2, 1])
    assert images.to_pylist()[0] | {"error": None} == {
        "image_id": "7",
        "file_name": "7.jpg",
        "height": 2,
        "width": 3,
        "ordinal": 7,
        "status": "ok",
        "error": None,
    }


def test_masks_may_overlap_and_be_shared() -> None:
    masks = np.array([[[True, True]], [[False, True]]])
    prediction = PredictedMasks(masks, np.array([1, 0, 1]), np.array([0, 1, 1]), np.array([0.9, 0.5, 0.1], np.float32))
    builder = ShardBuilder([BANANA, SKY])
    builder.add(PredictedImage(record(0), prediction))
    rows = builder.build()[0].to_pylist()
    assert [(r["area"], r["bbox"], r["category_id"]) for r in rows] == [
        (1, [1, 0, 1, 1], 52),
        (2, [0, 0, 2, 1], 187),
        (1, [1, 0, 1, 1], 187),
    ]


def test_images_without_segments_and_failed_ones_are_in_the_image_table() -> None:
    builder = ShardBuilder([BANANA])
    nothing = PredictedMasks(np.zeros((0, 4, 5), np.bool_), *(np.zeros(0, np.int64),) * 2, np.zeros(0, np.float32))
    builder.add(PredictedImage(record(0), nothing))
    builder.add(PredictedImage(record(1), PredictedMap(np.full((4, 5), -1), np.zeros(0, np.int64), None)))
    builder.add(PredictedImage(record(2), Failed("gone")))
    assert builder.images == 3
    segments, images = builder.build()
    assert segments.num_rows == builder.images == 0
    assert images["status"].to_pylist() == ["ok", "ok", "failed"]
    assert images["height"].to_pylist() == [4, 4, None]
    assert images.filter(pc.is_valid(images["error"]))["error"].to_pylist() == ["gone"]


def test_lines_say_how_far_it_is_and_how_long_it_takes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with progress.LineProgress() as shown:
        shown.start(done=10, total=100)
        for seconds in (4, 7, 1000):
            now[0] += seconds
            shown.advance(30)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        "Resuming: 10 of 100 images are in.",
        "70/100 images, 5.45 images/s, 0:06 left",
        "100/100 images, 0.09 images/s, 0:00 left",
    ]


def test_the_bar_shows_the_same_on_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.BarProgress() as shown:
        shown.start(done=1, total=3)
        shown.note("a [note] with brackets")
        shown.advance(2)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "3/3 images" in captured.err
    assert "a [note] with brackets" in captured.err


@pytest.mark.parametrize(("seconds", "shown"), [(0.4, "0:00"), (75, "1:15"), (3661, "1:01:01")])
def test_time_left_is_written_as_a_clock(seconds: float, shown: str) -> None:
    assert progress.clock(seconds) == shown


def test_the_first_signal_asks_and_the_second_interrupts() -> None:
    before = signal.getsignal(signal.SIGINT)
    with stop_on_signals() as stop:
        assert not stop.requested
        signal.raise_signal(signal.SIGINT)
        assert stop.requested
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGINT) == before


def test_an_ignored_signal_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with stop_on_signals() as stop:
            signal.raise_signal(signal.SIGINT)
            assert not stop.requested
    finally:
        signal.signal(signal.SIGINT, before)


def test_outside_the_main_thread_signals_are_left_alone() -> None:
    before = signal.getsignal(signal.SIGINT)
    seen = []

    def look() -> None:
        with stop_on_signals():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert seen == [before]


# Images that cannot be read


RECORD = ImageRecord("1", "1.jpg", Path("images/1.jpg"), 0)


def read_with(error: Exception, folder: Path) -> Failed | Prepared:
    """What the reader makes of an error of Pillow's, as eomt passes it on."""

    def prepare(path: Path) -> Prepared:
        try:
            raise error
        except OSError as cause:
            raise ImageInputError(f"{path}: cannot be read as an image ({cause}).") from cause

    return reader(prepare, folder)(RECORD)


@pytest.mark.parametrize("number", [errno.EIO, errno.EMFILE, errno.EACCES, errno.ESTALE])
def test_what_may_be_over_at_the_next_attempt_stops_the_run_and_is_no_failed_image(tmp_path: Path, number: int) -> None:
    with pytest.raises(DatasetError, match=r"1\.jpg: cannot be read now .*run the same command again"):
        read_with(OSError(number, os.strerror(number)), tmp_path)


def test_too_little_memory_is_no_failed_image(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"memory ran out.*--workers"):
        read_with(MemoryError(), tmp_path)


@pytest.mark.parametrize(
    "error",
    [FileNotFoundError(errno.ENOENT, "gone"), OSError("image file is truncated"), struct.error("short")],
)
def test_a_missing_or_broken_file_is_a_failed_image(tmp_path: Path, error: Exception) -> None:
    assert isinstance(read_with(error, tmp_path), Failed)


# The pipeline


def test_what_is_whole_is_committed_where_the_last_batch_before_a_stop_fails() -> None:
    done: list[str] = []

    class Sink:
        def add(self, batch: EncodedBatch) -> None:
            done.append("added")

        def commit(self) -> None:
            done.append("committed")

    class Encoder(BatchEncoder):
        def encode(self, batch: Any) -> EncodedBatch:
            if done:
                raise MemoryError("no room for the second batch")
            return super().encode(batch)

    class StopAtTheSecond(StopRequest):
        requested = property(lambda self: next(answers), lambda self, value: None)  # type: ignore[assignment]

    answers = iter([False, True])
    take = pipeline.one_after_another([[RECORD], [RECORD], [RECORD]])
    with pytest.raises(MemoryError, match="second batch"):
        pipeline.run_batches(
            take, lambda record: Failed("gone"), cast(Any, None), Encoder([]), Sink(), StopAtTheSecond(), 1
        )
    assert done == ["added", "committed"]


class Interrupting(deque[Any]):
    """Raises Ctrl-C where a batch that is being written is to be noted."""

    def append(self, item: Any) -> None:
        if isinstance(item, Future):
            raise KeyboardInterrupt
        super().append(item)


def test_a_ctrl_c_behind_a_batchs_submission_commits_after_that_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []

    class SlowWriter:
        def add(self, batch: EncodedBatch) -> None:
            time.sleep(0.2)
            done.append("added")

        def commit(self) -> None:
            done.append("committed")

    monkeypatch.setattr(pipeline, "deque", Interrupting)
    with pytest.raises(KeyboardInterrupt), stop_on_signals() as stop:
        take = pipeline.one_after_another([[RECORD]])
        pipeline.run_batches(
            take, lambda record: Failed("gone"), cast(Any, None), BatchEncoder([]), SlowWriter(), stop, workers=1
        )
    assert done == ["added", "committed"]
