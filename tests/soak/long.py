"""`make soak`: every command under every fault, and what became of it. Exit code 1 where anything was lost.

python -m tests.soak.long [--seed 0] [--minutes 30] [--only predict] [--out runs/soak]
"""

import random
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import click

from tests.reference.mongodb import mongod_path
from tests.soak import disks, plan, pushes
from tests.soak.report import Report
from tests.soak.rounds import Outcome, Turn
from tests.soak.workplace import Workplace


@click.command()
@click.option("--seed", default=0, show_default=True, help="Another one strikes at other moments.")
@click.option("--minutes", default=0.0, help="Begin no further round after so many; 0: all rounds.")
@click.option("--only", default="", help="Rounds and scenarios whose names contain this.")
@click.option("--push-rounds", default=2, show_default=True, help="Of each push and kind.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("runs/soak"), show_default=True)
def main(seed: int, minutes: float, only: str, push_rounds: int, out: Path) -> None:
    """Put every command under every fault."""
    begun, report = time.monotonic(), Report(seed)
    in_memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="soak-", dir=in_memory if in_memory.is_dir() else None) as text:
        try:
            for turn in _turns(Path(text), seed, push_rounds, only, report.notes):
                if minutes and time.monotonic() - begun > 60 * minutes:
                    report.notes.append(f"stopped after {minutes:g} minutes, before all rounds were done")
                    break
                report.outcomes.append(_told(turn))
        except KeyboardInterrupt:
            report.notes.append("interrupted, before all rounds were done")
        finally:
            report.write(time.monotonic() - begun, out)
    sys.exit(0 if report.good else 1)


def _turns(folder: Path, seed: int, push_rounds: int, only: str, notes: list[str]) -> Iterator[Turn]:
    """The pushes, and then all else; what cannot be tried here is added to the notes."""
    place = Workplace(folder / "place")
    if push_rounds and only in "browse prelabel push":
        yield from _push_turns(place, seed, push_rounds, notes)
    if reason := disks.why_not(folder):
        notes.append(f"no full or read-only disk was tried: {reason}")
    for play, scenario, draw in plan.rounds(seed, can_mount=reason is None):
        if only in f"{play.__name__} {scenario.name}":
            yield Turn(scenario, play.__name__, partial(play, place, scenario, draw))


def _push_turns(place: Workplace, seed: int, count: int, notes: list[str]) -> Iterator[Turn]:
    try:
        mongod_path()
    except LookupError as error:
        notes.append(f"no push was tried: {error}")
        return
    target = pushes.PushPlace(place)
    try:
        for play in (pushes.killed_push_round, pushes.killed_database_round):
            for push in pushes.PUSHES:
                for number in range(count):
                    draw = random.Random(f"{seed} {play.__name__} {push.name} {number}")
                    yield Turn(push, play.__name__, partial(play, target, push, draw))
    finally:
        target.database.close()


def _told(turn: Turn) -> Outcome:
    outcome = turn.taken()
    what = "" if outcome.good else f" LOST {(*outcome.losses, *outcome.duplicates, *outcome.unclear)}"
    print(f"{outcome.fault:16} {outcome.scenario:22} {outcome.ended:12} {outcome.detail}{what}", flush=True)
    return outcome


if __name__ == "__main__":
    main()
