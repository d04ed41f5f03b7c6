"""Readers of run folders: the manifest, the shards, the metrics."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tests.fuzzing import files
from tests.fuzzing.engine import Reader
from workbench.runs import Run
from workbench.segments import IMAGE_SCHEMA, SEGMENT_SCHEMA, image_table, segment_table

METRICS: dict[str, Any] = {
    "mode": "strict",
    "semantic": {"miou": 0.5, "aacc": 0.5, "macc": None, "per_category": {}},
    "images": {"semantic": {"scored": 2, "failed": 0, "missing": 0}},
    "notes": ["two images"],
    "provenance": {
        "dataset": {"name": "scenes", "fingerprint": "0"},
        "versions": {"numpy": "2.0"},
        "evaluated": "2026-01-01",
    },
}
"""Of an evaluated run: the least that an evaluation writes."""


def run_readers(base: Path) -> tuple[Reader, ...]:
    """The readers of a complete run of two images below `base`."""
    base.mkdir()
    whole = {
        "run.json": json.dumps(manifest_of(base)).encode(),
        "predictions/part-00000.parquet": parquet(_segments()),
        "images/part-00000.parquet": parquet(_images()),
        "metrics.json": json.dumps(METRICS).encode(),
    }

    def reading(changed: str, read: Callable[[Run], object]) -> Callable[[bytes], None]:
        run = base / f"run of {changed.replace('/', ' ')}"
        for name, content in whole.items():
            (run / name).parent.mkdir(parents=True, exist_ok=True)
            (run / name).write_bytes(content)

        def write_and_read(data: bytes) -> None:
            (run / changed).write_bytes(data)
            read(Run.open(run))

        return write_and_read

    manifest, segments, images, metrics = whole
    seeds = {name: (content,) for name, content in whole.items()}
    seeds[segments] += (parquet(_segments(), "none"), parquet(SEGMENT_SCHEMA.empty_table()))
    seeds[images] += (parquet(_images(), "none"), parquet(IMAGE_SCHEMA.empty_table()))
    here, words = (base,), (b"PAR1", b"workbench.schema_version")
    return (
        Reader("run manifest", "json", seeds[manifest], reading(manifest, _read_manifest), here, ("run", "dataset")),
        Reader("segment shard", "bytes", seeds[segments], reading(segments, _read_shards), here, ("part-",), words),
        Reader("image shard", "bytes", seeds[images], reading(images, _read_shards), here, ("part-", "run"), words),
        Reader("metrics", "json", seeds[metrics], reading(metrics, lambda run: run.metrics()), here, ("metrics.json",)),
    )


def _read_manifest(run: Run) -> None:
    run.complete, run.task, run.categories, run.lost_images, run.dataset  # noqa: B018 - each reads the manifest
    run.check_whole()


def _read_shards(run: Run) -> None:
    run.store.count_images()
    run.store.count_segments()
    run.store.has_null("score")
    run.images()
    run.segments()
    list(run.store.chunks([["1"], ["2", "3"]]))


def manifest_of(base: Path) -> dict[str, object]:
    """Of a complete instance run of two images; its data set's definition is written below `base`."""
    definition = base / "mine.toml"
    definition.write_text('format = "images"\nroot = "."\nimages = "images"\n')
    categories = [{"category_id": 1, "name": "cat", "isthing": True, "color": [1, 2, 3]}]
    return {
        "version": 1,
        "source": "predict",
        "status": "complete",
        "images": 2,
        "dataset": {"name": "mine", "definition": str(definition), "format": "images"},
        "task": "instance",
        "categories": categories,
        "iou_types": ["segm", "bbox"],
        "identity": {"dataset": "0"},
        "provenance": {"versions": {}},
    }


def _segments() -> pa.Table:
    return segment_table(
        {
            "image_id": ["1", "2"],
            "segment_id": [1, 1],
            "ordinal": [0, 0],
            "category_id": [1, 1],
            "isthing": [True, True],
            "iscrowd": [False, False],
            "score": [0.5, None],
            "area": [int(files.MASK.sum())] * 2,
            "bbox": [[2.0, 1.0, 4.0, 3.0]] * 2,
            "height": [files.HEIGHT] * 2,
            "width": [files.WIDTH] * 2,
            "counts": [files.COUNTS] * 2,
        }
    )


def _images() -> pa.Table:
    return image_table(
        {
            "image_id": ["1", "2"],
            "file_name": ["a.png", "sub/b.png"],
            "height": [files.HEIGHT, None],
            "width": [files.WIDTH, None],
            "ordinal": [0, 1],
            "status": ["ok", "failed"],
            "error": [None, "unreadable"],
        }
    )


def parquet(table: pa.Table, compression: str = "zstd") -> bytes:
    """The bytes of a Parquet file with these rows."""
    file = io.BytesIO()
    pq.write_table(table, file, compression=compression, write_statistics=True)
    return file.getvalue()
