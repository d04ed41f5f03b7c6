"""A MongoDB server of the tests' own, and a small dataset with a run whose every object is known."""

import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.reference import mongodb
from tests.reference.labelled_pets import Pets, write_pets


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment in which FiftyOne uses a database that ends with the session."""
    try:
        mongodb.mongod_path()
    except LookupError as error:
        pytest.skip(str(error))
    with mongodb.server(tmp_path_factory.mktemp("mongodb")) as server:
        yield server.environment


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
