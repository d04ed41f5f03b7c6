"""A real App server on a pushed dataset, and the App in a real browser where there is one."""

import contextlib
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from tests.reference.labelled_pets import SIZE, Pets
from tests.reference.mongodb import free_port, wait_for_port

CHROMIUM = "/usr/bin/chromium"
_FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --hide-scrollbars --window-size=1200,800"
)

_GRID = (240, 110, 860, 800)  # left, top, right, bottom: without the sidebar's icons and a pop-up at the right


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


@pytest.mark.skipif(not shutil.which(CHROMIUM), reason="no browser: apt-get install chromium")
def test_a_view_of_false_positives_shows_their_masks_alone(app, tmp_path):
    view = f"{app}?view=first-false-positives-by-score"
    # A browser on a busy machine needs more of its virtual time before the grid is there.
    shots = (colours_of(view, tmp_path, budget) for budget in (15_000, 40_000, 90_000))
    colours = next(filter(None, shots), set())
    assert colours == {"cat", "dog"}  # the two false positives, and no sky


def wait_until(condition, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.2)


def colours_of(address: str, folder: Path, milliseconds: int) -> set[str]:
    """Whose colours a screenshot of the App has, as far as masks lay them over a picture."""
    picture, profile = folder / f"{milliseconds}.png", folder / f"profile-{milliseconds}"
    where = [f"--user-data-dir={profile}", f"--screenshot={picture}", f"--virtual-time-budget={milliseconds}", address]
    command = [CHROMIUM, *_FLAGS.split(), *where]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    with Image.open(picture) as shot:
        pixels = shot.convert("RGB").crop(_GRID).getcolors(1 << 24)
    found = set()
    for count, (red, green, blue) in pixels:
        strongest, second = sorted((red, green, blue))[:0:-1]
        if count > 20 and strongest > 100 and strongest > 1.5 * second:
            found.add({red: "cat", green: "dog", blue: "sky"}[strongest])
    return found
