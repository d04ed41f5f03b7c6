"""gs:// does what s3:// does, by the calls of Google's JSON API; hf:// data sets are read, never written."""

from collections.abc import Iterator
from pathlib import Path

import pytest

import workbench
from tests.reference.gcs_server import GcsServer, serving_gcs
from tests.reference.remote_scenes import panoptic_scenes
from workbench import runs, storage
from workbench.errors import MissingObjectError, StorageError
from workbench.prediction.defaults import BUNDLED_MODEL
from workbench.runs import Run
from workbench.storage import objects
from workbench.storage.services import connection


@pytest.fixture
def gcs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[GcsServer]:
    with serving_gcs("bucket") as server:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.endpoint)
        monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "cache"))
        yield server


def test_objects_are_read_listed_and_made_once(gcs: GcsServer) -> None:
    for name in ("a/x", "a/b/y", "ab/z"):
        gcs.put(name, name.encode())
    assert objects.read("gs://bucket/a/x") == b"a/x"
    assert set(objects.listing("gs://bucket/a")) == {"x", "b/y"}
    assert set(objects.listing("gs://bucket/a", deep=False)) == {"x"}
    assert objects.entries("gs://bucket/a") == {"x", "b"}
    assert storage.exists("gs://bucket/a") and not storage.exists("gs://bucket/c")
    objects.create("gs://bucket/new", b"mine")
    with pytest.raises(FileExistsError):
        objects.create("gs://bucket/new", b"yours")
    assert objects.creates_exclusively("gs://bucket/new")
    seen = objects.state("gs://bucket/new")
    assert seen is not None
    assert objects.age(seen) == pytest.approx(0, abs=60)
    assert objects.replace("gs://bucket/new", b"newer", seen.version)
    assert not objects.replace("gs://bucket/new", b"newest", seen.version)
    objects.remove("gs://bucket/new")
    with pytest.raises(MissingObjectError):
        objects.read("gs://bucket/new")
    with pytest.raises(StorageError, match="there is no bucket 'bukcet'"):
        objects.create("gs://bukcet/new", b"")


def test_a_run_from_and_to_google_storage_has_the_rows_of_a_local_one(gcs: GcsServer, tmp_path: Path) -> None:
    scenes = panoptic_scenes(tmp_path / "scenes", 2)
    for file in (file for file in scenes.parent.rglob("*") if file.is_file()):
        gcs.put(f"data/{file.relative_to(scenes.parent).as_posix()}", file.read_bytes())
    local = workbench.predict(scenes, model=BUNDLED_MODEL, out=tmp_path / "run", progress=False)
    workbench.predict("gs://bucket/data/few_scenes.toml", model=BUNDLED_MODEL, out="gs://bucket/runs/x", progress=False)
    remote = Run.open("gs://bucket/runs/x")
    assert remote.complete
    assert remote.segments().equals(local.segments())
    assert remote.manifest["identity"] == local.manifest["identity"]
    assert {name for name in gcs.objects if name.startswith("runs/")} == {
        "runs/x/run.json",
        "runs/x/predictions/part-00000.parquet",
        "runs/x/images/part-00000.parquet",
    }


def test_a_run_cannot_be_written_to_the_hub_which_is_not_even_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "attempt", lambda url, action: pytest.fail(f"{url} was asked"))
    place = storage.local_path("hf://datasets/owner/name/run")
    with pytest.raises(StorageError, match="hf:// places are only read here"), runs.lock(place):
        pass
    assert type(connection("hf")).__name__ == "HfFileSystem"
