"""Run folders and lakes are read alike by DuckDB, Polars, pandas and Arrow; an export replaces only its own run."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from tests.reference.sharded_runs import sharded_run
from workbench.cli import main
from workbench.errors import OptionError, RunError, TransferError
from workbench.exports import hive, lake
from workbench.exports.api import export
from workbench.exports.lake import export_lake
from workbench.runs import Run

ODD_NAME = "odd = 50% α+b #1"
Reader = Callable[[str], list[dict[str, Any]]]


def rows(table: pa.Table) -> list[dict[str, Any]]:
    """Rows in an order of their own, lists of numbers as lists, absent values as None."""
    return sorted(table.to_pylist(), key=repr)


def with_duckdb(folder: str) -> list[dict[str, Any]]:
    table = duckdb.sql(f"select * from read_parquet('{folder}/**/*.parquet', hive_partitioning = true)")
    return rows(pa.table(table.to_arrow_table()))


def with_polars(folder: str) -> list[dict[str, Any]]:
    return rows(pl.read_parquet(folder, hive_partitioning=True).to_arrow())


def with_pandas(folder: str) -> list[dict[str, Any]]:
    frame = pd.read_parquet(folder, dtype_backend="pyarrow")
    keys = {key: frame[key].astype("string[pyarrow]") for key in lake.KEYS if key in frame}
    return rows(pa.Table.from_pandas(frame.assign(**keys), preserve_index=False))


def with_arrow(folder: str) -> list[dict[str, Any]]:
    return rows(ds.dataset(folder, partitioning="hive").to_table())


READERS = pytest.mark.parametrize("read", [with_duckdb, with_polars, with_pandas, with_arrow])


@pytest.fixture(scope="module")
def two_runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Run, Path]:
    folder = tmp_path_factory.mktemp("lakes")
    first, odd = sharded_run(folder / "first"), sharded_run(folder / ODD_NAME, shards=2, threshold=0.5)
    return first, odd, export_lake([first, odd], folder / "lake")


@READERS
def test_a_run_folder_is_read_as_it_is(read: Reader, two_runs: tuple[Run, Run, Path]) -> None:
    run = two_runs[0]
    assert read(str(run.path / "predictions")) == rows(run.segments())
    assert read(str(run.path / "images")) == rows(run.images())


@READERS
def test_a_lake_is_one_table_of_all_runs(read: Reader, two_runs: tuple[Run, Run, Path]) -> None:
    first, odd, folder = two_runs
    names = {category.category_id: category.name for category in first.categories}
    expected = [
        {**row, "category": names[row["category_id"]], "task": "panoptic", "dataset": "tiny", "run": name}
        for run, name in ((first, "first"), (odd, ODD_NAME))
        for row in run.segments().to_pylist()
    ]
    found = read(str(folder / "segments"))
    assert sorted(map(in_order, found), key=repr) == sorted(map(in_order, expected), key=repr)
    assert {(row["run"], row["images"], row["failed_images"]) for row in read(str(folder / "runs"))} == {
        ("first", 12, 1),
        (ODD_NAME, 8, 1),
    }


def in_order(row: dict[str, Any]) -> list[tuple[str, Any]]:
    return sorted(row.items())


def test_names_are_escaped_as_hive_does(two_runs: tuple[Run, Run, Path]) -> None:
    folders = {path.name for path in (two_runs[2] / "images" / "dataset=tiny").iterdir()}
    assert folders == {"run=first", "run=odd %3D 50%25 α+b %231"}
    assert str(hive.partition({"a": "x/y:z", "b": "[1]*?"})) == "a=x%2Fy%3Az/b=%5B1%5D%2A%3F"


def test_a_name_longer_than_a_folder_may_have_is_refused() -> None:
    with pytest.raises(TransferError, match="shorter name"):
        hive.partition({"run": "#" * 90})


def test_an_evaluated_run_brings_its_matches_and_scores(demo_folder: Path, demo_run: Run) -> None:
    matches = ds.dataset(demo_folder / "lake" / "matches", partitioning="hive").to_table()
    demo = matches.filter(pa.compute.equal(matches["run"].cast(pa.string()), "demo"))
    assert rows(demo.drop_columns(["category", *lake.KEYS])) == rows(demo_run.matches())
    scores = ds.dataset(demo_folder / "lake" / "per_category", partitioning="hive").to_table()
    assert set(scores["run"].to_pylist()) == {"demo", "strict"}
    names = {category.category_id: category.name for category in demo_run.categories}
    assert {(row["category_id"], row["category"]) for row in demo.to_pylist() if row["category"]} == set(names.items())


def test_every_column_is_of_a_type_that_spark_reads(demo_folder: Path) -> None:
    """No nanoseconds, no decimals, nothing unsigned (new in Spark 3.2); fixed-size lists are plain lists on disk."""
    files = [file for file in demo_folder.rglob("*.parquet") if file.name != "detections.parquet"]  # for our own use
    assert len(files) > 20
    for file in files:
        schema = pq.ParquetFile(file).schema
        for column in (schema.column(i) for i in range(len(schema.names))):
            assert column.physical_type in {"BYTE_ARRAY", "INT32", "INT64", "DOUBLE", "BOOLEAN"}, (file, column.path)
            assert column.logical_type.type in {"NONE", "STRING"}, (file, column.path)


def test_exporting_again_replaces_its_own_partition_only(tmp_path: Path) -> None:
    first, second = sharded_run(tmp_path / "first"), sharded_run(tmp_path / "second", threshold=0.5)
    folder = export_lake([first, second], tmp_path / "lake")
    kept = {path: path.stat().st_mtime_ns for path in folder.rglob("run=second/*.parquet")}
    before = with_arrow(str(folder / "segments"))
    assert export(first, "parquet", folder) == folder
    assert with_arrow(str(folder / "segments")) == before
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("run=second/*.parquet")} == kept
    assert sorted(path.name for path in folder.iterdir()) == [
        ".lock",
        "categories",
        "images",
        "lake.json",
        "runs",
        "segments",
    ]


def test_matches_go_when_the_run_is_no_longer_evaluated(demo_folder: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(demo_folder / "runs" / "strict", tmp_path / "strict"))
    export_lake([run], tmp_path / "lake")
    (run / "metrics.json").unlink()
    export_lake([run], tmp_path / "lake")
    assert not list((tmp_path / "lake" / "matches").rglob("*.parquet"))
    assert with_arrow(str(tmp_path / "lake" / "runs"))[0]["evaluated"] is False


def test_another_run_of_the_same_name_is_replaced_only_when_told(tmp_path: Path) -> None:
    mine = sharded_run(tmp_path / "a" / "same")
    theirs = sharded_run(tmp_path / "b" / "same", shards=1, threshold=0.5)
    folder = export_lake([mine], tmp_path / "lake")
    with pytest.raises(TransferError, match=r"another run as dataset=tiny/run=same: threshold is 0\.8 there, 0\.5 now"):
        export_lake([theirs], folder)
    assert len(with_arrow(str(folder / "images"))) == 12
    export_lake([theirs], folder, overwrite=True)
    assert len(with_arrow(str(folder / "images"))) == 4
    with pytest.raises(OptionError, match="two runs would both become dataset=tiny/run=same"):
        export_lake([mine, theirs], folder)


def test_folders_and_files_of_others_are_left_alone(tmp_path: Path) -> None:
    run = sharded_run(tmp_path / "run")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    with pytest.raises(RunError, match="no lake folder"):
        export_lake([run], tmp_path / "full")
    folder = export_lake([run], tmp_path / "lake")
    (folder / "segments/dataset=tiny/run=run/notes.txt").write_text("mine")
    with pytest.raises(TransferError, match=r"holds 'notes\.txt', which no export wrote"):
        export_lake([run], folder, overwrite=True)
    (folder / "segments/dataset=tiny/run=run/notes.txt").unlink()
    (folder / "lake.json").write_text(json.dumps({"version": 2}))
    with pytest.raises(TransferError, match="lake version 2"):
        export_lake([run], folder)
    (folder / "lake.json").write_text("[]")
    with pytest.raises(TransferError, match="not the file of a lake"):
        export_lake([run], folder)


def test_a_lake_is_not_written_to_a_bucket(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="written to a local folder"):
        export_lake([sharded_run(tmp_path / "run")], "s3://bucket/lake")


def test_an_export_that_fails_leaves_the_lake_as_it_was(tmp_path: Path) -> None:
    run = sharded_run(tmp_path / "run")
    folder = export_lake([run], tmp_path / "lake")
    before = with_arrow(str(folder / "segments"))
    (run.path / "predictions" / "part-00002.parquet").write_bytes(b"broken")
    with pytest.raises(Exception, match="not a readable Parquet file"):
        export_lake([run], folder)
    assert with_arrow(str(folder / "segments")) == before
    assert not (folder / ".partial").exists()


def test_a_run_without_its_row_in_runs_is_written_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a process killed while it replaced partitions leaves: no row, some tables, a hidden folder."""
    run = sharded_run(tmp_path / "run")
    folder = export_lake([run], tmp_path / "lake")
    shutil.rmtree(folder / "runs" / "dataset=tiny")
    shutil.rmtree(folder / "images" / "dataset=tiny")
    shutil.copytree(folder / "segments", folder / ".partial" / "segments")
    assert len(with_duckdb(str(folder / "segments"))) == run.store.count_segments()  # what is hidden is not found
    export_lake([run], folder)
    assert len(with_arrow(str(folder / "images"))) == 12
    assert not (folder / ".partial").exists()


def test_large_tables_become_several_files(tmp_path: Path) -> None:
    tables = [pa.table({"n": list(range(start, start + 1000))}) for start in range(0, 5000, 1000)]
    hive.write_parts(tmp_path / "parts", tables, tables[0].schema, part_bytes=6000)
    files = sorted((tmp_path / "parts").iterdir())
    assert len(files) > 1
    assert [pq.ParquetFile(file).metadata.num_row_groups for file in files] == [3, 2]
    assert ds.dataset(files).to_table()["n"].to_pylist() == list(range(5000))


def test_a_run_without_images_still_tells_its_columns(tmp_path: Path) -> None:
    run = sharded_run(tmp_path / "run", shards=0)
    folder = export_lake([run], tmp_path / "lake")
    assert with_duckdb(str(folder / "segments")) == []
    assert with_duckdb(str(folder / "runs"))[0]["failed_images"] == 0


def test_memory_does_not_grow_with_the_shards(tmp_path: Path) -> None:
    def peak(shards: int) -> int:
        run = sharded_run(tmp_path / f"run{shards}", shards, images_per_shard=400, segments=20)
        pool = pa.proxy_memory_pool(pa.default_memory_pool())
        before = pa.default_memory_pool()
        pa.set_memory_pool(pool)
        try:
            export_lake([run], tmp_path / f"lake{shards}")
        finally:
            pa.set_memory_pool(before)
        return int(pool.max_memory())

    assert peak(16) < 1.3 * peak(3)


def test_the_command_takes_several_runs_for_a_lake_only(tmp_path: Path) -> None:
    for name in ("a", "b"):
        sharded_run(tmp_path / name).updated(status="incomplete")
    both = [str(tmp_path / "a"), str(tmp_path / "b")]
    result = CliRunner().invoke(main, ["export", *both, "--format", "parquet", "--out", str(tmp_path / "lake")])
    assert result.exit_code == 0, result.output
    assert result.stdout == f"{tmp_path / 'lake'}\n"
    assert result.stderr.count("is incomplete: only the images that it holds so far are exported") == 2
    assert {row["status"] for row in with_arrow(str(tmp_path / "lake" / "runs"))} == {"incomplete"}
    for extra, told in (
        (["--format", "coco-results"], "coco-results holds one run, and 2 are given"),
        (["--format", "parquet", "--polygons"], "parquet holds"),
    ):
        refused = CliRunner().invoke(main, ["export", *both, *extra, "--out", str(tmp_path / "other")])
        assert refused.exit_code == 2
        assert told in refused.stderr
        assert not (tmp_path / "other").exists()
