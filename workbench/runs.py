"""A run folder: predictions in shards, a manifest that says where they came from, and what evaluation added.

    runs/<name>/run.json               the manifest
               predictions/, images/   the shards (see store.py)
               candidates/             of a panoptic run made with --keep-candidates
               metrics.json, per_category.parquet, matches.parquet   from `workbench evaluate`

The manifest's keys, all JSON values:

    version      of this layout
    source       "predict" or "import"
    status       "incomplete" until every image is in, then "complete"
    dataset      {"name", "definition" (absolute path of the TOML file), "format"}
    task         "panoptic", "instance" or "semantic"
    categories   [{"category_id", "name", "isthing", "color"}, ...]: what `category_id` in the tables means
    images       of a complete run: how many it has
    iou_types    of an instance run: which AP it allows, ["segm", "bbox"] unless it says otherwise
    identity     whatever decides the rows (dataset fingerprint, model, weights, parameters): a resume must agree
    provenance   what does not decide them: versions, device, command, times, one record a session
"""

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from workbench import catalog
from workbench.errors import DatasetError, RunError
from workbench.files import claims
from workbench.formats.base import Category, Task
from workbench.manifests import MANIFEST as MANIFEST
from workbench.manifests import MANIFEST_VERSION, read_manifest
from workbench.measured import read_metrics
from workbench.segments import CANDIDATE_SCHEMA, DAMAGED_PARQUET
from workbench.storage import is_mirror_written_out, is_url, local_path, remote_runs, shown, url_of
from workbench.store import CANDIDATES, SegmentStore, SegmentStoreWriter, sync_folder

COMPLETE, INCOMPLETE = "complete", "incomplete"
DEFAULT_ROOT = Path("runs")
_CLAIM = claims.Claim("run", MANIFEST)


@dataclass(frozen=True)
class Run:
    """A run on disk. `manifest["identity"]` holds what decides the rows: a resume must agree with it."""

    path: Path
    """Its folder; of a remote run the mirror of it (see `workbench.storage`)."""
    manifest: Mapping[str, Any] = field(repr=False)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> "Run":
        """The run in that folder, or at that URL (s3://, gs://, hf://), where it is fetched as far as it is needed.

        Raises RunError where it is none, is broken, or is of a newer version, and StorageError.
        """
        folder = local_path(path)
        if is_url(path):
            remote_runs.refresh(folder)
        return cls(folder, read_manifest(folder / MANIFEST))

    @property
    def place(self) -> str:
        """What `open` takes, on any machine: the URL of a remote run, else the folder."""
        return shown(self.path)

    @classmethod
    def newest(cls, root: Path = DEFAULT_ROOT) -> "Run":
        """The run below `root` whose manifest was written last. Raises RunError where there is none."""
        manifests = sorted(root.glob(f"*/{MANIFEST}"), key=lambda path: (path.stat().st_mtime_ns, str(path)))
        if not manifests:
            raise RunError(f"no run below {root}/. Make one with `workbench predict`, or name a run folder.")
        return cls.open(manifests[-1].parent)

    @property
    def task(self) -> Task:
        """What kind of segments these are."""
        task: Task = self.manifest["task"]
        return task

    @property
    def complete(self) -> bool:
        """Whether every image is in."""
        return bool(self.manifest.get("status") == COMPLETE)

    @property
    def categories(self) -> tuple[Category, ...]:
        """What `category_id` means in this run's tables, ascending."""
        return tuple(
            Category(entry["category_id"], entry["name"], entry["isthing"], tuple(entry["color"]))
            for entry in self.manifest["categories"]
        )

    @property
    def dataset(self) -> catalog.DatasetDefinition:
        """The definition that the run was made with, or the one of its name where that file is gone."""
        made_with = self.manifest["dataset"]
        made_of = made_with["definition"]
        if is_mirror_written_out(made_of):
            raise RunError(
                f"{self.place}: its definition {made_of!r} is a path in the cache of remote files, which no run names. "
                "Name the dataset with --dataset."
            )
        try:
            there = is_url(made_of) or Path(made_of).exists()
            return catalog.read(local_path(made_of)) if there else catalog.find(made_with["name"])
        except DatasetError as error:
            raise RunError(f"{self.path}: its dataset cannot be found: {error}") from error

    @property
    def store(self) -> SegmentStore:
        """The shards, as committed by now."""
        return SegmentStore(self.path)

    @property
    def lost_images(self) -> int:
        """How many images a complete run has lost since: its files were deleted, or not all copied."""
        recorded = self.manifest.get("images") if self.complete else None
        return 0 if recorded is None else max(0, recorded - self.store.count_images())

    def check_whole(self) -> None:
        """Raises RunError where images are lost: scores would count them as empty."""
        if lost := self.lost_images:
            recorded = self.manifest["images"]
            raise RunError(
                f"{self.path}: complete with {recorded} images, of which {recorded - lost} are left in "
                f"{self.store.images_folder}. Copy the whole run again, or run the same "
                f"`workbench {self.manifest['source']}` command again: it makes what is missing."
            )

    def completed(self, **changes: Any) -> "Run":
        """The same run as complete, with the number of its images; `changes` as in `updated`."""
        return self.updated(status=COMPLETE, images=self.store.count_images(), **changes)

    def segments(self) -> pa.Table:
        """Every predicted segment (`workbench.segments.SEGMENT_SCHEMA`); `.to_pandas()` for a data frame."""
        return self.store.segments()

    def candidates(self) -> pa.Table:
        """What `--keep-candidates` kept (`workbench.segments.CANDIDATE_SCHEMA`). Raises RunError where nothing is."""
        return self.candidate_store.segments()

    @property
    def candidate_store(self) -> SegmentStore:
        """The candidates of a panoptic run, shard by shard. Raises RunError for a run that keeps none."""
        if self.manifest.get("identity", {}).get("candidate_floor") is None:
            raise RunError(
                f"{self.path}: it keeps no candidates. `workbench predict --task panoptic --keep-candidates` does."
            )
        return SegmentStore(self.path, CANDIDATES, CANDIDATE_SCHEMA)

    def images(self) -> pa.Table:
        """Every image of the run (`workbench.segments.IMAGE_SCHEMA`), failed ones too."""
        return self.store.images()

    def matches(self) -> pa.Table:
        """Every predicted and ground-truth segment with its match.

        Raises RunError before `workbench evaluate`, and for a file that cannot be read.
        """
        file = self.path / "matches.parquet"
        if not file.exists():
            raise RunError(f"{self.place}: not evaluated yet. Run `workbench evaluate {self.place}`.")
        try:
            return pq.ParquetFile(file).read()
        except DAMAGED_PARQUET as error:
            raise RunError(
                f"{file}: not a readable Parquet file ({error}). Run `workbench evaluate {self.place}` again."
            ) from error

    def metrics(self) -> dict[str, Any]:
        """What `workbench evaluate` measured. Raises RunError before that, and for a file that it did not write."""
        file = self.path / "metrics.json"
        if not file.exists():
            raise RunError(f"{self.place}: not evaluated yet. Run `workbench evaluate {self.place}`.")
        return read_metrics(file, self.place)

    def updated(self, **changes: Any) -> "Run":
        """The same run with those manifest keys replaced, on disk too."""
        manifest = {**self.manifest, **changes}
        write_json(self.path / MANIFEST, manifest, remote_runs.placing(self.path))
        return Run(self.path, manifest)


def new_manifest(
    source: str,
    definition: catalog.DatasetDefinition,
    task: Task,
    categories: Sequence[Category],
    identity: Mapping[str, Any],
    provenance: Mapping[str, Any],
) -> dict[str, Any]:
    """The manifest of a run that begins (see the module's docstring). `source` is "predict" or "import"."""
    return {
        "version": MANIFEST_VERSION,
        "source": source,
        "status": INCOMPLETE,
        "dataset": {
            "name": definition.name,
            "definition": shown(definition.source.resolve()),
            "format": definition.format,
        },
        "task": task,
        "categories": [asdict(category) for category in categories],
        "identity": dict(identity),
        "provenance": dict(provenance),
    }


def create_or_resume(path: Path, manifest: Mapping[str, Any], resume: bool = True) -> Run:
    """The run folder at `path`, new or continued. The caller holds `lock(path)`.

    `manifest["identity"]` decides the rows (dataset fingerprint, model, task, parameters). Raises RunError for a
    folder that holds something else, a run with another identity (naming each difference), or a run at all where not
    `resume`.
    """
    if (path / MANIFEST).exists():
        run = Run.open(path)
        if not resume:
            raise RunError(
                f"{shown(path)}: a run is there already. Name another folder with --out, or resume it with --resume."
            )
        _CLAIM.check_identity(path, run.manifest.get("identity", {}), manifest["identity"])
        return run
    if url_of(path) is None:  # else `lock` has looked at the store; what is left in a mirror does not count
        _CLAIM.refuse_foreign(path)
    path.mkdir(parents=True, exist_ok=True)
    write_json(path / MANIFEST, manifest, remote_runs.placing(path))
    return Run.open(path)


def writer(run: Run) -> SegmentStoreWriter:
    """Appends shards to the run. The caller holds `lock(run.path)`."""
    return SegmentStoreWriter(run.path)


@contextmanager
def lock(path: Path, option: str = "--out") -> Iterator[None]:
    """Hold the run folder, made if need be, for writing: see `Claim.lock` and, of a remote run, `remote_runs.held`.

    Raises RunError, whose remedy is `option`, and StorageError.
    """
    if url_of(path) is None:
        with _CLAIM.lock(path, option):
            yield
    else:
        with _CLAIM.hold(path, option), remote_runs.held(path):
            yield


def discard(path: Path) -> None:
    """Take away a folder of which nothing but the lock is left; the caller holds it."""
    _CLAIM.discard(path)


def erase(path: Path) -> None:
    """Take away a run, and its folder where nothing else is in it; the caller holds the lock."""
    if url_of(path) is not None:
        remote_runs.erase(path)
    for name in ("predictions", "candidates", "images"):
        shutil.rmtree(path / name, ignore_errors=True)
    (path / MANIFEST).unlink(missing_ok=True)
    discard(path)


def write_json(path: Path, value: Any, place: remote_runs.Placing = remote_runs.rename) -> None:
    """Write JSON so that `path` is at every moment the old file or the new one, whole; `place` puts it there."""
    partial = claims.partial(path)
    with partial.open("w", encoding="utf-8") as file:
        json.dump(value, file, indent=2, ensure_ascii=False, allow_nan=False)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    place(partial, path)
    sync_folder(path.parent)


def is_free(path: Path) -> bool:
    """Whether a run can begin there: nothing is there, or only what a process killed at its very start leaves."""
    return _CLAIM.is_free(path) if url_of(path) is None else remote_runs.is_free(path)
