"""A run at other thresholds from a run that kept what they need: the rows that the model would give with them."""

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

import workbench
from workbench import runs
from workbench.errors import RunError
from workbench.formats.base import ImageRecord
from workbench.prediction.encode import OK, PredictedImage, PredictedMap, ShardBuilder
from workbench.runs import Run
from workbench.segments import IMAGE_SCHEMA, read_parquet
from workbench.storage import exists, local_path, shown
from workbench.sweeping import settings
from workbench.sweeping.contests import Candidates, candidates_of, contests, pixels_of
from workbench.sweeping.curve import Setting
from workbench.sweeping.merging import merge


def apply(run: Run, setting: Setting, out: Path) -> Run:
    """Write what `workbench predict` with those thresholds would, without candidates, and return the new run.

    Its identity is that of such a run, its provenance says what it was made of. The same call goes on with a folder
    that an earlier one left incomplete. Raises RunError for a run that is not complete and for a folder that holds
    something else, OptionError for a setting that the run cannot give.
    """
    if not run.complete:
        raise RunError(f"{run.path}: incomplete, so no run can be made of it. The command that made it completes it.")
    settings.check(run, setting)
    out = local_path(out)
    _check_place(out, _manifest(run, setting)["identity"])
    make = {"panoptic": _panoptic_rows, "instance": _instance_rows}[run.task]
    with runs.lock(out, option="--apply"):
        made = runs.create_or_resume(out, _manifest(run, setting))
        if made.complete and not made.lost_images:
            return made
        writer = runs.writer(made)
        done = writer.done_image_ids()
        for images, segments in make(run, setting, lambda images: not done.issuperset(images["image_id"].to_pylist())):
            writer.commit(segments, images)
        return made.completed()


def _check_place(out: Path, identity: Mapping[str, Any]) -> None:
    if exists(out / runs.MANIFEST) and Run.open(shown(out)).manifest["identity"] != identity:
        raise RunError(f"{shown(out)}: another run is there. Name another folder with --apply.")


def _manifest(run: Run, setting: Setting) -> dict[str, Any]:
    identity = {name: value for name, value in run.manifest["identity"].items() if name != "candidate_floor"}
    chosen: Mapping[str, float | None] = vars(setting)
    identity |= {name: value for name, value in chosen.items() if value is not None}
    made_by = {
        "sweep": run.place,
        "workbench": workbench.__version__,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    provenance = {**run.manifest["provenance"], "made_by": made_by}
    kept = {name: value for name, value in run.manifest.items() if name != "images"}
    return {**kept, "status": runs.INCOMPLETE, "identity": identity, "provenance": provenance}


_Shards = Iterator[tuple[pa.Table, pa.Table]]
"""Images and their new segments, shard by shard of the run they come from."""
_Wanted = Callable[[pa.Table], bool]


def _instance_rows(run: Run, setting: Setting, wanted: _Wanted) -> _Shards:
    for images in filter(wanted, _image_tables(run)):
        (segments,) = run.store.chunks([images["image_id"].to_pylist()])
        score = segments["score"].to_numpy().astype(np.float32)
        yield images, segments.filter(pa.array(score >= np.float32(setting.threshold)))


def _panoptic_rows(run: Run, setting: Setting, wanted: _Wanted) -> _Shards:
    store, builder = run.candidate_store, ShardBuilder(run.categories)
    position = {category.category_id: index for index, category in enumerate(run.categories)}
    for images in filter(wanted, _image_tables(run)):
        ids = images["image_id"].to_pylist()
        (table,) = store.chunks([ids])
        candidates = candidates_of(table, ids)
        maps = _segment_maps(candidates, setting, position)
        for row in images.filter(pc.equal(images["status"], OK)).to_pylist():
            record = ImageRecord(row["image_id"], row["file_name"], Path(row["file_name"]), row["ordinal"])
            found = maps.get(ids.index(row["image_id"]))
            builder.add(PredictedImage(record, found or _void(row["height"], row["width"])))
        yield images, builder.build()[0]


def _void(height: int, width: int) -> PredictedMap:
    return PredictedMap(np.full((height, width), -1), np.zeros(0, np.int64), np.zeros(0, np.float32))


def _image_tables(run: Run) -> Iterator[pa.Table]:
    store = run.store
    return (read_parquet([store.images_folder / part], IMAGE_SCHEMA) for part in store.parts)


def _segment_maps(candidates: Candidates, setting: Setting, position: Mapping[int, int]) -> dict[int, PredictedMap]:
    """The panoptic map of each image that has a candidate; `position` gives a category's class index."""
    assert setting.overlap_threshold is not None
    rows = candidates.rows
    nobody = rows.take(np.zeros(0, np.int64))
    (contest,) = contests(candidates, nobody, [setting.threshold])
    merged = merge(candidates, contest, setting.overlap_threshold)
    heads = contest.kept[merged.heads]
    maps = {}
    for image in np.unique(rows.image).tolist():
        begin, _ = candidates.of_image(image)
        size_wh = int(rows.width[begin]), int(rows.height[begin])
        members = rows.image[contest.kept] == image
        flat = _painted(candidates, contest.kept[members], merged.segment[members], size_wh[0] * size_wh[1])
        mine = heads[rows.image[heads] == image]
        flat[flat >= 0] -= np.searchsorted(rows.image[heads], image)
        classes = np.array([position[category] for category in rows.category_id[mine].tolist()], dtype=np.int64)
        maps[image] = PredictedMap(flat.reshape(size_wh).T, classes, rows.score[mine].astype(np.float32))
    return maps


def _painted(
    candidates: Candidates, rows: NDArray[np.int64], segments: NDArray[np.int64], pixels: int
) -> NDArray[np.int64]:
    """The segment of each pixel, down the columns, -1 for none: of one image's candidates, each with its segment."""
    flat = np.full(pixels, -1, dtype=np.int64)
    for row, segment in zip(rows.tolist(), segments.tolist(), strict=True):
        gained = pixels_of(candidates.gains, row)
        inside = np.zeros(pixels, np.bool_)
        inside[pixels_of(candidates.masks, row)] = True
        flat[gained] = np.where(inside[gained], segment, -1)
    return flat
