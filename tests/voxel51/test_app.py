"""A real App server on a pushed dataset, and the App in a real browser where there is one."""

import contextlib
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.reference.browser import Page, browser, chromium
from tests.reference.labelled_pets import SIZE, Pets
from tests.reference.mongodb import free_port, wait_for_port

_GRID = np.s_[150:, 310:]
"""Of a window's pixels (rows, columns) those below the buttons and beside the sidebar."""


@contextlib.contextmanager
def browsing(pets: Pets, database: dict[str, str], log: Path) -> Iterator[str]:
    """The command as a user runs it, until the block ends; yields the App's address."""
    port = free_port()
    command = [sys.executable, "-m", "workbench", "browse", str(pets.run.path), "--remote", "--port", str(port)]
    with log.open("w") as file:
        process = subprocess.Popen(command, env={**os.environ, **database}, stdout=file, stderr=file)
    try:
        wait_for_port(port, process)
        yield f"http://127.0.0.1:{port}/datasets/pets"
    finally:
        process.terminate()  # not Ctrl-C, which a process that was started in the background may be deaf to
        process.wait(timeout=30)


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("app") / "log"


@pytest.fixture
def app(pets, fo, database, log) -> Iterator[str]:
    """The address of a real App server on the pushed run, whose log says that it is ready."""
    for picture in (pets.folder / "images").iterdir():
        Image.new("RGB", (SIZE[1], SIZE[0]), "grey").save(picture)  # all colour in the grid is that of labels
    with browsing(pets, database, log) as address:
        wait_until(lambda: "stop with Ctrl-C" in log.read_text())
        yield address


def test_browse_serves_the_app(app, log):
    with urllib.request.urlopen(app, timeout=30) as answer:
        assert answer.status == 200
        assert b"FiftyOne" in answer.read()
    assert "12 labels in ground_truth, first" in log.read_text()


@pytest.mark.skipif(chromium() is None, reason="no browser: apt-get install chromium")
def test_a_view_of_false_positives_shows_their_masks_alone(app):
    with browser() as page:
        page.open(f"{app}?view=first-false-positives-by-score")
        page.wait_for("!!document.querySelector('[data-cy=looker]')", 240)
        wait_until(lambda: colours_of(page), 240)
        page.wait_until_still(_GRID)
        assert colours_of(page) == {"cat", "dog"}  # the two false positives, and no sky


def wait_until(condition, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.2)


def colours_of(page: Page) -> set[str]:
    """Whose colours the grid has, as far as masks lay them over a picture."""
    shown = np.asarray(page.picture())[_GRID].reshape(-1, 3)
    pixels = zip(*np.unique(shown, axis=0, return_counts=True), strict=True)
    found = set()
    for (red, green, blue), count in pixels:
        strongest, second = sorted((red, green, blue))[:0:-1]
        if count > 20 and strongest > 100 and strongest > 1.5 * second:
            found.add({red: "cat", green: "dog", blue: "sky"}[strongest])
    return found
