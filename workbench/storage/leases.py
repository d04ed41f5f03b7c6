"""One writer at a time on a remote folder: an object made only where there is none, renewed while its maker lives.

A file lock ends with its process; an object does not. So the lease says who made it, and counts no more when its
process is gone from this machine, or when it was not renewed for `EXPIRY_SECONDS`. Clocks may differ by a quarter of an
hour (S3 refuses more), which the expiry allows for.
"""

import json
import os
import socket
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from threading import Event, Thread
from typing import Any

from workbench.errors import RunError, StorageError
from workbench.storage import objects
from workbench.storage.objects import ObjectState

NAME = ".lease"
"""The object; a folder that was uploaded may hold the file lock of its local days, which counts for nothing here."""
RENEWAL_SECONDS = 300.0
EXPIRY_SECONDS = 1800.0


class Lease:
    """A lease that this process holds."""

    def __init__(self, url: str, content: bytes) -> None:
        self.url, self.content = url, content

    def check(self) -> None:
        """Raise RunError where it is not ours any more: another process took it, or somebody removed it."""
        if objects.read_or_none(self.url) != self.content:
            raise RunError(
                f"{self.url}: this process does not hold the lock any more (another took it after it was not renewed "
                "for long, or it was removed). What is there already is whole: run the same command again to go on."
            )

    def renew(self) -> None:
        """Set its time to now."""
        found = objects.state(self.url)
        if found is not None and objects.read_or_none(self.url) == self.content:
            objects.replace(self.url, self.content, found.version)

    def release(self) -> None:
        """Let go of it, where it is still ours."""
        if objects.read_or_none(self.url) == self.content:
            objects.remove(self.url)


@contextmanager
def held(folder_url: str, note: Callable[[str], None]) -> Iterator[Lease]:
    """Hold the folder. Raises RunError, naming the holder and the remedy, where another process does."""
    url = f"{folder_url}/{NAME}"
    lease = Lease(url, json.dumps(_self_description()).encode())
    try:
        _acquire(lease, note)
    except StorageError:
        with suppress(StorageError):
            lease.release()  # which may have been made: else it would keep this process out for half an hour
        raise
    done = Event()
    renewing = Thread(target=_renew_until, args=(lease, done), name="renew-lease", daemon=True)
    renewing.start()
    try:
        yield lease
    finally:
        done.set()
        renewing.join()
        lease.release()


def _acquire(lease: Lease, note: Callable[[str], None]) -> None:
    try:
        objects.create(lease.url, lease.content)
    except FileExistsError:
        _take_over(lease, note)
    if not objects.creates_exclusively(lease.url):
        note(
            f"Note: the service of {lease.url} does not keep an object from being made twice. See to it yourself that "
            "only one process at a time writes there."
        )
    lease.check()


def _take_over(lease: Lease, note: Callable[[str], None]) -> None:
    """Take the place of a lease that counts no more. Raises RunError for one that does."""
    found = objects.state(lease.url)
    holder = _description(objects.read_or_none(lease.url))
    if found is None:  # let go of since
        try:
            objects.create(lease.url, lease.content)
        except FileExistsError:
            raise _taken_meanwhile(lease) from None
        return
    who = f"process {holder.get('pid', '?')} on {holder.get('host', '?')}, since {holder.get('since', '?')}"
    if not (_is_gone(holder) or _is_expired(found)):
        raise RunError(
            f"{lease.url}: in use by {who}. Wait for it, or stop it. If you know that it is gone: it counts no more "
            f"{EXPIRY_SECONDS / 60:.0f} minutes after its last sign of life, or remove this object."
        )
    if not objects.replace(lease.url, lease.content, found.version):
        raise _taken_meanwhile(lease)
    note(f"Note: {who}, left a lock and is gone; took its place.")


def _taken_meanwhile(lease: Lease) -> RunError:
    return RunError(f"{lease.url}: another process took it at this moment. Run the command again.")


def _renew_until(lease: Lease, done: Event) -> None:
    while not done.wait(RENEWAL_SECONDS):
        try:
            lease.renew()
        except StorageError:
            continue  # the next time; who commits checks that the lease is still ours


def _is_expired(found: ObjectState) -> bool:
    seconds = objects.age(found)
    return seconds is not None and seconds > EXPIRY_SECONDS


def _is_gone(holder: dict[str, Any]) -> bool:
    """Whether it was a process of this machine, seen from here, that has ended."""
    own = _self_description()
    if any(own[key] is None or holder.get(key) != own[key] for key in ("host", "boot", "pids")):
        return False
    pid = holder.get("pid")
    return isinstance(pid, int) and _start_of(pid) != holder.get("started")


def _self_description() -> dict[str, Any]:
    return {
        "token": uuid.uuid4().hex,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
        # What tells whether that process still runs: this start of the machine, its container, the process's own start.
        "boot": _text_of(Path("/proc/sys/kernel/random/boot_id")),
        "pids": _link_of(Path("/proc/self/ns/pid")),
        "started": _start_of(os.getpid()),
    }


def _start_of(pid: int) -> str | None:
    """When a process started, in ticks since the machine did; None where there is no such process."""
    text = _text_of(Path(f"/proc/{pid}/stat"))
    return None if text is None else text.rpartition(")")[2].split()[19]  # field 22; the name in () may hold spaces


def _text_of(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None


def _link_of(path: Path) -> str | None:
    try:
        return str(path.readlink())
    except OSError:
        return None


def _description(content: bytes | None) -> dict[str, Any]:
    try:
        found = json.loads(content or b"{}")
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
