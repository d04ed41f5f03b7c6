"""One file over HTTP, resumed where the last attempt ended."""

import http.client
import json
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from workbench import __version__
from workbench.errors import DatasetError

_CHUNK = 1 << 20
_TIMEOUT_SECONDS = 60
_GIVE_UP_AFTER = 5  # failures in a row without a byte of progress
_WORTH_A_RETRY = (408, 425, 429, 500, 502, 503, 504)

Progress = Callable[[int, int | None], None]
"""Called with (bytes there, bytes in all); None where the server does not say."""


class DownloadError(DatasetError):
    """A file cannot be fetched, or is not the one that was expected."""


class _CutShortError(ConnectionError):
    """The connection ended before the file did."""


@dataclass(frozen=True)
class _Partial:
    """A file on its way, and beside it what told its version on the server."""

    file: Path
    note: Path
    resume_unversioned: bool

    def size(self) -> int:
        """Bytes that the next attempt can go on from."""
        if not self.file.exists() or not (self.resume_unversioned or self.validator()):
            return 0
        return self.file.stat().st_size

    def validator(self) -> str | None:
        """The ETag or date under which the partial file was begun, if the server gave one."""
        try:
            told = json.loads(self.note.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return told if isinstance(told, str) else None

    def begin(self, headers: http.client.HTTPMessage) -> None:
        """Forget what there is, and note which version of the file comes now."""
        self.file.unlink(missing_ok=True)
        etag = headers.get("ETag", "")
        validator = etag if etag and not etag.startswith("W/") else headers.get("Last-Modified")
        self.note.write_text(json.dumps(validator), encoding="utf-8")


def fetch(
    url: str,
    target: Path,
    progress: Progress | None = None,
    size: int | None = None,
    resume_unversioned: bool = False,
    pause: float = 1.0,
) -> None:
    """Fetch `url` to `target`, which appears when it is whole; a file that is there already stays.

    What an interrupted transfer left is continued if the server still has the same version (its ETag or date tells) and
    takes a range; otherwise it starts anew. With `resume_unversioned` it is continued where the server tells no version
    either: only right for a file whose checksum the caller compares afterwards. Failures are tried again, the pauses
    doubling from `pause` seconds. Raises DownloadError when that does not help, for an answer that a retry cannot mend,
    and where `size` (bytes) differs.
    """
    if target.exists():
        return
    if urllib.parse.urlparse(url).scheme not in ("http", "https"):
        raise DownloadError(f"{url}: only http and https addresses are fetched.")
    file = target.with_name(f"{target.name}.partial")
    partial = _Partial(file, file.with_name(f"{file.name}.json"), resume_unversioned)
    failures = 0
    while True:
        before = partial.size()
        try:
            _transfer(url, partial, progress or (lambda *_: None), size)
            break
        except urllib.error.HTTPError as error:
            if error.code not in _WORTH_A_RETRY:
                raise DownloadError(f"{url}: the server answers {error.code} {error.reason}.") from error
            reason = f"{error.code} {error.reason}"
        except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError) as error:
            reason = str(error) or type(error).__name__
        failures = failures + 1 if partial.size() <= before else 1
        if failures >= _GIVE_UP_AFTER:
            raise DownloadError(
                f"{url}: given up after {failures} attempts ({reason}). The same command goes on from here."
            )
        time.sleep(pause * 2 ** (failures - 1))
    partial.file.replace(target)
    partial.note.unlink(missing_ok=True)


def _transfer(url: str, partial: _Partial, progress: Progress, size: int | None) -> None:
    there = partial.size()
    headers = {"User-Agent": f"eomt-workbench/{__version__}", "Accept-Encoding": "identity"}
    if there:
        headers["Range"] = f"bytes={there}-"
        if (validator := partial.validator()) is not None:
            headers["If-Range"] = validator
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=_TIMEOUT_SECONDS) as response:
            if response.status != 206 or not _continues(response.headers, there):
                there = 0
                partial.begin(response.headers)
            length = response.headers.get("Content-Length")
            total = there + int(length) if length is not None else None
            if size is not None and total not in (None, size):
                partial.file.unlink(missing_ok=True)
                raise DownloadError(
                    f"{url}: the server has {total} bytes, the definition says {size}. Is there a new version?"
                )
            _receive(response, partial.file, there, total, progress)
    except urllib.error.HTTPError as error:
        if error.code != 416:
            raise
        # The partial file is as long as the server's, or longer: whole only if the lengths agree.
        if error.headers.get("Content-Range") != f"bytes */{there}":
            partial.file.unlink(missing_ok=True)
            raise _CutShortError("the partial file was longer than the server's") from error
    if size is not None and partial.file.stat().st_size != size:
        found = partial.file.stat().st_size
        partial.file.unlink()
        raise DownloadError(f"{url}: {found} bytes came, the definition says {size}. Is there a new version?")


def _continues(headers: http.client.HTTPMessage, there: int) -> bool:
    return headers.get("Content-Range", "").startswith(f"bytes {there}-")


def _receive(response: IO[bytes], file: Path, there: int, total: int | None, progress: Progress) -> None:
    with file.open("ab") as out:
        while chunk := response.read(_CHUNK):
            out.write(chunk)
            there += len(chunk)
            progress(there, total)
        out.flush()
        os.fsync(out.fileno())
    if total is not None and there < total:
        raise _CutShortError(f"the connection ended after {there} of {total} bytes")
