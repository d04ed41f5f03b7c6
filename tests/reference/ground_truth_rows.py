"""Ground truth of a definition file as plain rows, masks and maps, for tests to compare."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from workbench import catalog, rle
from workbench.formats import open_dataset
from workbench.formats.base import Dataset


def opened(path: Path) -> Dataset:
    return open_dataset(catalog.read(path))


def tables(path: Path, task: str, images_per_table: int = 256) -> tuple[pa.Table, pa.Table]:
    pairs = list(opened(path).ground_truth(task, images_per_table))
    return pa.concat_tables([segments for segments, _ in pairs]), pa.concat_tables([images for _, images in pairs])


def rows(path: Path, task: str) -> list[dict[str, Any]]:
    return tables(path, task)[0].to_pylist()


def masks(table: list[dict[str, Any]]) -> list[list[list[int]]]:
    return [rle.decode(row["counts"], row["height"], row["width"]).astype(int).tolist() for row in table]


def picked(table: list[dict[str, Any]], *columns: str) -> list[tuple[Any, ...]]:
    return [tuple(row[column] for column in columns) for row in table]


def class_map(segments: list[dict[str, Any]]) -> np.ndarray:
    labels = np.zeros((segments[0]["height"], segments[0]["width"]), dtype=int)
    for row in segments:
        labels[rle.decode(row["counts"], row["height"], row["width"])] += row["category_id"]
    return labels
