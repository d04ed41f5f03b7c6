"""A folder of segment tables in shards: appended atomically, resumed after any crash, read a few images at a time.

    FOLDER/<segments>/part-00000.parquet    rows of some images
    FOLDER/candidates/part-00000.parquet    more rows of them, where a panoptic run keeps its candidates
    FOLDER/images/part-00000.parquet        those images, one row each: its appearance commits the shard

A shard's rows are renamed into place before its images are, so a shard counts when its image table exists; a
file without one is what a crash left, and the next writer removes it.
"""

import os
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from workbench.errors import SegmentTableError
from workbench.segments import DAMAGED_PARQUET, IMAGE_SCHEMA, SEGMENT_SCHEMA, concat, read_parquet, write_parquet
from workbench.storage import ensure, shown
from workbench.storage.remote_runs import Placing, placing

CANDIDATES = "candidates"
"""The folder of `segments.CANDIDATE_SCHEMA`."""
_PARTS_KEPT = 2  # shards held decoded while a reader walks through images in order


class SegmentStore:
    """Reads the committed shards of one folder. Open anew to see what a writer has added since."""

    def __init__(self, folder: Path, segments: str = "predictions", schema: pa.Schema = SEGMENT_SCHEMA) -> None:
        self.folder, self.schema = folder, schema
        self.segments_folder = folder / segments
        self.images_folder = folder / "images"
        self._kept: dict[str, pa.Table] = {}

    @cached_property
    def parts(self) -> tuple[str, ...]:
        """File names of the committed shards, in the order in which they were written."""
        return tuple(sorted((path.name for path in self.images_folder.glob("part-*.parquet")), key=_part_number))

    def images(self) -> pa.Table:
        """The image table, in the order in which images were committed."""
        return read_parquet([self.images_folder / part for part in self.parts], IMAGE_SCHEMA)

    def segments(self) -> pa.Table:
        """The whole segment table. For data sets that do not fit in memory, use `chunks`."""
        self._fetch(self.parts)
        return read_parquet([self._segments_file(part) for part in self.parts], self.schema)

    def count_images(self) -> int:
        """Rows of the image table, from the shards' footers alone."""
        return sum(_footer(self.images_folder / part).num_rows for part in self.parts)

    def count_segments(self) -> int:
        """Rows of the segment table, from the shards' footers alone."""
        self._fetch(self.parts)
        return sum(_footer(self._segments_file(part)).num_rows for part in self.parts)

    def has_null(self, column: str) -> bool:
        """Whether a row of the segment table has no value there, from the shards' footers alone."""
        self._fetch(self.parts)
        place = self.schema.get_field_index(column)
        for part in self.parts:
            footer = _footer(self._segments_file(part))
            groups = [footer.row_group(group) for group in range(footer.num_row_groups)]
            found = [group.column(place).statistics for group in groups if group.num_rows]
            if any(statistics is None or statistics.null_count for statistics in found):
                return True
        return False

    def chunks(self, chunks_of_ids: Sequence[Sequence[str]]) -> Iterator[pa.Table]:
        """For each list of image ids the rows of those images (images that the store lacks simply give none).

        Memory stays at a few shards as long as the chunks walk through images in about the order of the shards.
        """
        every = pa.array([image_id for ids in chunks_of_ids for image_id in ids], pa.string())
        located, begin = self.locate(every), 0
        self._fetch(self.parts)
        for ids in chunks_of_ids:
            yield self.rows(ids, self.parts_at(located[begin : begin + len(ids)]))
            begin += len(ids)

    def locate(self, image_ids: pa.StringArray) -> NDArray[np.int32]:
        """Which of `parts` holds each image, -1 for images that the store lacks: (images,).

        Asking for many images at once is cheap, asking often is not: the store's ids are looked through each time.
        """
        known, part = self._part_of_image
        found = pc.index_in(image_ids, value_set=known)
        return np.asarray(np.append(part, np.int32(-1))[pc.fill_null(found, len(part)).to_numpy()])

    def parts_at(self, located: NDArray[np.int32]) -> tuple[str, ...]:
        """The names of the shards that `locate` found, each once, in the order of writing."""
        return tuple(self.parts[number] for number in np.unique(located).tolist() if number >= 0)

    def rows(self, image_ids: Sequence[str], parts: Sequence[str]) -> pa.Table:
        """The rows of those images in those shards; the two read last stay decoded for the next call."""
        wanted = pa.array(image_ids, pa.string())
        tables = [self._read_part(part) for part in parts]
        chosen = [table.filter(pc.is_in(table["image_id"], value_set=wanted)) for table in tables]
        return concat(chosen, self.schema)

    def __getstate__(self) -> dict[str, Any]:
        """What another process needs to read the same folder: nothing that was read from it."""
        kept = ("folder", "schema", "segments_folder", "images_folder")
        return {**{name: self.__dict__[name] for name in kept}, "_kept": {}}

    @cached_property
    def _part_of_image(self) -> tuple[pa.StringArray, NDArray[np.int32]]:
        """The ids of all images, and which of `parts` each is in: Arrow and NumPy, as there may be millions."""
        found = [_image_ids(self.images_folder / part) for part in self.parts]
        known = pa.concat_arrays([pa.array([], pa.string()), *found])
        part = np.repeat(np.arange(len(found), dtype=np.int32), [len(ids) for ids in found])
        if len(pc.unique(known)) < len(known):
            counted = pc.value_counts(known)
            twice = counted.field("values").filter(pc.greater(counted.field("counts"), 1))[0]
            first, second = part[pc.indices_nonzero(pc.equal(known, twice)).to_numpy()[:2]].tolist()
            raise SegmentTableError(
                f"{self.folder}: image {twice} is in both {self.parts[first]} and {self.parts[second]}."
            )
        return known, part

    def _read_part(self, part: str) -> pa.Table:
        """A shard, decoded. The one used longest ago is let go before another is read: two are held, never three."""
        table = self._kept.pop(part, None)
        if table is None:
            while len(self._kept) >= _PARTS_KEPT:
                self._kept.pop(next(iter(self._kept)))
            table = read_parquet([self._segments_file(part)], self.schema)
        self._kept[part] = table
        return table

    def _fetch(self, parts: Sequence[str]) -> None:
        """Of a remote run: the shards of segments that its mirror lacks, together."""
        ensure(self.segments_folder / part for part in parts)

    def _segments_file(self, part: str) -> Path:
        """The segments of a committed shard. Raises SegmentTableError where they are lost."""
        file, images = self.segments_folder / part, self.images_folder / part
        ensure([file])
        if not file.exists():
            raise SegmentTableError(
                f"{shown(file)}: missing, so the rows of its images are lost. Delete {shown(images)} too, and "
                "run the same `workbench predict` or `workbench import` again: it makes what is missing."
            )
        return file


class SegmentStoreWriter:
    """Appends shards to a folder. One writer at a time: the owner of the folder holds its lock."""

    def __init__(self, folder: Path, segments: str = "predictions") -> None:
        self.store = SegmentStore(folder, segments)
        self.store.segments_folder.mkdir(parents=True, exist_ok=True)
        self.store.images_folder.mkdir(parents=True, exist_ok=True)
        self._place = placing(folder)
        self._remove_uncommitted()
        self._next = 1 + max(map(_part_number, self.store.parts), default=-1)

    def done_image_ids(self) -> set[str]:
        """Images that are committed, as seen when the writer was made."""
        return set(self.store.images()["image_id"].to_pylist())

    def commit(self, segments: pa.Table, images: pa.Table, candidates: pa.Table | None = None) -> None:
        """Add one shard: all its tables appear, or none counts. The data is on disk when this returns."""
        name = f"part-{self._next:05d}.parquet"
        if candidates is not None:
            self._candidates_folder.mkdir(exist_ok=True)
            _write_atomically(candidates, self._candidates_folder / name, self._place)
        _write_atomically(segments, self.store.segments_folder / name, self._place)
        _write_atomically(images, self.store.images_folder / name, self._place)
        self._next += 1

    @property
    def _candidates_folder(self) -> Path:
        return self.store.folder / CANDIDATES

    def _remove_uncommitted(self) -> None:
        committed = set(self.store.parts)
        folders = (self.store.segments_folder, self._candidates_folder, self.store.images_folder)
        for folder in filter(Path.is_dir, folders):
            for path in folder.iterdir():
                if path.name.startswith(".part-") or (path.name.startswith("part-") and path.name not in committed):
                    path.unlink()


def _footer(path: Path) -> pq.FileMetaData:
    try:
        return pq.read_metadata(path)
    except DAMAGED_PARQUET as error:
        raise _damaged(path, error) from error


def _image_ids(path: Path) -> pa.StringArray:
    try:
        # pq.read_table gives the same by way of a data set, which takes several times as long.
        with pq.ParquetFile(path) as file:
            chunks = file.read(columns=["image_id"])["image_id"].cast(pa.string()).chunks
            return pa.concat_arrays([pa.array([], pa.string()), *chunks])
    except DAMAGED_PARQUET as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> SegmentTableError:
    return SegmentTableError(f"{path}: not a readable Parquet file ({error}). Delete it and run again.")


def _part_number(name: str) -> int:
    return int(name.removeprefix("part-").removesuffix(".parquet"))


def _write_atomically(table: pa.Table, path: Path, place: Placing) -> None:
    partial = path.with_name(f".{path.name}.partial")  # a leading dot hides it from pandas, DuckDB and Arrow datasets
    write_parquet(table, partial)
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    place(partial, path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make renames inside `folder` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
