"""Which fault befalls which command, and how often, for one command's worth of rounds."""

import random
from collections.abc import Callable, Iterator

from tests.soak.companions import second_process_round
from tests.soak.damage import damaged_progress_round, flipped_bit_round, truncated_shard_round
from tests.soak.rounds import Outcome, kill_round
from tests.soak.scenarios import SCENARIOS, Scenario
from tests.soak.surroundings import clock_round, file_limit_round, full_disk_round, no_inodes_round, read_only_round
from tests.soak.vanishing import vanishing_round
from tests.soak.workplace import Workplace

Round = Callable[[Workplace, Scenario, random.Random], Outcome]

_WRITERS = ("predict", "evaluate", "import", "export", "train", "audit", "sweep", "report")
_READERS = ("evaluate", "export", "audit", "sweep", "report")
MOUNTING: frozenset[Round] = frozenset((full_disk_round, no_inodes_round, read_only_round))
"""Rounds that need a file system of their own."""
PLAN: tuple[tuple[Round, tuple[str, ...], int], ...] = (
    (kill_round, _WRITERS, 12),
    (file_limit_round, _WRITERS, 2),
    (full_disk_round, _WRITERS, 2),
    (no_inodes_round, _WRITERS, 1),
    (read_only_round, _WRITERS, 1),
    (vanishing_round, ("predict", "evaluate", "import", "train", "audit", "report"), 2),
    (truncated_shard_round, _READERS, 2),
    (flipped_bit_round, _READERS, 4),
    (damaged_progress_round, ("predict",), 2),
    (second_process_round, ("predict", "evaluate", "import", "train"), 2),
    (clock_round, ("predict", "evaluate", "import", "train"), 1),
)
"""(round, commands, rounds of each scenario in the long form)."""


def rounds(seed: int, can_mount: bool) -> Iterator[tuple[Round, Scenario, random.Random]]:
    """All rounds of the long form, each with random numbers of its own, so that any can be repeated alone."""
    for play, commands, count in PLAN:
        if play in MOUNTING and not can_mount:
            continue
        for scenario in SCENARIOS:
            if scenario.command in commands:
                for number in range(count):
                    yield play, scenario, random.Random(f"{seed} {play.__name__} {scenario.name} {number}")
