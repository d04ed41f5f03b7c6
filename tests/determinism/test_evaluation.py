"""The same rows and ground truth leave the same files but for the time, byte for byte, however they are worked on."""

import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numba
import numpy as np
import pyarrow.parquet as pq
import pytest

import workbench
from tests.reference.few_scenes import coco_scenes
from tests.reference.scene_dataset import SceneDataset, make_run
from tests.reference.scenes import Listed, PanopticImage
from workbench.evaluation import keeping, partitions
from workbench.evaluation.evaluation import evaluate
from workbench.evaluation.resampling import Bootstrap
from workbench.exports.api import export
from workbench.prediction.defaults import BUNDLED_MODEL
from workbench.report.api import report
from workbench.runs import Run
from workbench.transfer_formats import ExportFormat

LISTED = tuple(Listed(i, category) for i, category in ((1, 1), (2, 2), (3, 1), (4, 7)))

_ROWS_BY_CHUNK = (keeping.MATCHES, keeping.PER_IMAGE, keeping.DETECTIONS)


def scenes(seed: int, count: int = 9) -> list[PanopticImage]:
    """Images of random blocks: four segments and void."""
    rng = np.random.default_rng(seed)
    maps = rng.integers(0, 5, (count, 5, 6)).repeat(6, axis=1).repeat(6, axis=2)
    maps[:, :6, :24] = np.arange(1, 5).repeat(6)  # each segment occurs
    return [PanopticImage(str(10 * i), label_map, LISTED) for i, label_map in enumerate(maps)]


@pytest.fixture(scope="module")
def dataset() -> SceneDataset:
    return SceneDataset(scenes(0))


def results(run: Run) -> dict[str, bytes]:
    """Name and content of what an evaluation leaves; metrics.json without the time."""
    found = {path.name: path.read_bytes() for path in sorted(run.path.iterdir()) if path.is_file()}
    metrics = json.loads(found[keeping.METRICS])
    metrics["provenance"].pop("evaluated")
    kept = {name: content for name, content in found.items() if name.endswith(".parquet")}
    return {**kept, keeping.METRICS: json.dumps(metrics).encode()}


def evaluated(folder: Path, dataset: SceneDataset, images: Sequence[PanopticImage], shard: int, **options: int) -> Run:
    run = make_run(folder, dataset, images, shard=shard)
    evaluate(run, dataset, bootstrap=Bootstrap(resamples=50), boundary=True, by=("area",), **options)
    return run


@pytest.fixture(scope="module")
def undisturbed(dataset: SceneDataset, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return evaluated(tmp_path_factory.mktemp("undisturbed") / "run", dataset, scenes(1), shard=9)


def test_an_evaluation_leaves_several_files(undisturbed: Run) -> None:
    assert {"metrics.json", "matches.parquet", "per_image.parquet", "per_category.parquet"} < set(results(undisturbed))


@pytest.mark.parametrize("chunk", [1, 2, 4, 100])
def test_chunks_do_not_matter(
    chunk: int, dataset: SceneDataset, undisturbed: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partitions, "IMAGES_PER_CHUNK", chunk)
    run = evaluated(tmp_path / "run", dataset, scenes(1), shard=9)
    found, expected = results(run), results(undisturbed)
    for name in _ROWS_BY_CHUNK:  # a chunk's predictions stand before its ground truth
        assert sorted_rows(found.pop(name)) == sorted_rows(expected.pop(name))
    assert found == expected


def sorted_rows(parquet: bytes) -> list[str]:
    """Each row of a file as text."""
    return sorted(map(str, pq.read_table(io.BytesIO(parquet)).to_pylist()))


@pytest.mark.parametrize("shard", [1, 2, 4])
def test_shards_do_not_matter(shard: int, dataset: SceneDataset, undisturbed: Run, tmp_path: Path) -> None:
    assert results(evaluated(tmp_path / "run", dataset, scenes(1), shard)) == results(undisturbed)


def test_the_order_of_shards_and_images_does_not_matter(
    dataset: SceneDataset, undisturbed: Run, tmp_path: Path
) -> None:
    assert results(evaluated(tmp_path / "run", dataset, scenes(1)[::-1], shard=2)) == results(undisturbed)


def test_threads_do_not_matter(dataset: SceneDataset, undisturbed: Run, tmp_path: Path) -> None:
    before = numba.get_num_threads()
    other = 1 if before > 1 else min(2, numba.config.NUMBA_NUM_THREADS)
    numba.set_num_threads(other)
    try:
        run = evaluated(tmp_path / "run", dataset, scenes(1), shard=9)
    finally:
        numba.set_num_threads(before)
    assert results(run) == results(undisturbed)


def files_below(folder: Path) -> dict[str, bytes]:
    """Relative path and content of each."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def predicted(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of a data set whose definition is a file, which exports ask for."""
    folder = tmp_path_factory.mktemp("exported")
    return workbench.predict(coco_scenes(folder / "data", 3), model=BUNDLED_MODEL, out=folder / "run", progress=False)


@pytest.mark.parametrize("format", ["coco-panoptic", "index-png", "coco-results", "cvat", "label-studio"])
def test_exports_are_the_same_each_time(format: ExportFormat, predicted: Run, tmp_path: Path) -> None:
    exported = twice(tmp_path, lambda out: export(predicted, format, out / "labels"))
    assert exported[0] == exported[1] != {}


def test_reports_are_the_same_each_time(dataset: SceneDataset, undisturbed: Run, tmp_path: Path) -> None:
    written = twice(tmp_path, lambda out: report([undisturbed], out, dataset, tiles=0))
    assert written[0] == written[1] != {}


def twice(folder: Path, write: Callable[[Path], object]) -> list[dict[str, bytes]]:
    """The files of both times."""
    made = []
    for number in range(2):
        out = folder / str(number)
        out.mkdir()
        write(out)
        made.append(files_below(out))
    return made
