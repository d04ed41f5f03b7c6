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

import fcntl
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from workbench import catalog
from workbench.errors import DatasetError, RunError
from workbench.formats.base import Category, Task
from workbench.store import SegmentStore, SegmentStoreWriter, sync_folder

MANIFEST_VERSION = 1
MANIFEST = "run.json"
COMPLETE, INCOMPLETE = "complete", "incomplete"
DEFAULT_ROOT = Path("runs")
_LOCK = ".lock"


@dataclass(frozen=True)
class Run:
    """A run on disk. `manifest["identity"]` holds what decides the rows: a resume must agree with it."""

    path: Path
    manifest: Mapping[str, Any] = field(repr=False)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> "Run":
        """The run in that folder. Raises RunError where it is none, is broken, or is of a newer version."""
        folder = Path(path)
        file = folder / MANIFEST
        try:
            manifest = json.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise RunError(
                f"{folder}: not a run folder (it has no {MANIFEST}). `workbench predict` makes one."
            ) from None
        except (OSError, ValueError) as error:
            raise RunError(f"{file}: not readable as JSON ({error}).") from error
        version = manifest.get("version") if isinstance(manifest, dict) else None
        if not isinstance(version, int):
            raise RunError(f"{file}: not a run manifest (it has no whole number under 'version').")
        if version > MANIFEST_VERSION:
            raise RunError(
                f"{file}: manifest version {version}; this workbench reads up to {MANIFEST_VERSION}. Upgrade."
            )
        return cls(folder, manifest)

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
        path = Path(made_with["definition"])
        try:
            return catalog.read(path) if path.exists() else catalog.find(made_with["name"])
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

    def images(self) -> pa.Table:
        """Every image of the run (`workbench.segments.IMAGE_SCHEMA`), failed ones too."""
        return self.store.images()

    def matches(self) -> pa.Table:
        """Every predicted and ground-truth segment with its match. Raises RunError before `workbench evaluate`."""
        file = self.path / "matches.parquet"
        if not file.exists():
            raise RunError(f"{self.path}: not evaluated yet. Run `workbench evaluate {self.path}`.")
        return pq.read_table(file)

    def metrics(self) -> dict[str, Any]:
        """What `workbench evaluate` measured. Raises RunError before that."""
        file = self.path / "metrics.json"
        if not file.exists():
            raise RunError(f"{self.path}: not evaluated yet. Run `workbench evaluate {self.path}`.")
        metrics: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return metrics

    def updated(self, **changes: Any) -> "Run":
        """The same run with those manifest keys replaced, on disk too."""
        manifest = {**self.manifest, **changes}
        write_json(self.path / MANIFEST, manifest)
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
            "definition": str(definition.source.resolve()),
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
                f"{path}: a run is there already. Name another folder with --out, or resume it with --resume."
            )
        differences = _differences(run.manifest.get("identity", {}), manifest["identity"])
        if differences:
            raise RunError(
                f"{path}: holds a run made differently, so it cannot be resumed: {'; '.join(differences)}. "
                "Name another folder with --out."
            )
        return run
    _refuse_foreign(path)
    path.mkdir(parents=True, exist_ok=True)
    write_json(path / MANIFEST, manifest)
    return Run.open(path)


def writer(run: Run) -> SegmentStoreWriter:
    """Appends shards to the run. The caller holds `lock(run.path)`."""
    return SegmentStoreWriter(run.path)


@contextmanager
def lock(path: Path) -> Iterator[None]:
    """Hold the run folder, made if need be, for writing; the system lets go of it however the process ends.

    Raises RunError for a folder that holds something else or cannot be written, and one that another process holds.
    """
    _refuse_foreign(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        file = (path / _LOCK).open("a+", encoding="utf-8")
    except OSError as error:
        raise RunError(f"{path}: cannot be written ({error.strerror}). Name another folder with --out.") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise RunError(
                f"{path}: in use by {file.read().strip() or 'another process'}. Wait for it, or stop it."
            ) from None
        file.truncate(0)
        file.write(f"process {os.getpid()}")
        file.flush()
        yield


def discard(path: Path) -> None:
    """Take away a folder of which nothing but the lock is left; the caller holds it."""
    if is_free(path):
        (path / _LOCK).unlink(missing_ok=True)
        path.rmdir()


def write_json(path: Path, value: Any) -> None:
    """Write JSON so that `path` is at every moment the old file or the new one, whole."""
    partial = _partial(path)
    with partial.open("w", encoding="utf-8") as file:
        json.dump(value, file, indent=2, ensure_ascii=False, allow_nan=False)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    sync_folder(path.parent)


def is_free(path: Path) -> bool:
    """Whether a run can begin there: nothing is there, or only what a process killed at its very start leaves."""
    return not path.exists() or (path.is_dir() and not _entries(path))


def _refuse_foreign(path: Path) -> None:
    if is_free(path) or (path / MANIFEST).exists():
        return
    if not path.is_dir():
        raise RunError(f"{path}: a file, not a run folder. Name another folder with --out.")
    raise RunError(
        f"{path}: not empty and no run folder (it holds {_entries(path)[0]!r}). Name another folder with --out."
    )


def _entries(folder: Path) -> list[str]:
    own = {_LOCK, _partial(folder / MANIFEST).name}
    return sorted(entry.name for entry in folder.iterdir() if entry.name not in own)


def _partial(path: Path) -> Path:
    return path.with_name(f".{path.name}.partial")


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    old, new = _flat(old), _flat(json.loads(json.dumps(new)))  # as the file would hold it: tuples are lists there
    keys = sorted(old.keys() | new.keys())
    return [
        f"{key} is {_short(old.get(key))} there, {_short(new.get(key))} now"
        for key in keys
        if old.get(key) != new.get(key)
    ]


def _short(value: Any) -> str:
    return f"{len(value)} of them" if isinstance(value, list) and len(value) > 4 else repr(value)


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat
