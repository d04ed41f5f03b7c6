"""A run folder in a store, and its mirror: the files by which the workbench knows it, fetched and sent in their order.

The store has the last word. A reader's mirror is brought up to it when the run is opened; the rows of segments follow
when they are read. A writer holds the lease; each shard and manifest goes to the store, whole, before it appears in the
mirror; what an evaluation leaves goes when the lock is let go. So a mirror holds no shard that the store lacks, and a
kill at any point leaves the store as it would leave a folder.
"""

import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from workbench.errors import RunError, StorageError
from workbench.files.locks import exclusive
from workbench.storage import leases, mirror, objects
from workbench.storage.leases import Lease
from workbench.storage.objects import ObjectState
from workbench.storage.places import url_of
from workbench.storage.services import OFFLINE, offline

Placing = Callable[[Path, Path], None]
"""Called with a whole file's present path and the one that it is to have."""

_MANIFEST, _METRICS = "run.json", "metrics.json"
_FILE_LOCK = ".lock"  # of the mirror, as of every run folder
_FOLDERS = ("predictions", "candidates", "images")
_SHARD = re.compile(rf"({'|'.join(_FOLDERS)})/part-\d+\.parquet")
_BESIDE = re.compile(r"[^./][^/]*\.(json|parquet|csv)")  # the manifest, and what evaluations and audits leave

_leases: dict[Path, Lease] = {}  # of this process, by mirror


def refresh(folder: Path, results: bool = True) -> None:
    """Bring a mirror up to its run: manifest, image tables and, if wanted, what evaluations left.

    Copies of segments that are out of date go; `mirror.ensure` fetches them when they are read. What the store lacks
    goes too. While a process of this machine is writing to the run, nothing that is there is touched: it may be new,
    and not in the store yet. Offline nothing happens. Raises StorageError.
    """
    if offline():
        return
    listed = _files(_url(folder))
    if _is_written_here(folder):
        mirror.update({folder / name: found for name, found in listed.items() if not (folder / name).exists()})
        return
    _bring_up(folder, listed, results)
    if folder.is_dir():
        with suppress(BlockingIOError), exclusive(folder / _FILE_LOCK, wait=False):  # else a writer came meanwhile
            _remove_lost(folder, listed)


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold the run whose mirror is `folder` for writing; the caller holds the mirror's own lock.

    What was written besides shards and manifest goes to the store when the block ends well. Raises RunError where
    another process holds it or the place holds something else, and StorageError.
    """
    url = _url(folder)
    if offline():
        raise StorageError(f"{url}: cannot be written while {OFFLINE} is set. Unset it.")
    objects.check_writable(url)  # before anything is asked of the store
    _refuse_foreign(url)
    with leases.held(url, _say) as lease:
        _leases[folder] = lease
        try:
            listed = _without_uncommitted(url, _files(url))
            _bring_up(folder, listed, results=False)
            _remove_lost(folder, listed)
            yield
            _send_results(folder)
        finally:
            del _leases[folder]


def placing(folder: Path) -> Placing:
    """How a whole file of a run gets its place: by a rename; in a mirror after it has gone to the store.

    Raises RunError where the lease is lost or another process has committed that shard, and StorageError.
    """
    if url_of(folder) is None:
        return rename
    return lambda partial, path: _send(partial, path, folder)


def rename(partial: Path, path: Path) -> None:
    """The `Placing` of plain folders."""
    partial.replace(path)


def erase(folder: Path) -> None:
    """Remove the run's files from the store and the mirror: what commits the shards first, the manifest last."""
    url = _url(folder)
    for name in sorted(_files(url), key=lambda name: (name == _MANIFEST, not name.startswith("images/"))):
        objects.remove(f"{url}/{name}")
        (folder / name).unlink(missing_ok=True)


def is_free(folder: Path) -> bool:
    """Whether there is nothing at all in the store, or a lock alone."""
    return not objects.entries(_url(folder)) - {leases.NAME, _FILE_LOCK}


def _is_written_here(folder: Path) -> bool:
    if not folder.is_dir():
        return False
    try:
        with exclusive(folder / _FILE_LOCK, wait=False):
            return False
    except BlockingIOError:
        return True


def _bring_up(folder: Path, listed: Mapping[str, ObjectState], results: bool) -> None:
    wanted: dict[Path, ObjectState] = {}
    rest: dict[Path, ObjectState] = {}
    for name, found in listed.items():
        is_wanted = name == _MANIFEST or name.startswith("images/") or (results and "/" not in name)
        (wanted if is_wanted else rest)[folder / name] = found
    known = mirror.recorded(list(rest))
    for path, found in rest.items():
        if known.get(path) != found.version:
            path.unlink(missing_ok=True)
    mirror.update(wanted)


def _remove_lost(folder: Path, listed: Mapping[str, ObjectState]) -> None:
    """Take out of a mirror what its run does not have; the caller holds the mirror's own lock."""
    shards = [path for name in _FOLDERS for path in (folder / name).glob("part-*.parquet")]
    beside = [path for path in folder.glob("*") if _BESIDE.fullmatch(path.name) and path.is_file()]
    for path in (*shards, *beside):
        if path.relative_to(folder).as_posix() not in listed:
            path.unlink()


def _without_uncommitted(url: str, listed: Mapping[str, ObjectState]) -> Mapping[str, ObjectState]:
    """Remove rows without their image table, which a killed writer left: their number will be used again."""
    kept = dict(listed)
    for name in listed:
        folder, _, part = name.rpartition("/")
        if folder in ("predictions", "candidates") and f"images/{part}" not in listed:
            objects.remove(f"{url}/{name}")
            del kept[name]
    return kept


def _send(partial: Path, path: Path, folder: Path) -> None:
    lease = _leases.get(folder)
    if lease is None:
        raise RunError(f"{url_of(folder)}: is written to without its lock. Hold `workbench.runs.lock` meanwhile.")
    lease.check()
    try:
        objects.upload(partial, _url(path), exclusive=path.parent != folder)
    except FileExistsError:
        raise RunError(
            f"{url_of(path)}: another process has written it. Stop that one, then run the same command again to go on."
        ) from None
    partial.replace(path)
    _note_sent(path)


def _send_results(folder: Path) -> None:
    """Send the files beside the manifest that are not as they were fetched: JSON files go first and come last.

    Each of them (metrics.json, sweep.json, audit.json) says that the tables beside it are whole.
    """
    beside = [path for path in folder.iterdir() if _BESIDE.fullmatch(path.name) and path.is_file()]
    files = [path for path in beside if path.name != _MANIFEST]  # which is sent whenever it is written
    known = mirror.recorded(files)
    changed = sorted((path for path in files if path not in known), key=_order)
    if not changed:
        return
    _leases[folder].check()
    for path in changed:
        if path.suffix == ".json":
            objects.remove(_url(path))
    for path in changed:
        objects.upload(path, _url(path))
        _note_sent(path)


def _order(path: Path) -> tuple[bool, bool, str]:
    return path.suffix == ".json", path.name == _METRICS, path.name


def _note_sent(path: Path) -> None:
    """Remember that the mirror's file is the store's."""
    if (found := objects.state(_url(path))) is not None:
        mirror.record({path: found.version})


def _refuse_foreign(url: str) -> None:
    if objects.state(f"{url}/{_MANIFEST}") is not None:
        return
    if foreign := sorted(objects.entries(url) - {leases.NAME, _FILE_LOCK}):
        raise RunError(f"{url}: not empty and no run folder (it holds {foreign[0]!r}). Name another folder with --out.")


def _files(url: str) -> Mapping[str, ObjectState]:
    """The run's files in the store, by name below it; none without a manifest. Requests: one, and one a thousand."""
    if objects.state(f"{url}/{_MANIFEST}") is None:
        return {}
    listed = objects.listing(url)
    return {name: found for name, found in listed.items() if _SHARD.fullmatch(name) or _BESIDE.fullmatch(name)}


def _say(text: str) -> None:
    print(text, file=sys.stderr)


def _url(path: Path) -> str:
    url = url_of(path)
    assert url is not None
    return url
