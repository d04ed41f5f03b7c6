"""Faults of the surroundings, which a command can notice: no room, no right to write, a clock that goes back."""

import os
import random
import time

from tests.soak import disks
from tests.soak.faults import ClockGoesBack, FileLimit, SignalAtEvent
from tests.soak.rounds import Outcome, answered, begin, examine, fault_round, recover, struck, with_findings
from tests.soak.scenarios import Scenario
from tests.soak.workplace import SIGNALS, Workplace

_NO_ROOM = "No space left|File too large"
_OF_STDERR = 2000  # bytes: it goes into a file too, and is to hold what the command says
_NOT_WRITABLE = "Read-only file system|cannot be written"


def file_limit_round(place: Workplace, scenario: Scenario, draw: random.Random) -> Outcome:
    """No file may grow beyond so many bytes (RLIMIT_FSIZE)."""
    largest = max(place.undisturbed(scenario).sizes)
    drawn = draw.choice((*place.undisturbed(scenario).sizes, draw.randrange(largest))) - 1
    size = max(_OF_STDERR, drawn)
    outcome = begin(scenario, "file limit", f"{size} bytes a file")
    place.fresh()
    return fault_round(place, scenario, outcome, FileLimit(size), _nothing, _NO_ROOM)


def full_disk_round(place: Workplace, scenario: Scenario, draw: random.Random) -> Outcome:
    """A disk that has room for a part of what the command writes; then there is room."""
    room = draw.randrange(sum(place.undisturbed(scenario).sizes))
    with disks.mounted(place) as disk:
        disk.leave_room(room)
        outcome = begin(scenario, "full disk", f"{room} bytes left")
        return fault_round(place, scenario, outcome, None, disk.make_room, _NO_ROOM)


def no_inodes_round(place: Workplace, scenario: Scenario, draw: random.Random) -> Outcome:
    """A disk that takes only some more files; then there is room."""
    count = draw.randrange(len(place.undisturbed(scenario).sizes) + 2)
    with disks.mounted(place) as disk:
        disk.leave_files(count)
        outcome = begin(scenario, "no inodes", f"{count} files left")
        return fault_round(place, scenario, outcome, None, disk.make_room, _NO_ROOM)


def read_only_round(place: Workplace, scenario: Scenario, draw: random.Random) -> Outcome:
    """A disk that cannot be written; then it can."""
    with disks.mounted(place) as disk:
        disk.forbid_writing()
        outcome = begin(scenario, "read-only", "")
        return fault_round(place, scenario, outcome, None, disk.make_room, _NOT_WRITABLE)


def clock_round(place: Workplace, scenario: Scenario, draw: random.Random) -> Outcome:
    """Killed; then the clock is behind all files, and goes back by another year while the command goes on."""
    usual = place.undisturbed(scenario)
    event, after = draw.randint(1, usual.events), draw.random() * usual.seconds
    world = place.fresh()
    ended = place.run(scenario.arguments, SignalAtEvent(SIGNALS["SIGKILL"], event))
    moment = f"SIGKILL at event {event}, then back after {after:.3f} s"
    outcome = struck(begin(scenario, "clock goes back", ""), "SIGKILL", moment, ended)
    tomorrow = time.time() + 86400
    for path in (world, *world.rglob("*")):
        os.utime(path, (tomorrow, tomorrow), follow_symlinks=False)
    outcome = answered(outcome, place.run(scenario.repeated, ClockGoesBack(after)), "a wrong clock is no error")
    return recover(place, scenario, usual, with_findings(outcome, examine(place, scenario, usual)))


def _nothing() -> None:
    """Nothing has to be mended: the fault went with the process."""
