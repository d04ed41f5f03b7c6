"""The same rows in few and in many shards, and what reading them costs."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa

from tests.reference.scene_dataset import SceneDataset
from workbench import runs
from workbench.evaluation.evaluation import evaluate
from workbench.formats.base import Category, ImageRecord, Task
from workbench.runs import Run

IMAGES_PER_CHUNK = 128
"""As evaluation reads."""


class OwnTruth(SceneDataset):
    """A run's own segments as ground truth: scoring then does all that it does for good predictions."""

    def __init__(self, run: Run) -> None:
        super().__init__((), tasks=("panoptic",))
        self.run, self._images = run, run.images()

    def fingerprint(self) -> str:
        """One a run: converted once."""
        return f"own truth of {self.run.path}".encode().hex()[-64:]

    @property
    def categories(self) -> tuple[Category, ...]:
        """The run's."""
        return self.run.categories

    def images(self) -> Sequence[ImageRecord]:
        """The run's."""
        names = self._images["image_id"].to_pylist()
        return [ImageRecord(name, f"{name}.jpg", Path(f"{name}.jpg"), ordinal) for ordinal, name in enumerate(names)]

    def ground_truth(self, task: Task, images_per_table: int = 512) -> Iterator[tuple[pa.Table, pa.Table]]:
        """In tables of as many images."""
        segments, images = self.run.segments(), self._images
        first = _first_rows(segments, images)
        for start in range(0, len(images), images_per_table):
            stop = min(start + images_per_table, len(images))
            rows = segments.slice(first[start], first[stop] - first[start])
            yield _without_scores(rows), images.slice(start, stop - start)


def cut(run: Run, folder: Path, shards: int, most_images: int | None = None) -> Run:
    """The rows of `run` (of its first images) in so many shards of about as many images each; a run of its own."""
    images, segments = run.images().slice(0, most_images), run.segments()
    first = _first_rows(segments, images)
    made = runs.create_or_resume(folder, {**run.manifest, "status": runs.INCOMPLETE})
    writer = runs.writer(made)
    bounds = np.linspace(0, len(images), shards + 1).round().astype(int).tolist()
    for start, stop in pairwise(bounds):
        rows = segments.slice(first[start], first[stop] - first[start])
        writer.commit(rows.combine_chunks(), images.slice(start, stop - start).combine_chunks())
    return made.completed()


def _first_rows(segments: pa.Table, images: pa.Table) -> list[int]:
    """Where the rows of each image begin, and the end: (images + 1,). Rows stand in the order of images."""
    ids, counts = np.unique(segments["image_id"].to_numpy(), return_counts=True)
    rows_of = dict(zip(ids.tolist(), counts.tolist(), strict=True))
    each = [rows_of.get(image_id, 0) for image_id in images["image_id"].to_pylist()]
    return [0, *np.cumsum(each).tolist()]


def read_in_chunks(run: Run) -> int:
    """Walk through the run as evaluation does; how many rows there are."""
    ids = run.images()["image_id"].to_pylist()
    chunks = [ids[start : start + IMAGES_PER_CHUNK] for start in range(0, len(ids), IMAGES_PER_CHUNK)]
    return sum(len(table) for table in run.store.chunks(chunks))


WAYS: Mapping[str, Callable[[Run], object]] = {
    "segments": Run.segments,
    "chunks": read_in_chunks,
    "count_images": lambda run: run.store.count_images(),
    "evaluate": lambda run: evaluate(run, OwnTruth(run)),
}
"""How a run is read."""


def cuts(folder: Path, shards: int) -> dict[str, Run]:
    """The run in `folder / "run"` in a hundredth of `shards`, in `shards`, and its first hundredth, cut as finely."""
    whole, few = Run.open(folder / "run"), max(1, shards // 100)
    images = whole.images().num_rows // (shards // few)
    names = (f"{few} shards", f"{shards} shards", f"{few} shards as small")
    made = (
        cut(whole, folder / "few", few),
        cut(whole, folder / "many", shards),
        cut(whole, folder / "first", few, images),
    )
    return dict(zip(names, made, strict=True))


@dataclass(frozen=True)
class Timing:
    """What reading a run took."""

    rows: int
    shards: int
    seconds: Mapping[str, float]
    """Of CPU time, each of `WAYS`."""


def timings(cuts: Mapping[str, Run], rounds: int = 3) -> dict[str, Timing]:
    """Each run's, the best of some rounds in turn; all are evaluated once before, for what happens only then.

    The CPU time that a read takes depends little on other programs' load.
    """
    for run in cuts.values():
        evaluate(run, OwnTruth(run))
    taken = [{name: _seconds(run) for name, run in cuts.items()} for _ in range(rounds)]
    return {
        name: Timing(
            run.store.count_segments(),
            len(run.store.parts),
            {way: min(each[name][way] for each in taken) for way in WAYS},
        )
        for name, run in cuts.items()
    }


def _seconds(run: Run) -> dict[str, float]:
    taken = {}
    for name, read in WAYS.items():
        before = time.process_time()
        read(run)
        taken[name] = time.process_time() - before
    return taken


def too_slow(few: Timing, many: Timing, small: Timing, most_times: float, most_ms: float) -> list[str]:
    """What `many` shards take too long for, in words.

    That is more than `most_times` as long per row as `small`, a few shards of the same size, or more than `most_ms` of
    milliseconds a shard beyond what the same rows take in `few`.
    """
    found = []
    for way in WAYS:
        times = many.seconds[way] / many.rows / (small.seconds[way] / small.rows)
        ms = 1000 * (many.seconds[way] - few.seconds[way]) / (many.shards - few.shards)
        if times > most_times or ms > most_ms:
            found.append(f"{way}: {times:.2f} times as long per row as in few such shards, {ms:.1f} ms more a shard")
    return found


def _without_scores(rows: pa.Table) -> pa.Table:
    place = rows.schema.get_field_index("score")
    field = rows.schema.field(place)
    return rows.set_column(place, field, pa.nulls(len(rows), field.type))
