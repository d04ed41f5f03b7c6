"""The segment table's files can be read without us, and a broken or newer one is refused with its name."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from workbench import rle
from workbench.errors import SegmentTableError
from workbench.segments import (
    IMAGE_SCHEMA,
    SEGMENT_SCHEMA,
    check_rle,
    concat,
    image_table,
    read_parquet,
    segment_table,
    void_mask,
    write_parquet,
)

MASK = np.array([[True, False, False], [True, True, False]])


def columns(**changes: Any) -> dict[str, Any]:
    """Two rows: a segment and a void row of a 2x3 image."""
    return {
        "image_id": ["000285", "000285"],
        "segment_id": [1, 0],
        "ordinal": [0, 1],
        "category_id": [23, -1],
        "isthing": [True, False],
        "iscrowd": [False, False],
        "score": [0.75, None],
        "area": [3, 3],
        "bbox": [[0, 0, 2, 2], [1, 0, 2, 2]],
        "height": [2, 2],
        "width": [3, 3],
        "counts": [rle.encode(MASK), rle.encode(~MASK)],
        **changes,
    }


def test_columns_left_out_are_null() -> None:
    table = segment_table(columns())
    assert table.schema.equals(SEGMENT_SCHEMA, check_metadata=True)
    assert table["declared_area"].null_count == table["source_id"].null_count == 2
    assert void_mask(table).tolist() == [False, True]


def test_a_table_survives_a_file(tmp_path: Path) -> None:
    table = segment_table(columns())
    write_parquet(table, tmp_path / "part.parquet")
    assert read_parquet([tmp_path / "part.parquet"]).equals(table)
    assert read_parquet([tmp_path / "part.parquet"] * 2).equals(concat([table, table]))


def test_pandas_and_pycocotools_suffice_to_read_a_file(tmp_path: Path) -> None:
    (tmp_path / "predictions").mkdir()
    write_parquet(segment_table(columns()), tmp_path / "predictions" / "part-00000.parquet")
    row = pd.read_parquet(tmp_path / "predictions").iloc[0]
    assert (row["image_id"], row["category_id"], row["bbox"].tolist()) == ("000285", 23, [0, 0, 2, 2])
    import pycocotools.mask as coco_mask

    assert coco_mask.area({"size": [int(row["height"]), int(row["width"])], "counts": row["counts"]}) == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bbox": None}, "column bbox: it has 2 empty cells"),
        ({"colour": [1, 2]}, r"unknown \['colour'\]"),
        ({"area": [3.5, 3.0]}, "column area"),
        ({"counts": [b"5", None]}, "column counts: it has 1 empty cells"),
        ({"category_id": [2**40, 1]}, "column category_id"),
        ({"image_id": [1, 2]}, "column image_id"),
    ],
)
def test_columns_that_do_not_fit_are_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SegmentTableError, match=message):
        segment_table(columns(**changes))


def test_a_missing_column_is_named() -> None:
    without = columns()
    del without["counts"]
    with pytest.raises(SegmentTableError, match=r"missing \['counts'\]"):
        segment_table(without)


def test_null_in_a_column_that_needs_values_is_refused() -> None:
    with pytest.raises(SegmentTableError, match="column category_id"):
        segment_table(columns(category_id=[1, None]))


def test_no_tables_make_an_empty_one_of_the_schema() -> None:
    assert concat([]).schema.equals(SEGMENT_SCHEMA, check_metadata=True)
    assert concat([], IMAGE_SCHEMA).num_rows == 0


def test_a_newer_schema_is_refused_with_the_remedy(tmp_path: Path) -> None:
    table = segment_table(columns()).replace_schema_metadata({b"workbench.schema_version": b"2"})
    pq.write_table(table, tmp_path / "new.parquet")
    with pytest.raises(SegmentTableError, match="schema version 2; this workbench reads up to 1"):
        read_parquet([tmp_path / "new.parquet"])


def test_other_columns_are_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": [1]}), tmp_path / "other.parquet")
    with pytest.raises(SegmentTableError, match=r"other\.parquet: its columns are not those"):
        read_parquet([tmp_path / "other.parquet"])


@pytest.mark.parametrize("content", [b"", b"PAR1 and so on", b"\x00" * 100])
def test_a_file_that_is_no_parquet_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "broken.parquet").write_bytes(content)
    with pytest.raises(SegmentTableError, match=r"broken\.parquet: not a readable Parquet file"):
        read_parquet([tmp_path / "broken.parquet"])


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "cut.parquet"
    write_parquet(segment_table(columns()), path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(SegmentTableError, match="not a readable Parquet file"):
        read_parquet([path])


@pytest.mark.parametrize("counts", [b"", b"5", b"\xff"])
def test_a_mask_that_does_not_fill_its_image_is_refused_on_read(tmp_path: Path, counts: bytes) -> None:
    write_parquet(segment_table(columns(counts=[rle.encode(MASK), counts])), tmp_path / "part.parquet")
    with pytest.raises(SegmentTableError, match=r"part\.parquet: row 1"):
        read_parquet([tmp_path / "part.parquet"])


def test_checked_runs_are_given_back() -> None:
    assert check_rle(segment_table(columns()), "here").areas().tolist() == [3, 3]


@pytest.mark.parametrize("sign", [0, -1])
def test_an_image_without_pixels_is_refused_on_read(tmp_path: Path, sign: int) -> None:
    counts = [rle.encode(MASK), rle.encode(~MASK)] if sign else [b"", b""]
    sizes = {"height": [2 * sign] * 2, "width": [3 * sign] * 2, "area": [3 * abs(sign)] * 2, "counts": counts}
    write_parquet(segment_table(columns(**sizes)), tmp_path / "part.parquet")
    with pytest.raises(SegmentTableError, match=rf"part.parquet: row 0: an image of {2 * sign} x {3 * sign} pixels"):
        read_parquet([tmp_path / "part.parquet"])


def test_an_area_that_is_not_its_masks_is_refused() -> None:
    with pytest.raises(SegmentTableError, match="here: row 0: area is 4, its mask has 3 pixels"):
        check_rle(segment_table(columns(area=[4, 3])), "here")


def test_an_image_that_failed_needs_no_size() -> None:
    table = image_table(
        {"image_id": ["1"], "file_name": ["1.jpg"], "ordinal": [0], "status": ["failed"], "error": ["gone"]}
    )
    assert table.schema.equals(IMAGE_SCHEMA, check_metadata=True)
    assert table["height"].to_pylist() == [None]


def test_no_flipped_bit_is_read_as_another_score(tmp_path: Path) -> None:
    scores = np.random.default_rng(0).random(200).tolist()
    row = segment_table(columns()).slice(0, 1).to_pydict()
    path = tmp_path / "part.parquet"
    write_parquet(segment_table({name: values * 200 for name, values in row.items()} | {"score": scores}), path)
    whole = path.read_bytes()
    column = pq.read_metadata(path).row_group(0).column(SEGMENT_SCHEMA.get_field_index("score"))
    for place in range(column.dictionary_page_offset + 100, column.data_page_offset, 50):  # after the page's header
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(SegmentTableError, match="CRC checksum verification failed"):
            read_parquet([path])


def test_a_file_without_checksums_is_still_read(tmp_path: Path) -> None:
    table = segment_table(columns())
    pq.write_table(table, tmp_path / "older.parquet", compression="zstd")
    assert read_parquet([tmp_path / "older.parquet"]).equals(table)
