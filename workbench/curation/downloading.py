"""Fetching a dataset's official archives: checked against their checksums, and unpacked below the root."""

import hashlib
import json
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from workbench.catalog.definitions import Archive, DatasetDefinition
from workbench.curation.fetching import DownloadError, fetch
from workbench.curation.unpacking import unpack
from workbench.files.digests import text_digest
from workbench.files.locks import exclusive
from workbench.formats.tasks import is_present
from workbench.storage import shown, url_of

DOWNLOADS = ".downloads"
"""Below the root: files on their way, and notes on what was unpacked with which checksum."""

_CHUNK = 1 << 22

Progress = Callable[[str, int, int | None], None]
"""Called with (what is being done, how far, of how much); None where that is not known."""


@dataclass(frozen=True)
class Fetched:
    """What became of one archive."""

    url: str
    sha256: str
    files: int
    """Files that it unpacked to."""
    checked: bool
    """Whether the definition has a checksum to hold it against."""
    already_there: bool


@dataclass(frozen=True)
class _Place:
    """Where one archive and the notes on it lie below the root."""

    folder: Path
    archive: Archive

    @property
    def name(self) -> str:
        return Path(urllib.parse.urlparse(self.archive.url).path).name or "archive"

    @property
    def file(self) -> Path:
        return self.folder / self.name

    @property
    def checksum_note(self) -> Path:
        """The checksum that was seen first, for archives whose definition has none."""
        return self.folder / f"{self.name}.sha256"

    @property
    def unpacked_note(self) -> Path:
        """Says that these members of the archive were unpacked."""
        wanted = [self.archive.url, self.archive.extract_to, self.archive.strip]
        key = text_digest([*wanted, *self.archive.members, "nested", *self.archive.nested])[:12]
        return self.folder / f"{self.name}.{key}.json"


def download(
    definition: DatasetDefinition, progress: Progress | None = None, keep_archives: bool = False, pause: float = 1.0
) -> list[Fetched]:
    """Fetch and unpack every archive of a dataset below its root; what was unpacked before is not fetched again.

    An interrupted transfer goes on where it ended, in this call or a later one. Archives are deleted once unpacked,
    unless `keep_archives`. `pause` is the number of seconds before a first retry. Raises DownloadError for a dataset
    without archives, a server that does not answer, and a wrong size or checksum; ArchiveError as `unpack`.
    """
    if not definition.archives:
        source = f"Get it from {definition.homepage}" if definition.homepage else "Get it yourself"
        raise DownloadError(
            f"{definition.name}: its definition names no archives. {source} and put it into {definition.root}; "
            f"`workbench datasets show {definition.name}` lists what belongs there."
        )
    if url_of(definition.root) is not None:
        raise DownloadError(
            f"{definition.name}: its root {shown(definition.root)} is remote, and archives are unpacked into folders. "
            "Download with a local root, then upload what it holds."
        )
    folder = definition.root / DOWNLOADS
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with exclusive(folder / ".lock", wait=False):
            whole = is_present(definition)
            places = [_Place(folder, archive) for archive in definition.archives]
            return [_one(place, definition, whole, progress or _silent, keep_archives, pause) for place in places]
    except BlockingIOError:
        raise DownloadError(f"{definition.root}: another download is at work there. Wait for it, or stop it.") from None
    except OSError as error:
        raise DownloadError(f"{definition.root}: cannot be written ({error}). Choose another root.") from error


def _silent(what: str, done: int, total: int | None) -> None:
    return


def _one(
    place: _Place, definition: DatasetDefinition, whole: bool, progress: Progress, keep_archives: bool, pause: float
) -> Fetched:
    archive = place.archive
    checked = bool(archive.sha256 or archive.md5)
    if whole and place.unpacked_note.exists():
        note = json.loads(place.unpacked_note.read_text(encoding="utf-8"))
        return Fetched(archive.url, note["sha256"], note["files"], checked, already_there=True)
    fetch(archive.url, place.file, lambda *far: progress(f"fetching {place.name}", *far), archive.size, checked, pause)
    sha256 = _check(place, progress)
    files = _unpack(place, definition, progress)
    place.unpacked_note.write_text(json.dumps({"url": archive.url, "sha256": sha256, "files": files}), encoding="utf-8")
    if not keep_archives:
        place.file.unlink()
    return Fetched(archive.url, sha256, files, checked, already_there=False)


def _check(place: _Place, progress: Progress) -> str:
    """The archive's sha256, once it agrees with the definition, or with what an earlier download of it had."""
    archive = place.archive
    found = _digests(place, progress)
    expected = {"sha256": archive.sha256, "md5": archive.md5}
    origin = "the definition says"
    if not (archive.sha256 or archive.md5):
        if place.checksum_note.exists():
            expected["sha256"], origin = place.checksum_note.read_text(encoding="utf-8").strip(), "it was once"
        else:  # nothing to compare with: trust what came first, and say so in `Fetched.checked`
            place.checksum_note.write_text(found["sha256"] + "\n", encoding="utf-8")
    for kind, value in expected.items():
        if value is not None and value.lower() != found[kind]:
            place.file.unlink()
            raise DownloadError(
                f"{archive.url}: its {kind} is {found[kind]}, {origin} {value}. The file was deleted. Try again; "
                "if it stays so, the archive has changed or someone altered it on the way."
            )
    return found["sha256"]


def _digests(place: _Place, progress: Progress) -> dict[str, str]:
    sha256, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    done, total = 0, place.file.stat().st_size
    with place.file.open("rb") as file:
        while chunk := file.read(_CHUNK):
            sha256.update(chunk)
            md5.update(chunk)
            done += len(chunk)
            progress(f"checking {place.name}", done, total)
    return {"sha256": sha256.hexdigest(), "md5": md5.hexdigest()}


def _unpack(place: _Place, definition: DatasetDefinition, progress: Progress) -> int:
    """Unpack the archive and those inside it; how many files that gave."""
    archive = place.archive
    into = definition.resolve(archive.extract_to)
    files = len(
        unpack(place.file, into, archive.members, archive.strip, lambda *far: progress(f"unpacking {place.name}", *far))
    )
    for inner in archive.nested:
        packed = definition.resolve(str(PurePosixPath(archive.extract_to, inner.removeprefix(archive.strip))))
        files += (
            len(unpack(packed, packed.parent, progress=lambda *far: progress("unpacking what was inside", *far))) - 1
        )
        packed.unlink()
    return files
