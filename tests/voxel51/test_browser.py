"""A person at the App, scripted: the demo's run in the grid, its errors, its numbers, pre-labels, and the plugin.

Minutes long. `make pictures` runs this too, and keeps what the windows show as the documents' pictures.
"""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import REPOSITORY
from tests.reference.browser import Page, browser, chromium
from tests.reference.mongodb import free_port, wait_for_port
from workbench.runs import Run

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(chromium() is None, reason="no browser: apt-get install chromium"),
]
PICTURES = REPOSITORY / "docs" / "images"
KEEP_PICTURES = "WORKBENCH_PICTURES"
FIELD = "panoptic_eomt_scenes_panoptic"
SECONDS = 240  # for what a busy machine takes minutes for
_GRID = np.s_[180:, 310:840]
"""Of a window's pixels those that show the grid, also where a panel stands beside it."""
_FIELDS = ", ".join(
    f"[data-cy='sidebar-field-arrow-enabled-{name}']" for name in ("ground_truth", "label_edits", FIELD)
)
_CLOSE_A_PANEL = """(close => close ? void close.click() : true)(
    document.querySelector('[data-cy^=panel-tab-] [title=Close]')
)"""  # true when there is none any more
EVALUATION, PLUGIN = "Model Evaluation", "EoMT: run numbers"
PANELS = {
    EVALUATION: "[data-cy='panel-content-model_evaluation_panel_builtin']",
    PLUGIN: "[data-cy='panel-content-run_numbers']",
}


@dataclass
class Demo:
    """The bundled sample's run, as the App shows it."""

    run: Run
    address: str


@pytest.fixture(scope="module")
def demo(database, tmp_path_factory) -> Iterator[Demo]:
    """What a user types: the demo, its pre-labels, and the App on them."""
    folder = tmp_path_factory.mktemp("demo")
    environment = {**os.environ, **database, "PYTHONPATH": str(REPOSITORY)}

    def workbench(*arguments: str) -> None:
        subprocess.run([sys.executable, "-m", "workbench", *arguments], check=True, cwd=folder, env=environment)

    workbench("demo")
    (path,) = (folder / "runs").iterdir()
    workbench("prelabel", "--dataset", "scenes_val", "--run", str(path), "--labelled")
    port = free_port()
    command = [sys.executable, "-m", "workbench", "browse", "--remote", "--port", str(port)]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
    try:
        wait_for_port(port, process, SECONDS)
        yield Demo(Run.open(path), f"http://127.0.0.1:{port}/datasets/scenes_val")
    finally:
        process.terminate()
        process.wait(timeout=60)


@pytest.fixture
def page(demo: Demo) -> Iterator[Page]:
    """A new browser on the whole dataset."""
    with browser() as found:
        found.open(demo.address)
        found.wait_for("!!document.querySelector('[data-cy=panel-tab-samples]')", SECONDS)
        found.wait_for(_CLOSE_A_PANEL, SECONDS)  # the App's server remembers the last one's panels
        found.wait_for("!!document.querySelector('[data-cy=entry-counts]')", SECONDS)
        found.click_on("[data-cy=btn-clear-view-bar]")  # and its view
        found.wait_for_text("60 samples", SECONDS)
        yield found


@pytest.fixture
def picture(tmp_path: Path) -> Callable[[Page, str], None]:
    """Keeps what a window shows: for the documents where they are to be made anew, else for nobody."""

    def keep(page: Page, name: str) -> None:
        path = (PICTURES if KEEP_PICTURES in os.environ else tmp_path) / f"{name}.png"
        page.save_picture(path)
        assert path.stat().st_size < 300_000

    return keep


def open_view(page: Page, demo: Demo, name: str) -> None:
    """A saved view by its address."""
    slug = "-".join("".join(letter if letter.isalnum() else " " for letter in name).split())
    page.open(f"{demo.address}?view={slug}")
    page.wait_for_text(name, SECONDS)
    wait_for_masks(page)


def wait_for_masks(page: Page) -> None:
    """Until the grid has drawn something over its pictures."""
    page.wait_for("!!document.querySelector('[data-cy=looker] canvas:not([class*=invisible])')", SECONDS)
    with contextlib.suppress(TimeoutError):
        page.wait_for("!document.querySelector('[data-cy=looker-loading]')", 10)
    page.wait_until_still(_GRID)


def painted(page: Page, run: Run) -> set[str]:
    """The categories whose own colours the grid has."""
    shown = np.asarray(page.picture(), dtype=np.int64)[_GRID]
    return {
        category.name for category in run.categories if (np.abs(shown - category.color).max(axis=-1) <= 24).sum() > 500
    }


def values_of(page: Page, path: str) -> dict[str, int]:
    """What the sidebar says of a label's attribute: value -> how many labels."""
    entry = f"""document.querySelector('[data-cy="categorical-filter-{path}"]')"""
    text = page.wait_for(f"{entry} && /\\d/.test({entry}.innerText) && {entry}.innerText", SECONDS)
    _, *lines = [line.strip() for line in text.splitlines() if line.strip()]  # the attribute's name stands above
    return {value: int(count.replace(",", "")) for value, count in zip(lines[::2], lines[1::2], strict=True)}


def fields_of(page: Page) -> set[str]:
    """The fields of labels that the sidebar offers."""
    names = page.evaluate(
        f"[...document.querySelectorAll({json.dumps(_FIELDS)})]"
        ".map(e => e.getAttribute('data-cy').replace('sidebar-field-arrow-enabled-', ''))"
    )
    return set(names)


def percent(value: float) -> str:
    return f"{100 * value:.2f}"


def counts_of(run: Run) -> dict[str, int]:
    """Of the predictions: status -> how many."""
    matches = run.matches().to_pandas().query("kind == 'prediction' and task == 'panoptic'")
    return {str(status): int(count) for status, count in matches["status"].value_counts().items()}


def test_the_grid_shows_every_image_with_its_masks(demo, page, picture):
    wait_for_masks(page)
    assert fields_of(page) == {"ground_truth", "label_edits", FIELD}
    assert page.evaluate("document.querySelectorAll('[data-cy=looker]').length") > 12
    wanted, end = {"person", "car", "house", "sky"}, time.monotonic() + SECONDS
    while not wanted <= (found := painted(page, demo.run)) and time.monotonic() < end:
        time.sleep(1)
    assert wanted <= found  # each in the colour that the dataset gives it
    picture(page, "fiftyone_grid")
    assert page.errors == []


def test_a_saved_view_shows_only_false_positives(demo, page, picture):
    open_view(page, demo, f"{FIELD}: false positives by score")
    assert fields_of(page) == {FIELD}
    page.click_on(f"[data-cy='sidebar-field-arrow-enabled-{FIELD}']")
    assert values_of(page, f"{FIELD}.detections.pq_{FIELD}") == {"fp": counts_of(demo.run)["fp"]}
    picture(page, "fiftyone_false_positives")


def test_the_view_of_pre_labels_has_every_image_and_predicted_object(demo, page, picture):
    open_view(page, demo, "pre-labels: most worth a look first")
    page.wait_for_text("60 samples", SECONDS)
    page.click_on("[data-cy='sidebar-field-arrow-enabled-label_edits']")
    found = values_of(page, "label_edits.detections.label")
    objects = demo.run.segments().num_rows
    assert sum(found.values()) <= objects  # the sidebar lists the most frequent ones
    page.wait_for_text(f"label_edits\n{objects}", SECONDS)
    assert found.keys() <= {category.name for category in demo.run.categories}
    picture(page, "fiftyone_prelabels")


def test_the_model_evaluation_panel_shows_our_numbers(demo, page, picture):
    open_panel(page, EVALUATION)
    page.click(f"pq_{FIELD}", PANELS[EVALUATION], SECONDS)
    metrics = demo.run.metrics()
    table = f"document.querySelector({json.dumps(PANELS[EVALUATION] + ' table')})"
    rows = f"[...{table}.rows].map(row => [...row.cells].slice(0, 2).map(cell => cell.innerText.trim()))"
    page.wait_for(f"{table} && {table}.innerText.includes('mean class accuracy')", SECONDS)  # the last row
    shown = dict(page.evaluate(rows))
    for name in ("PQ", "SQ", "RQ"):
        assert float(shown[name]) == pytest.approx(metrics["panoptic"]["all"][name.lower()], abs=0.0006)
    assert {what: int(shown[f"{what} Positives"]) for what in ("True", "False")} == {
        "True": counts_of(demo.run)["tp"],
        "False": counts_of(demo.run)["fp"],
    }
    page.evaluate(f"[...{table}.rows].find(row => row.innerText.includes('SQ')).scrollIntoView({{block: 'center'}})")
    wait_for_masks(page)
    picture(page, "fiftyone_evaluation")


def test_the_plugins_panel_shows_the_runs_numbers_and_its_views(demo, page, picture):
    open_panel(page, PLUGIN)
    metrics = demo.run.metrics()
    for number in (metrics["panoptic"]["all"]["pq"], metrics["instance"]["segm"]["AP"], metrics["semantic"]["miou"]):
        page.wait_for_text(percent(number), SECONDS)
    page.wait_for_text("0 of 60 images are marked reviewed", SECONDS)
    wait_for_masks(page)
    picture(page, "fiftyone_plugin")
    assert page.errors == []
    assert fields_of(page) == {"ground_truth", "label_edits", FIELD}
    choose(page, "Show in the grid", "false positives by score")
    page.wait_for(f"document.querySelectorAll({json.dumps(_FIELDS)}).length == 1", SECONDS)
    assert fields_of(page) == {FIELD}


def test_a_selection_is_predicted_from_the_plugins_panel(demo, page):
    page.wait_for("document.querySelectorAll('[data-cy^=looker-checkbox-input]').length > 2", SECONDS)
    page.evaluate("document.querySelector('[data-cy^=looker-checkbox-input]').click()")
    open_panel(page, PLUGIN)
    page.wait_for_text("images are marked", SECONDS)
    page.click("Predict", PANELS[PLUGIN])
    page.wait_for_text("Current selection", SECONDS)
    page.wait_for(_button("Execute", "!found.disabled"), SECONDS)
    page.click("Execute")
    page.wait_for_text("Predicted 1 images into", SECONDS)
    page.wait_for_text("Panoptic, 1 images, percent", SECONDS)  # the panel has the new run's numbers
    page.wait_for("document.querySelectorAll('[data-cy=looker]').length == 1", SECONDS)  # the grid its worst images
    (made,) = [path for path in demo.run.path.parent.iterdir() if path.name.endswith("-2")]
    assert len(Run.open(made).manifest["identity"]["images"]) == 1


def test_an_error_is_told_in_the_app(demo, page):
    open_panel(page, PLUGIN)
    page.click("Predict", PANELS[PLUGIN], SECONDS)
    page.wait_for(_button("Execute", "!found.disabled"), SECONDS)
    page.click_on("input[placeholder='Type or select a value']")
    page.type("nonsense")
    page.press("Tab")
    page.wait_for(_button("Execute", "!found.disabled"), SECONDS)
    page.click("Execute")
    page.wait_for_text("nonsense is neither an existing folder", SECONDS)


def open_panel(page: Page, name: str) -> None:
    page.click_on("[data-cy=new-panel-btn]", SECONDS)
    page.click(name, seconds=SECONDS)
    page.wait_for(f"!!document.querySelector({json.dumps(PANELS[name])})", SECONDS)


def choose(page: Page, label: str, choice: str) -> None:
    """Choose in the menu of the plugin's panel that stands below that label."""
    find = f"""(() => {{
        const below = [...document.querySelectorAll({json.dumps(PANELS[PLUGIN] + " *")})]
            .filter(e => e.innerText && e.innerText.trim().startsWith({json.dumps(label)})
                && e.querySelectorAll('[role=combobox]').length === 1);
        if (!below.length) return null;
        const box = below[below.length - 1].querySelector('[role=combobox]').getBoundingClientRect();
        return [box.x + box.width / 2, box.y + box.height / 2];
    }})()"""
    page.click_at(*page.wait_for(find, SECONDS))
    page.click(choice, "[role=listbox]", SECONDS)


def _button(label: str, condition: str) -> str:
    """Whether there is such a button for which that holds."""
    find = f"[...document.querySelectorAll('button')].find(b => b.innerText.trim() === {json.dumps(label)})"
    return f"(found => !!found && {condition})({find})"
