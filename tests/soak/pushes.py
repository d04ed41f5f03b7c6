"""Pushes into FiftyOne that are killed, or whose database is; a second push gives what an undisturbed one gives."""

import os
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tests.soak import oracle
from tests.soak.database import Database
from tests.soak.faults import Surroundings
from tests.soak.rounds import Outcome, after_all, answered, begin, struck
from tests.soak.scenarios import DATASET, Scenario
from tests.soak.workplace import SIGNALS, Ended, Workplace

NAME = "scenes_val"
"""Of the FiftyOne dataset that is there before."""
FIRST = "scenes_first"
"""Of one that is not."""
_WRITES = {"insert", "update", "delete", "create", "createIndexes", "findAndModify", "bulkWrite"}

PUSHES = (
    Scenario("browse first", ("browse", "runs/earlier", "--no-launch", "--name", FIRST), ()),
    Scenario("browse again", ("browse", "runs/earlier", "--no-launch"), ()),
    Scenario("prelabel", ("prelabel", "--dataset", DATASET, "--run", "runs/plain", "--labelled"), ()),
)


@dataclass(frozen=True)
class CountWrites:
    """Count what the command asks the database to write: a byte each in `file`."""

    file: Path

    def __call__(self) -> None:
        descriptor = os.open(self.file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        _on_write(lambda number: os.write(descriptor, b"."))


@dataclass(frozen=True)
class SignalAtWrite:
    """The process `pid`, or without one the command itself, gets the signal right before the n-th of those, from 1."""

    signal_number: int
    write: int
    pid: int | None = None

    def __call__(self) -> None:
        def strike(number: int) -> None:
            if number == self.write:
                os.kill(self.pid or os.getpid(), self.signal_number)

        _on_write(strike)


def _on_write(then: Callable[[int], object]) -> None:
    from pymongo import monitoring

    class Listener(monitoring.CommandListener):
        seen = 0

        def started(self, event: Any) -> None:
            if event.command_name in _WRITES:
                self.seen += 1
                then(self.seen)

        def succeeded(self, event: Any) -> None:
            pass

        def failed(self, event: Any) -> None:
            pass

    monitoring.register(Listener())


@dataclass(frozen=True)
class UsualPush:
    """What a push does when nothing befalls it."""

    contents: oracle.Contents
    writes: int
    seconds: float


class PushPlace:
    """A workplace with a database, which holds an earlier push before each round."""

    def __init__(self, place: Workplace) -> None:
        self.place, self.database = place, Database(place.folder / "mongodb")
        self._usual: dict[str, UsualPush] = {}

    @cached_property
    def _earlier(self) -> dict[str, tuple[list[Any], list[Any]]]:
        """A dataset with another run, and what a user did to it."""
        self._expect(self.run(("browse", "runs/plain", "--no-launch")))
        return self.database.save()

    def fresh(self) -> None:
        """The world and the database as they are before each round."""
        self.place.fresh()
        self.database.restore(self._earlier)

    @staticmethod
    def name(push: Scenario) -> str:
        """The FiftyOne dataset that it goes into."""
        return FIRST if FIRST in push.arguments else NAME

    def run(self, arguments: tuple[str, ...], fault: Callable[[], None] | None = None) -> Ended:
        """The command on the database."""
        surroundings = Surroundings(self.database.environment, fault)
        return self.place.finish(self.place.start(arguments, surroundings))

    def usual(self, push: Scenario) -> UsualPush:
        """What the push does when nothing befalls it; found out once."""
        if push.name not in self._usual:
            self.fresh()
            counter = self.place.logs / f"writes of {push.name}"
            begun = time.monotonic()
            self._expect(self.run(push.arguments, CountWrites(counter)))
            seconds = time.monotonic() - begun
            contents = self.database.contents(self.name(push))
            self._usual[push.name] = UsualPush(contents, counter.stat().st_size, seconds)
        return self._usual[push.name]

    @staticmethod
    def _expect(ended: Ended) -> None:
        if ended.code != 0:
            raise RuntimeError(ended.stderr)


def killed_push_round(place: PushPlace, push: Scenario, draw: random.Random) -> Outcome:
    """The push is killed between two writes, once or twice; then it is given again."""
    usual = place.usual(push)
    place.fresh()
    outcome = begin(push, "signal", "")
    for _ in range(draw.choice((1, 1, 2))):
        name, write = draw.choice(list(SIGNALS)), draw.randint(1, usual.writes)
        ended = place.run(push.arguments, SignalAtWrite(SIGNALS[name], write))
        outcome = struck(outcome, name, f"{name} at write {write}", ended)
    return _push_again(place, push, usual, outcome)


def killed_database_round(place: PushPlace, push: Scenario, draw: random.Random) -> Outcome:
    """The database is killed between two writes; it comes back, and the push is given again."""
    usual = place.usual(push)
    place.fresh()
    write = draw.randint(1, usual.writes)
    outcome = begin(push, "database killed", f"at write {write}")
    fault = SignalAtWrite(SIGNALS["SIGKILL"], write, place.database.pid)
    outcome = answered(outcome, place.run(push.arguments, fault), "(?i)database")
    place.database.restart()
    return _push_again(place, push, usual, outcome)


def _push_again(place: PushPlace, push: Scenario, usual: UsualPush, outcome: Outcome) -> Outcome:
    name = place.name(push)
    doubled = place.database.duplicates(name)
    ended = place.run(push.arguments)
    losses = [] if ended.code == 0 else [f"the second push failed: {ended.stderr[-1500:]}"]
    losses += oracle.differences(place.database.contents(name), usual.contents)
    losses += place.place.damage_to_others(push)
    return after_all(outcome, losses, (*doubled, *place.database.duplicates(name)), place.database.orphans())
