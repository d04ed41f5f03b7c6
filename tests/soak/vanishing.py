"""Files that go while a command runs, between their listing and their reading, and are there again afterwards."""

import random
import shutil
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq

from tests.soak import oracle
from tests.soak.faults import RemoveAtEvent
from tests.soak.rounds import Outcome, answered, begin, examine, recover, with_findings
from tests.soak.scenarios import Scenario
from tests.soak.workplace import Workplace

_LABEL_MAPS = "data/annotations/panoptic_val"
_ANOTHER = "made differently"  # the data set had another fingerprint without the file


def vanishing_round(place: Workplace, scenario: Scenario, draw: random.Random) -> Outcome:
    """An image or a label map goes; the command goes without, or names it; then it is there again.

    A result of a command that went without says so in its provenance (another fingerprint of the data set).
    """
    usual = place.undisturbed(scenario)
    event = draw.randint(1, usual.events)
    world = place.fresh()
    name = draw.choice(_pictures(world, scenario))
    outcome = begin(scenario, "file vanishes", f"{name} at event {event}")
    ended = place.run(scenario.arguments, RemoveAtEvent(world / name, event))
    outcome = answered(outcome, ended, Path(name).name)
    shutil.copy2(place.template / name, world / name)
    if scenario.command == "predict":
        return with_findings(outcome, begin(scenario, "", "", losses=_lost_images(place, scenario, name)))
    if ended.code != 0 and scenario.command not in ("audit", "report"):  # whose pages show no picture that is not there
        outcome = with_findings(outcome, examine(place, scenario, usual, told=True))
    if _ANOTHER in place.run(scenario.repeated).stderr:
        outcome = replace(outcome, ended="clear error")
        for output in scenario.outputs:
            shutil.rmtree(world / output)
    return recover(place, scenario, usual, outcome)


def _lost_images(place: Workplace, scenario: Scenario, name: str) -> tuple[str, ...]:
    """Of a prediction, which goes on without the image and keeps the reason: the others are what they always are."""
    assert scenario.run is not None
    folder = place.world / scenario.run
    if not (folder / "images").is_dir():
        return ()
    rows, expected = oracle.rows_of_images(folder), place.undisturbed(scenario).rows
    images = [row for path in sorted((folder / "images").glob("part-*")) for row in pq.read_table(path).to_pylist()]
    failed = {row["image_id"] for row in images if row["status"] == "failed" and Path(name).name in row["error"]}
    wrong = [image_id for image_id in rows if rows[image_id] != expected[image_id] and image_id not in failed]
    missing = sorted(expected.keys() - rows.keys())
    found = [f"images {wrong} are not the undisturbed ones"] if wrong else []
    return (*found, *([f"images {missing} are missing"] if missing else []))


def _pictures(world: Path, scenario: Scenario) -> list[str]:
    """What the command may read: images, and label maps of the data set or of the source."""
    folders = {
        "predict": ("data/images",),
        "import": (scenario.arguments[1].removesuffix(".json"),),
        "evaluate": (_LABEL_MAPS,),
    }.get(scenario.command, ("data/images", _LABEL_MAPS))
    if not all((world / folder).is_dir() for folder in folders):  # a source without pictures
        folders = ("data/images",)
    return sorted(str(path.relative_to(world)) for folder in folders for path in (world / folder).iterdir())
