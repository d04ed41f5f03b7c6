"""Commands under faults, the short form: nothing lost or doubled, every error clear. `make soak` is the long one."""

import random
from pathlib import Path

import pytest

from tests.soak import disks
from tests.soak.plan import MOUNTING, Round
from tests.soak.rounds import kill_round
from tests.soak.scenarios import named
from tests.soak.surroundings import file_limit_round, full_disk_round, read_only_round
from tests.soak.workplace import Workplace

CASES: tuple[tuple[Round, str], ...] = (
    (kill_round, "predict panoptic"),
    (kill_round, "evaluate again"),
    (kill_round, "import coco-panoptic"),
    (kill_round, "export coco-panoptic"),
    (file_limit_round, "evaluate again"),
    (full_disk_round, "import coco-results"),
    (read_only_round, "evaluate again"),
)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    return Workplace(tmp_path_factory.mktemp("soak") / "place")


@pytest.mark.parametrize(("play", "name"), CASES, ids=[f"{play.__name__} {name}" for play, name in CASES])
def test_nothing_is_lost_doubled_or_unexplained(play: Round, name: str, place: Workplace, tmp_path: Path) -> None:
    if play in MOUNTING and (reason := disks.why_not(tmp_path)):
        pytest.skip(reason)
    (scenario,) = named([name])
    outcome = play(place, scenario, random.Random(f"0 {play.__name__} {name}"))
    assert outcome.good, outcome
