"""`workbench predict --keep-candidates`: what is kept, that nothing else changes, and that kills cost no row."""

import re
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import workbench
from tests.conftest import REPOSITORY
from tests.reference.few_scenes import coco_scenes
from tests.reference.sessions import finish, start, wait_for
from workbench import rle
from workbench.errors import OptionError, RunError, SegmentTableError
from workbench.prediction.defaults import BUNDLED_MODEL
from workbench.runs import Run
from workbench.segments import CANDIDATE_SCHEMA, candidate_table
from workbench.store import CANDIDATES, SegmentStore, SegmentStoreWriter

FOLDER = f"runs/few_scenes-panoptic-{BUNDLED_MODEL}"


def predict(dataset: Path, out: Path, **options: Any) -> Run:
    return workbench.predict(dataset, **{"model": BUNDLED_MODEL, "out": out, "progress": False, **options})


def candidates_of(run: Run) -> pa.Table:
    return run.candidates()


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return coco_scenes(tmp_path_factory.mktemp("dataset") / "scenes", 18)


@pytest.fixture(scope="module")
def kept(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return predict(dataset, tmp_path_factory.mktemp("runs") / "kept", keep_candidates=True)


def test_segments_and_images_are_those_of_a_run_without_candidates(dataset: Path, kept: Run, tmp_path: Path) -> None:
    plain = predict(dataset, tmp_path / "plain")
    assert kept.segments().equals(plain.segments())
    assert kept.images().equals(plain.images())
    assert not (plain.path / CANDIDATES).exists()
    assert "candidate_floor" not in plain.manifest["identity"]
    with pytest.raises(RunError, match=r"it keeps no candidates\. .* --keep-candidates"):
        plain.candidates()
    assert kept.manifest["identity"] == {**plain.manifest["identity"], "candidate_floor": 0.05}


def test_every_query_above_the_floor_is_kept_by_falling_score(dataset: Path, kept: Run, tmp_path: Path) -> None:
    frame = candidates_of(kept).to_pandas()
    assert set(frame["image_id"]) == set(kept.images()["image_id"].to_pylist())
    assert (frame["score"] > 0.05).all() and (frame["score"] < 0.8).any()
    for _, rows in frame.groupby("image_id"):
        assert rows["score"].is_monotonic_decreasing
        assert rows["query"].is_unique
        first = rows.iloc[0]
        assert rle.decode(first["gains"], first["height"], first["width"]).all()
    isthing = {category.category_id: category.isthing for category in kept.categories}
    assert frame["isthing"].tolist() == [isthing[category_id] for category_id in frame["category_id"]]
    higher = candidates_of(predict(dataset, tmp_path / "higher", candidate_floor=0.8)).to_pandas()
    expected = frame[frame["score"] > np.float32(0.8)].reset_index(drop=True)
    assert higher.equals(expected)


def test_anyone_can_read_them_with_pandas(kept: Run) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.read_parquet(kept.path / CANDIDATES)
    row = frame.iloc[3]
    assert rle.decode(row["counts"], row["height"], row["width"]).sum() == row["area"]


def documented_recipe() -> Any:
    text = (REPOSITORY / "docs" / "segment-table.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(code, "segment-table.md", "exec"), names)
    return names["segment_map"]


def test_the_documented_recipe_compares_as_post_processing_does() -> None:
    """4 of 5 pixels, rounded to float32, are more than 0.8; no row at all above the threshold leaves void."""
    pandas = pytest.importorskip("pandas")
    line = np.arange(6)[None]
    masks = [(line == 0, line >= 0), (line < 5, (line >= 1) & (line < 5))]  # its own, and what it takes
    frame = pandas.DataFrame(
        {
            "score": [0.9, 0.8],
            "height": 1,
            "width": 6,
            "counts": [rle.encode(own) for own, _ in masks],
            "gains": [rle.encode(gains) for _, gains in masks],
        }
    )
    assert documented_recipe()(frame, 0.5, 0.8).tolist() == [[0, 1, 1, 1, 1, -1]]
    assert (documented_recipe()(frame, 0.95, 0.8) == -1).all()


def test_the_documented_recipe_paints_the_segments(kept: Run) -> None:
    """Without stuff that is merged: the pixels of all segments together."""
    pandas = pytest.importorskip("pandas")
    segment_map = documented_recipe()
    segments = kept.segments().to_pandas()
    for image_id, rows in pandas.read_parquet(kept.path / CANDIDATES).groupby("image_id"):
        painted = segment_map(rows, 0.8, 0.8) >= 0
        expected = np.zeros_like(painted)
        for row in segments[segments["image_id"] == image_id].itertuples():
            expected |= rle.decode(row.counts, row.height, row.width)
        assert (painted == expected).all()


def test_an_image_that_failed_has_no_candidates(dataset: Path, tmp_path: Path) -> None:
    shutil.copytree(dataset.parent, tmp_path / "scenes")
    min((tmp_path / "scenes" / "images").iterdir()).write_bytes(b"no image")
    run = predict(tmp_path / "scenes" / dataset.name, tmp_path / "run", keep_candidates=True, limit=3)
    images = run.images().to_pandas()
    failed = set(images[images["status"] == "failed"]["image_id"])
    assert failed
    assert set(candidates_of(run)["image_id"].to_pylist()) == set(images["image_id"]) - failed


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"task": "instance", "keep_candidates": True}, "`workbench sweep` reads them as they are"),
        ({"task": "semantic", "candidate_floor": 0.1}, "each pixel gets its best class"),
        ({"candidate_floor": 0.9}, r"--candidate-floor is 0.9; it must be from 0 to the threshold, 0.8"),
        ({"candidate_floor": -0.1}, "it must be from 0"),
    ],
)
def test_candidates_that_make_no_sense_are_refused(
    dataset: Path, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(OptionError, match=message):
        predict(dataset, tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


def test_a_run_with_candidates_is_not_gone_on_with_without_them(dataset: Path, kept: Run) -> None:
    with pytest.raises(RunError, match=r"candidate_floor is 0\.05 there, None now"):
        predict(dataset, kept.path)


def test_a_kill_costs_no_candidate_and_doubles_none(dataset: Path, kept: Run, tmp_path: Path) -> None:
    command = ["predict", "--dataset", str(dataset), "--model", BUNDLED_MODEL, "--keep-candidates"]
    process = start(tmp_path, command)
    wait_for(tmp_path / f"{FOLDER}/{CANDIDATES}/part-00001.parquet", process)
    process.kill()  # most often before the images of this shard, which is an orphan then
    assert finish(process) == -signal.SIGKILL
    assert finish(start(tmp_path, command)) == 0
    run = Run.open(tmp_path / FOLDER)
    assert run.complete
    assert candidates_of(run).equals(candidates_of(kept))
    assert run.segments().equals(kept.segments())
    names = [
        sorted(path.name for path in (run.path / name).iterdir()) for name in (CANDIDATES, "predictions", "images")
    ]
    assert names[0] == names[1] == names[2]
    assert len(names[0]) > 1


def rows(image_id: str, **changed: Any) -> pa.Table:
    mask, everything = rle.encode(np.eye(3, 4, dtype=np.bool_)), rle.encode(np.ones((3, 4), np.bool_))
    columns = {
        "image_id": [image_id],
        "query": [0],
        "category_id": [1],
        "isthing": [True],
        "score": [0.5],
        "area": [3],
        "height": [3],
        "width": [4],
        "counts": [mask],
        "gains": [everything],
    }
    return candidate_table({**columns, **changed})


def test_candidates_of_a_shard_that_never_appeared_are_removed(kept: Run, tmp_path: Path) -> None:
    images, segments = kept.images().slice(0, 1), kept.segments().slice(0, 0)
    writer = SegmentStoreWriter(tmp_path)
    writer.commit(segments, images, rows("1"))
    shutil.copy(tmp_path / CANDIDATES / "part-00000.parquet", tmp_path / CANDIDATES / "part-00001.parquet")
    (tmp_path / CANDIDATES / ".part-00001.parquet.partial").write_bytes(b"half")
    SegmentStoreWriter(tmp_path)
    assert [path.name for path in (tmp_path / CANDIDATES).iterdir()] == ["part-00000.parquet"]


@pytest.mark.parametrize("column", ["counts", "gains"])
def test_a_mask_that_does_not_fill_its_image_is_refused(kept: Run, tmp_path: Path, column: str) -> None:
    broken = rows("1", **{column: [rle.encode(np.ones((5, 5), np.bool_))]})
    SegmentStoreWriter(tmp_path).commit(kept.segments().slice(0, 0), kept.images().slice(0, 1), broken)
    with pytest.raises(SegmentTableError, match=r"part-00000.*RLE counts"):
        SegmentStore(tmp_path, CANDIDATES, CANDIDATE_SCHEMA).segments()


def test_lost_candidates_are_missed_by_name(kept: Run, tmp_path: Path) -> None:
    shutil.copytree(kept.path, tmp_path / "run")
    next((tmp_path / "run" / CANDIDATES).iterdir()).unlink()
    run = Run.open(tmp_path / "run")
    with pytest.raises(SegmentTableError, match=r"candidates/part-00000\.parquet: missing"):
        candidates_of(run)


def test_the_table_states_its_version(kept: Run) -> None:
    metadata = pq.read_schema(next((kept.path / CANDIDATES).iterdir())).metadata
    assert metadata[b"workbench.schema_version"] == b"1"
