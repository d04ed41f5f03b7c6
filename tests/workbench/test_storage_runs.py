"""Data sets, checkpoints and runs in an object store give what they give in folders, whatever is interrupted."""

import json
import os
import shutil
import signal
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import workbench
from tests.reference.few_scenes import coco_scenes
from tests.reference.remote_scenes import definition, panoptic_scenes
from tests.reference.s3_server import Request, S3Server, set_environment
from tests.reference.sessions import finish, start
from workbench import catalog, runs, storage
from workbench.cli import main
from workbench.errors import DatasetError, ModelError, RunError, StorageError
from workbench.evaluation.evaluation import evaluate
from workbench.formats import open_dataset
from workbench.prediction.checkpoint import BUNDLED_CHECKPOINTS, open_checkpoint
from workbench.prediction.defaults import BUNDLED_MODEL
from workbench.runs import Run
from workbench.storage import leases

CHECKPOINT = BUNDLED_CHECKPOINTS / BUNDLED_MODEL
RUN = "s3://bucket/runs/x"


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five scenes with annotations."""
    return panoptic_scenes(tmp_path_factory.mktemp("data") / "scenes", 5)


@pytest.fixture(scope="module")
def local_run(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Their run in a folder, evaluated."""
    run = predict(scenes, tmp_path_factory.mktemp("run") / "x")
    evaluate(run)
    return run


@pytest.fixture
def uploaded(s3: S3Server, scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """The store with the scenes below data/; this process begins with an empty cache."""
    another_machine(monkeypatch, tmp_path / "cache")
    s3.put("bucket", "data", scenes.parent)
    s3.forget()
    return s3


def another_machine(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    monkeypatch.setenv("WORKBENCH_CACHE", str(cache))


def predict(dataset: str | Path, out: str | Path, **options: Any) -> Run:
    return workbench.predict(dataset, **{"model": BUNDLED_MODEL, "out": out, "progress": False, **options})


def command(*arguments: str) -> Any:
    return CliRunner().invoke(main, list(arguments))


def assert_same_rows(run: Run, other: Run) -> None:
    assert run.complete
    assert run.segments().equals(other.segments())
    assert run.images().equals(other.images())
    assert run.manifest["identity"] == other.manifest["identity"]


def numbers(metrics: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in metrics.items() if key != "provenance"}


def test_everything_remote_gives_the_rows_and_the_numbers_of_everything_local(
    uploaded: S3Server, local_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uploaded.put("bucket", "models/tiny", CHECKPOINT)
    done = command(
        "predict", "--dataset", "s3://bucket/data/few_scenes.toml", "--model", "s3://bucket/models/tiny", "--out", RUN
    )
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[-1] == RUN
    assert str(tmp_path) not in done.output
    images = [path for method, path in uploaded.requests if "data/images/" in path]
    assert sorted(images) == [f"/bucket/data/images/{number:06}.jpg" for number in range(1, 6)]
    assert not list((tmp_path / "cache").rglob("*.jpg"))

    another_machine(monkeypatch, tmp_path / "second")
    remote = Run.open(RUN)
    assert_same_rows(remote, local_run)
    assert remote.manifest["dataset"]["definition"] == "s3://bucket/data/few_scenes.toml"

    another_machine(monkeypatch, tmp_path / "third")
    done = command("evaluate", RUN)
    assert done.exit_code == 0, done.output
    assert f"Kept in {RUN}: metrics.json" in done.stderr
    assert ".lease" not in " ".join(uploaded.keys("bucket"))

    another_machine(monkeypatch, tmp_path / "fourth")
    again = Run.open(RUN)
    assert numbers(again.metrics()) == numbers(local_run.metrics())
    assert again.matches().equals(local_run.matches())


def test_other_commands_take_the_url_of_a_run(uploaded: S3Server, local_run: Run, tmp_path: Path) -> None:
    uploaded.put("bucket", "runs/x", local_run.path)
    report, coco = tmp_path / "report", tmp_path / "coco.json"
    uploaded.put("bucket", "runs/x", local_run.path)
    for arguments in (
        ["report", RUN, "--out", str(report)],
        ["export", RUN, "--format", "coco-results", "--out", str(coco)],
        ["compare", RUN, str(local_run.path)],
        ["audit", RUN, "--out", str(tmp_path / "audit")],
    ):
        done = command(*arguments)
        assert done.exit_code == 0, done.output
    assert next(report.glob("*.html")).stat().st_size > 10_000
    assert json.loads(coco.read_text())
    assert "runs/x/audit.json" in uploaded.keys("bucket")


def test_a_run_made_of_local_files_is_scored_against_remote_annotations(uploaded: S3Server, local_run: Run) -> None:
    found = evaluate(local_run, "s3://bucket/data/few_scenes.toml")
    assert numbers(found.metrics) == numbers(local_run.metrics())
    assert not found.notes


def test_a_local_definition_may_name_remote_images_and_annotations(
    uploaded: S3Server, local_run: Run, scenes: Path, tmp_path: Path
) -> None:
    mixed = definition(tmp_path / "few_scenes.toml", root=str(scenes.parent), images="s3://bucket/data/images")
    assert_same_rows(predict(mixed, tmp_path / "run"), local_run)
    remote = definition(tmp_path / "few_scenes.toml", root="s3://bucket/data")
    assert open_dataset(catalog.find(str(remote))).fingerprint() == local_run.manifest["identity"]["dataset"]


def test_a_remote_data_set_is_added_by_its_url(uploaded: S3Server, in_empty_folder: Path) -> None:
    keys = ["--format", "coco", "--root", "s3://bucket/data", "--images", "images", "--panoptic", "panoptic.json"]
    done = command("datasets", "add", "mine", *keys)
    assert done.exit_code == 0, done.output
    assert 'root = "s3://bucket/data"' in (in_empty_folder / "datasets" / "mine.toml").read_text()
    assert "s3://bucket/data" in command("datasets", "list").stdout
    assert "s3://bucket/data/panoptic.json" in command("datasets", "show", "mine").stdout
    checked = command("datasets", "check", "mine")
    assert checked.exit_code == 0, checked.output


def test_changed_annotations_are_fetched_anew_and_the_fingerprint_tells(uploaded: S3Server, scenes: Path) -> None:
    def opened() -> Any:
        return open_dataset(catalog.find("s3://bucket/data/few_scenes.toml"))

    before = opened().fingerprint()
    assert before == opened().fingerprint() == open_dataset(catalog.find(str(scenes))).fingerprint()
    assert uploaded.count("GET", "data/panoptic.json") == 1
    content = json.loads((scenes.parent / "panoptic.json").read_text())
    content["annotations"][0]["segments_info"][0]["iscrowd"] = 1
    uploaded.client.put_object(Bucket="bucket", Key="data/panoptic.json", Body=json.dumps(content).encode())
    changed = opened()
    assert changed.fingerprint() != before
    segments = next(iter(changed.ground_truth("panoptic")))[0]
    assert sum(segments["iscrowd"].to_pylist()) == 1


def test_label_maps_of_a_remote_folder_are_listed_and_fetched_once(s3: S3Server, tmp_path: Path) -> None:
    import numpy as np

    from tests.reference.small_datasets import write_semantic

    folder = tmp_path / "local"
    folder.mkdir()
    maps = {f"picture_{number}": np.full((4, 6), number % 3, dtype=np.uint8) for number in range(12)}
    local = write_semantic(folder, maps)
    s3.put("bucket", "ade", folder)
    s3.forget()
    remote = open_dataset(catalog.find(f"s3://bucket/ade/{local.name}"))
    here = open_dataset(catalog.find(str(local)))
    assert remote.fingerprint() == here.fingerprint()
    assert [image.image_id for image in remote.images()] == sorted(maps)
    (rows, _), (expected, _) = next(iter(remote.ground_truth("semantic"))), next(iter(here.ground_truth("semantic")))
    assert rows.equals(expected)
    assert s3.count("GET", ".png") == 12
    assert s3.count("GET", "list-type") <= 5


def test_a_missing_image_fails_alone_and_a_failing_store_stops_the_run(
    uploaded: S3Server, local_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uploaded.client.delete_object(Bucket="bucket", Key="data/images/000002.jpg")
    run = predict("s3://bucket/data/few_scenes.toml", tmp_path / "one_missing")
    failed = [image for image in run.images().to_pylist() if image["status"] == "failed"]
    assert [image["error"] for image in failed] == ["s3://bucket/data/images/000002.jpg: no such object."]

    uploaded.put("bucket", "data/images", Path(local_run.dataset.root) / "images")
    uploaded.fail_first(4, "GET", "data/images/000003.jpg")
    assert_same_rows(predict("s3://bucket/data/few_scenes.toml", tmp_path / "some_failures"), local_run)

    monkeypatch.setenv("WORKBENCH_STORAGE_SECONDS", "0.3")
    uploaded.fail_first(1000, "GET", "data/images/000003.jpg")
    with pytest.raises(DatasetError, match=r"000003.jpg: the store cannot be reached.*same command again to go on"):
        predict("s3://bucket/data/few_scenes.toml", tmp_path / "stopped")
    uploaded.forget()
    assert_same_rows(predict("s3://bucket/data/few_scenes.toml", tmp_path / "stopped"), local_run)

    uploaded.fail_first(1000, "GET", "data/images/000004.jpg", 403)
    with pytest.raises(DatasetError, match="The store refuses it to these credentials"):
        predict("s3://bucket/data/few_scenes.toml", tmp_path / "refused")


def test_mistyped_places_are_told_without_a_traceback(
    uploaded: S3Server, local_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for arguments, told in (
        (["evaluate", "s3://bukcet/runs/x"], "There is no such bucket: correct its name"),
        (["evaluate", "s3://bucket/runs/y"], "s3://bucket/runs/y: not a run folder (it has no run.json)"),
        (["evaluate", "http://bucket/runs/x"], "Known: s3://"),
        (
            ["predict", "--dataset", "s3://bucket/data/other.toml"],
            "s3://bucket/data/other.toml: no such dataset defini",
        ),
        (["predict", "--dataset", "scenes_val", "--out", "s3://bukcet/x"], "There is no such bucket"),
        (["predict", "--dataset", "scenes_val", "--out", "s3://bucket/data"], "not empty and no run folder (it holds"),
        (["predict", "--dataset", "scenes_val", "--model", "s3://bucket/data"], "no checkpoint: it has no config.json"),
    ):
        done = command(*arguments)
        assert done.exit_code == 1, done.output
        assert told in done.stderr
        assert "mirror-of" not in done.stderr
    uploaded.put("bucket", "runs/x", local_run.path)
    for arguments in (
        ["report", RUN, "--out", "s3://bucket/report"],
        ["export", RUN, "--format", "coco-results", "--out", "s3://bucket/x.json"],
    ):
        done = command(*arguments)
        assert done.exit_code == 1
        assert "this takes a plain path: runs, data sets and checkpoints alone may be remote" in done.stderr
    assert not (tmp_path / "s3:").exists()
    typo = definition(tmp_path / "few_scenes.toml", root="s3://bucket/data", images="imagse")
    done = command("predict", "--dataset", str(typo), "--model", BUNDLED_MODEL)
    assert "its images folder s3://bucket/data/imagse is not there" in done.stderr


def test_a_remote_checkpoint_is_fetched_once_and_without_pickles(s3: S3Server, tmp_path: Path) -> None:
    s3.put("bucket", "models/tiny", CHECKPOINT)
    s3.client.put_object(Bucket="bucket", Key="models/tiny/pytorch_model.bin", Body=b"pickle")
    s3.forget()
    first, second = (open_checkpoint("s3://bucket/models/tiny") for _ in range(2))
    assert first.weights_sha256() == open_checkpoint(BUNDLED_MODEL).weights_sha256()
    assert second.short_name == "tiny"
    assert s3.count("GET", ".safetensors") == 1
    assert s3.count("GET", ".bin") == 0
    assert storage.checkpoints.local_checkpoint("hf://owner/name") == "owner/name"
    s3.client.delete_object(Bucket="bucket", Key="models/tiny/model.safetensors")
    with pytest.raises(ModelError, match=r"no weights in safetensors.*workbench models convert"):
        open_checkpoint("s3://bucket/models/tiny")
    index = {"weight_map": {"a": "../secret.safetensors"}}
    body = json.dumps(index).encode()
    s3.client.put_object(Bucket="bucket", Key="models/tiny/model.safetensors.index.json", Body=body)
    with pytest.raises(StorageError, match=r"names '../secret.safetensors', which is no safetensors file beside it"):
        open_checkpoint("s3://bucket/models/tiny")


class Killer:
    """Ends a process at a chosen request, before or after the store has carried it out."""

    def __init__(self, server: S3Server, part: str, carried_out: bool) -> None:
        self.part, self.process, self.done = part, 0, False
        server.before, server.after = (None, self.strike) if carried_out else (self.strike_before, None)

    def strike(self, request: Request) -> None:
        if request[0] == "PUT" and self.part in request[1] and not self.done:
            self.done = True
            os.kill(self.process, signal.SIGKILL)

    def strike_before(self, request: Request) -> int | None:
        self.strike(request)
        return 503 if self.done else None


KILLS = [  # the request, whether it was carried out, shards that are committed then
    ("predictions/part-00000", True, 0),
    ("images/part-00000", False, 0),
    ("images/part-00000", True, 1),
    ("images/part-00002", True, 3),
]


def test_kills_between_uploads_cost_no_row_and_double_none(
    s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = coco_scenes(tmp_path / "scenes", 11)
    undisturbed = predict(dataset, tmp_path / "undisturbed")
    arguments = ["predict", "--dataset", str(dataset), "--model", BUNDLED_MODEL, "--out", RUN]
    caches = [tmp_path / "one", tmp_path / "two"]  # every second session begins on another machine
    for number, (part, carried_out, committed) in enumerate(KILLS):
        killer = Killer(s3, part, carried_out)
        surroundings = s3.environment | {"WORKBENCH_CACHE": str(caches[number % 2])}
        process = start(tmp_path / "session", arguments, before=partial(set_environment, surroundings))
        assert process.pid is not None
        killer.process = process.pid
        assert finish(process) == -signal.SIGKILL, (tmp_path / "session" / "stderr.txt").read_text()
        s3.forget()
        keys = [key for key in s3.keys("bucket") if key.startswith("runs/x/images/")]
        assert len(keys) == committed
    monkeypatch.setattr("workbench.prediction.pipeline.IMAGES_PER_SHARD", 4)
    another_machine(monkeypatch, tmp_path / "third")
    assert_same_rows(predict(dataset, RUN), undisturbed)
    assert not [key for key in s3.keys("bucket") if ".lease" in key]


def test_two_processes_cannot_write_one_remote_run(uploaded: S3Server, scenes: Path, tmp_path: Path) -> None:
    holder = {"pid": 7, "host": "elsewhere", "since": "2026-01-01T00:00:00+00:00"}
    uploaded.client.put_object(Bucket="bucket", Key="runs/x/.lease", Body=json.dumps(holder).encode())
    with pytest.raises(RunError, match="in use by process 7 on elsewhere, since 2026-01-01"):
        predict(scenes, RUN)
    uploaded.client.delete_object(Bucket="bucket", Key="runs/x/.lease")
    with runs.lock(storage.local_path(RUN)), pytest.raises(RunError, match="in use by process"):
        predict(scenes, RUN)
    assert uploaded.keys("bucket").count("runs/x/run.json") == 0


def test_a_writer_whose_lock_was_taken_commits_nothing_more(
    s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workbench.prediction.pipeline.IMAGES_PER_SHARD", 2)
    dataset = coco_scenes(tmp_path / "scenes", 5)

    def taken(request: Request) -> None:
        if request == ("PUT", "/bucket/runs/x/images/part-00000.parquet"):
            s3.client.put_object(Bucket="bucket", Key="runs/x/.lease", Body=b'{"host": "elsewhere"}')

    s3.after = taken
    with pytest.raises(RunError, match="does not hold the lock any more"):
        predict(dataset, RUN)
    assert [key for key in s3.keys("bucket") if "part-" in key] == [
        "runs/x/images/part-00000.parquet",
        "runs/x/predictions/part-00000.parquet",
    ]


def test_a_shard_that_another_process_wrote_is_never_replaced(
    s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Although its mirror remembers another run of that name."""
    dataset = coco_scenes(tmp_path / "scenes", 2)

    def written(request: Request) -> None:
        if request == ("GET", "/bucket/runs/x/.lease"):
            s3.client.put_object(Bucket="bucket", Key="runs/x/predictions/part-00000.parquet", Body=b"theirs")

    monkeypatch.setattr(leases, "RENEWAL_SECONDS", 1000.0)
    s3.after = written
    with pytest.raises(RunError, match=r"part-00000.parquet: another process has written it"):
        predict(dataset, RUN)


def test_a_mirror_follows_its_run(uploaded: S3Server, local_run: Run, tmp_path: Path) -> None:
    uploaded.put("bucket", "runs/x", local_run.path)
    run = Run.open(RUN)
    assert run.segments().num_rows
    uploaded.client.delete_object(Bucket="bucket", Key="runs/x/metrics.json")
    with pytest.raises(RunError, match=f"{RUN}: not evaluated yet. Run `workbench evaluate {RUN}`"):
        Run.open(RUN).metrics()
    for key in uploaded.keys("bucket"):
        if key.startswith("runs/"):
            uploaded.client.delete_object(Bucket="bucket", Key=key)
    with pytest.raises(RunError, match=f"{RUN}: not a run folder"):
        Run.open(RUN)


def test_an_evaluation_that_is_killed_leaves_a_run_that_counts_as_not_evaluated(
    uploaded: S3Server, local_run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    uploaded.put("bucket", "runs/x", local_run.path)
    monkeypatch.setenv("WORKBENCH_STORAGE_SECONDS", "0.1")
    uploaded.fail_first(1000, "PUT", "runs/x/matches.parquet")
    with pytest.raises(StorageError, match="cannot be reached"):
        evaluate(RUN)
    uploaded.forget()
    assert "runs/x/metrics.json" not in uploaded.keys("bucket")
    found = evaluate(RUN)
    assert numbers(found.metrics) == numbers(local_run.metrics())
    assert "runs/x/metrics.json" in uploaded.keys("bucket")


def test_an_import_into_a_store_leaves_no_run_behind_where_it_fails(
    uploaded: S3Server, scenes: Path, local_run: Run, tmp_path: Path
) -> None:
    coco = tmp_path / "predictions.json"
    assert command("export", str(local_run.path), "--format", "coco-results", "--out", str(coco)).exit_code == 0
    dataset = "s3://bucket/data/few_scenes.toml"
    done = command("import", str(coco), "--dataset", dataset, "--format", "coco-results", "--out", "s3://bucket/runs/i")
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[-1] == "s3://bucket/runs/i"
    entries = json.loads(coco.read_text())
    entries[-1]["category_id"] = 99
    coco.write_text(json.dumps(entries))
    done = command("import", str(coco), "--dataset", dataset, "--format", "coco-results", "--out", "s3://bucket/runs/j")
    assert done.exit_code == 1
    assert not [key for key in uploaded.keys("bucket") if key.startswith("runs/j")]


def test_a_run_of_others_cannot_have_a_file_here_replaced_by_an_object(
    uploaded: S3Server, local_run: Run, tmp_path: Path
) -> None:
    copy, mine = tmp_path / "theirs", tmp_path / "mine.toml"
    shutil.copytree(local_run.path, copy)
    (copy / "mirror-of/s3/bucket").mkdir(parents=True)
    mine.write_text("mine")
    uploaded.client.put_object(Bucket="bucket", Key="../../../../mine.toml", Body=b"theirs")
    manifest = json.loads((copy / "run.json").read_text())
    manifest["dataset"]["definition"] = f"{copy}/mirror-of/s3/bucket/../../../../mine.toml"
    (copy / "run.json").write_text(json.dumps(manifest))
    assert (copy / "mirror-of/s3/bucket/../../../../mine.toml").exists()
    with pytest.raises(RunError, match=r"which no run names\. Name the dataset with --dataset"):
        _ = Run.open(copy).dataset
    assert mine.read_text() == "mine"


def test_opening_a_run_does_not_touch_what_a_process_here_has_not_sent_yet(
    uploaded: S3Server, local_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uploaded.put("bucket", "runs/x", local_run.path)
    run = Run.open(RUN)
    new = b'{"new": true}'
    with runs.lock(run.path):
        (run.path / "metrics.json").write_bytes(new)
        (run.path / "audit.json").write_bytes(new)
        Run.open(RUN)
        assert (run.path / "metrics.json").read_bytes() == (run.path / "audit.json").read_bytes() == new
    another_machine(monkeypatch, tmp_path / "second")
    assert (Run.open(RUN).path / "metrics.json").read_bytes() == new
