"""Shards appear whole or not at all, and come back in order however they are asked for."""

import pickle
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench import rle, store
from workbench.errors import SegmentTableError
from workbench.segments import concat, image_table, segment_table
from workbench.store import SegmentStore, SegmentStoreWriter

COUNTS = rle.encode(np.ones((1, 2), dtype=np.bool_))


def segments_of(image_ids: Sequence[str], each: int = 2) -> pa.Table:
    """`each` segments an image."""
    if not image_ids or not each:
        return concat([])
    rows = [(image_id, number) for image_id in image_ids for number in range(each)]
    return segment_table(
        {
            "image_id": [image_id for image_id, _ in rows],
            "segment_id": [number + 1 for _, number in rows],
            "ordinal": [number for _, number in rows],
            **{
                name: [value] * len(rows)
                for name, value in {"category_id": 1, "isthing": True, "iscrowd": False}.items()
            },
            **{name: [value] * len(rows) for name, value in {"area": 2, "height": 1, "width": 2}.items()},
            "bbox": [[0, 0, 2, 1]] * len(rows),
            "counts": [COUNTS] * len(rows),
        }
    )


def images_of(image_ids: Sequence[str]) -> pa.Table:
    return image_table(
        {
            "image_id": list(image_ids),
            "file_name": [f"{image_id}.jpg" for image_id in image_ids],
            "ordinal": list(range(len(image_ids))),
            "status": ["ok"] * len(image_ids),
        }
    )


def fill(folder: Path, *shards: Sequence[str]) -> SegmentStore:
    writer = SegmentStoreWriter(folder)
    for shard in shards:
        writer.commit(segments_of(shard), images_of(shard))
    return SegmentStore(folder)


def test_what_was_committed_comes_back_in_order(tmp_path: Path) -> None:
    filled = fill(tmp_path, ["b", "a"], ["c"])
    assert filled.images()["image_id"].to_pylist() == ["b", "a", "c"]
    assert filled.segments()["image_id"].to_pylist() == ["b", "b", "a", "a", "c", "c"]
    assert filled.count_segments() == 6
    assert [path.name for path in sorted((tmp_path / "predictions").iterdir())] == [
        "part-00000.parquet",
        "part-00001.parquet",
    ]


def test_an_empty_store_has_empty_tables(tmp_path: Path) -> None:
    empty = SegmentStore(tmp_path)
    assert empty.images().num_rows == empty.segments().num_rows == empty.count_segments() == 0
    assert [table.num_rows for table in empty.chunks([["a"]])] == [0]


def test_images_without_segments_count(tmp_path: Path) -> None:
    SegmentStoreWriter(tmp_path).commit(segments_of([]), images_of(["a"]))
    assert SegmentStore(tmp_path).images().num_rows == 1
    assert SegmentStoreWriter(tmp_path).done_image_ids() == {"a"}


def test_a_later_writer_goes_on_where_the_first_stopped(tmp_path: Path) -> None:
    fill(tmp_path, ["a"])
    assert fill(tmp_path, ["b"]).parts == ("part-00000.parquet", "part-00001.parquet")


def test_shards_beyond_the_hundred_thousandth_stay_in_order(tmp_path: Path) -> None:
    writer = SegmentStoreWriter(tmp_path)
    writer._next = 99_999
    for image_id in ("a", "b"):
        writer.commit(segments_of([image_id]), images_of([image_id]))
    assert SegmentStore(tmp_path).images()["image_id"].to_pylist() == ["a", "b"]
    assert SegmentStoreWriter(tmp_path)._next == 100_001


@pytest.mark.parametrize("survivors", [1, 2, 3])
def test_a_crash_in_the_middle_of_a_commit_leaves_no_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, survivors: int
) -> None:
    fill(tmp_path, ["a"])
    writer = SegmentStoreWriter(tmp_path)
    steps = iter(range(4))

    def crash_after(descriptor: int) -> None:
        if next(steps) >= survivors:
            raise KeyboardInterrupt

    monkeypatch.setattr(store.os, "fsync", crash_after)  # called after each step of a commit
    with pytest.raises(KeyboardInterrupt):
        writer.commit(segments_of(["b"]), images_of(["b"]))
    monkeypatch.undo()
    committed = SegmentStore(tmp_path).images()["image_id"].to_pylist()
    assert committed == (["a", "b"] if survivors == 3 else ["a"])
    again = SegmentStoreWriter(tmp_path)
    names = {path.name for folder in ("predictions", "images") for path in (tmp_path / folder).iterdir()}
    assert names == {f"part-0000{number}.parquet" for number in range(len(committed))}
    assert again.done_image_ids() == set(committed)


def test_an_unfinished_file_is_hidden_from_other_readers(tmp_path: Path) -> None:
    fill(tmp_path, ["a"])
    (tmp_path / "predictions" / ".part-00001.parquet.partial").write_bytes(b"half")
    import pandas as pd

    assert len(pd.read_parquet(tmp_path / "predictions")) == 2


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_chunks_hold_exactly_the_rows_of_their_images(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    ids = [f"{number:02}" for number in range(8)]
    cuts = sorted(data.draw(st.sets(st.integers(1, 7))))
    folder = tmp_path_factory.mktemp("store")
    filled = fill(folder, *[ids[a:b] for a, b in zip([0, *cuts], [*cuts, 8], strict=True)])
    asked = data.draw(st.lists(st.lists(st.sampled_from([*ids, "absent"]), max_size=4, unique=True), max_size=4))
    for wanted, table in zip(asked, filled.chunks(asked), strict=True):
        expected = [image_id for image_id in ids if image_id in wanted for _ in range(2)]
        assert table["image_id"].to_pylist() == expected


def test_an_image_in_two_shards_is_refused(tmp_path: Path) -> None:
    filled = fill(tmp_path, ["a"], ["a"])
    with pytest.raises(SegmentTableError, match=r"image a is in both part-00000\.parquet and part-00001\.parquet"):
        list(filled.chunks([["a"]]))


def test_a_store_that_was_sent_to_another_process_reads_the_same_rows(tmp_path: Path) -> None:
    filled = fill(tmp_path, ["a", "b"], ["c"])
    (before,) = filled.chunks([["b", "c"]])
    sent = pickle.dumps(filled)
    assert len(sent) < 4000  # nothing that was read goes along
    located = filled.locate(pa.array(["c", "absent", "b"]))
    assert located.tolist() == [1, -1, 0]
    assert filled.parts_at(located) == ("part-00000.parquet", "part-00001.parquet")
    assert pickle.loads(sent).rows(["b", "c"], filled.parts_at(located)).equals(before)
