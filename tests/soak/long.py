"""`make soak`: every command under every fault, and what became of it. Exit code 1 where anything was lost.

python -m tests.soak.long [--seed 0] [--minutes 30] [--only predict] [--out runs/soak]
"""

import json
import random
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import click

from tests.reference.mongodb import mongod_path
from tests.soak import disks, plan, pushes
from tests.soak.rounds import Outcome
from tests.soak.workplace import Workplace


@click.command()
@click.option("--seed", default=0, show_default=True, help="Another one strikes at other moments.")
@click.option("--minutes", default=0.0, help="Begin no further round after so many; 0: all rounds.")
@click.option("--only", default="", help="Rounds and scenarios whose names contain this.")
@click.option("--push-rounds", default=6, show_default=True, help="Of each push and kind.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("runs/soak"), show_default=True)
def main(seed: int, minutes: float, only: str, push_rounds: int, out: Path) -> None:
    """Put every command under every fault."""
    begun = time.monotonic()
    outcomes: list[Outcome] = []
    notes = []
    in_memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="soak-", dir=in_memory if in_memory.is_dir() else None) as text:
        place = Workplace(Path(text) / "place")
        if reason := disks.why_not(Path(text)):
            notes.append(f"no full or read-only disk was tried: {reason}")
        late = False
        for play, scenario, draw in plan.rounds(seed, can_mount=reason is None):
            if only not in f"{play.__name__} {scenario.name}":
                continue
            if late := bool(minutes) and time.monotonic() - begun > 60 * minutes:
                notes.append(f"stopped after {minutes:g} minutes, before all rounds were done")
                break
            outcomes.append(_told(play(place, scenario, draw)))
        if not late and push_rounds and only in "browse prelabel push":
            outcomes += _pushed(place, seed, push_rounds, notes)
    keep(outcomes, notes, seed, time.monotonic() - begun, out)
    sys.exit(0 if all(outcome.good for outcome in outcomes) else 1)


def _pushed(place: Workplace, seed: int, count: int, notes: list[str]) -> list[Outcome]:
    try:
        mongod_path()
    except LookupError as error:
        notes.append(f"no push was tried: {error}")
        return []
    found, target = [], pushes.PushPlace(place)
    try:
        for play in (pushes.killed_push_round, pushes.killed_database_round):
            for push in pushes.PUSHES:
                draws = (random.Random(f"{seed} {play.__name__} {push.name} {number}") for number in range(count))
                found += [_told(play(target, push, draw)) for draw in draws]
    finally:
        target.database.close()
    return found


def _told(outcome: Outcome) -> Outcome:
    what = "" if outcome.good else f" LOST {(*outcome.losses, *outcome.duplicates, *outcome.unclear)}"
    print(f"{outcome.fault:16} {outcome.scenario:22} {outcome.ended:12} {outcome.detail}{what}", flush=True)
    return outcome


def keep(outcomes: Sequence[Outcome], notes: Sequence[str], seed: int, seconds: float, out: Path) -> None:
    """Write soak.json, with every round, and soak.md, with the counts."""
    groups: dict[tuple[str, str], list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        groups[outcome.fault, outcome.command].append(outcome)
    columns = (
        "fault",
        "command",
        "rounds",
        "faults met",
        "clear errors",
        "losses",
        "duplicates",
        "unclear",
        "left over",
    )
    lines = ["# Faults", "", f"Seed {seed}, {seconds:.0f} s.", "", f"| {' | '.join(columns)} |", "| --- " * 9 + "|"]
    for (fault, command), group in sorted(groups.items()):
        lines.append("| " + " | ".join(map(str, (fault, command, *_counts(group)))) + " |")
    lines += ["| " + " | ".join(map(str, ("all", "", *_counts(outcomes)))) + " |", "", *(f"- {note}" for note in notes)]
    out.mkdir(parents=True, exist_ok=True)
    (out / "soak.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    about = {"seed": seed, "seconds": seconds, "notes": list(notes), "rounds": [asdict(each) for each in outcomes]}
    (out / "soak.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    print("\n".join(lines))


def _counts(group: Sequence[Outcome]) -> tuple[int, ...]:
    return (
        len(group),
        sum(outcome.strikes for outcome in group),
        sum(outcome.ended == "clear error" for outcome in group),
        sum(bool(outcome.losses) for outcome in group),
        sum(bool(outcome.duplicates) for outcome in group),
        sum(bool(outcome.unclear) for outcome in group),
        sum(bool(outcome.left_overs) for outcome in group),
    )


if __name__ == "__main__":
    main()
