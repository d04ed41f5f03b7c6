"""Which fault befalls which command, and how often: quick commands more often than slow ones, every kind early on."""

import random
from collections.abc import Callable, Iterator
from itertools import cycle, islice

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
    (kill_round, ("predict", "import", "export"), 26),
    (kill_round, ("evaluate", "train"), 8),
    (kill_round, ("audit", "sweep", "report"), 4),
    (file_limit_round, _WRITERS, 1),
    (full_disk_round, _WRITERS, 1),
    (no_inodes_round, _WRITERS, 1),
    (read_only_round, _WRITERS, 1),
    (vanishing_round, ("predict", "evaluate", "import", "train", "audit", "report"), 1),
    (truncated_shard_round, _READERS, 1),
    (flipped_bit_round, _READERS, 2),
    (damaged_progress_round, ("predict",), 3),
    (second_process_round, ("predict", "evaluate", "import", "train"), 1),
    (clock_round, ("predict", "evaluate", "import", "train"), 1),
)
"""(round, commands, rounds of each command in the long form); the scenarios of a command take turns."""


def rounds(seed: int, can_mount: bool) -> Iterator[tuple[Round, Scenario, random.Random]]:
    """All rounds of the long form, each with random numbers of its own, so that any can be repeated alone.

    The first of every kind come first, and the others evenly, so that an early stop leaves no kind out.
    """
    found = []
    for play, commands, count in PLAN:
        if play in MOUNTING and not can_mount:
            continue
        for command in commands:
            scenarios = cycle(scenario for scenario in SCENARIOS if scenario.command == command)
            found += [(number / count, play, each) for number, each in enumerate(islice(scenarios, count))]
    for number, (_, play, scenario) in enumerate(sorted(found, key=lambda each: each[0])):
        yield play, scenario, random.Random(f"{seed} {play.__name__} {scenario.name} {number}")
