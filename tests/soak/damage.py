"""Shards cut short and with a flipped bit: whoever reads them names them, or gives what it gives without the damage."""

import random
import shutil
from dataclasses import replace
from pathlib import Path

from tests.soak import oracle
from tests.soak.faults import SignalAtEvent
from tests.soak.rounds import Outcome, after_all, answered, begin, examine, recover, struck, with_findings
from tests.soak.scenarios import Scenario
from tests.soak.workplace import SIGNALS, Workplace


def truncated_shard_round(place: Workplace, scenario: Scenario, draw: random.Random) -> Outcome:
    """A shard that the command reads is cut; then it is whole again."""
    return _damaged_round(place, scenario, draw, "truncated shard")


def flipped_bit_round(place: Workplace, scenario: Scenario, draw: random.Random) -> Outcome:
    """A bit of a shard that the command reads has changed; then it is right again."""
    return _damaged_round(place, scenario, draw, "flipped bit")


def damaged_progress_round(place: Workplace, scenario: Scenario, draw: random.Random) -> Outcome:
    """A run is killed and a shard of it cut; the next attempt names it, and goes on when it is deleted."""
    usual = place.undisturbed(scenario)
    assert scenario.run is not None
    place.fresh()
    event = draw.randint(usual.events // 2, usual.events)
    killed = place.run(scenario.arguments, SignalAtEvent(SIGNALS["SIGKILL"], event))
    folder = place.world / scenario.run
    shards = sorted((folder / "images").glob("part-*.parquet"))
    outcome = struck(begin(scenario, "truncated shard", ""), "SIGKILL", f"SIGKILL at event {event}", killed)
    if shards:
        shard = draw.choice(shards)
        outcome = replace(outcome, detail=f"{outcome.detail}, {shard.name} {damage(shard, 'truncated shard', draw)}")
        outcome = answered(outcome, place.run(scenario.repeated), shard.name)
        shard.unlink()
    ended = place.run(scenario.repeated)
    losses = [] if ended.code == 0 else [f"failed though the shard is deleted: {ended.stderr[-1500:]}"]
    if oracle.rows_of_images(folder) != usual.rows:  # in another order of images
        losses.append("not the undisturbed rows")
    return after_all(outcome, losses, oracle.duplicates(place.world, *scenario.outputs))


def damage(path: Path, kind: str, draw: random.Random) -> str:
    """Damage a file; returns how."""
    data = bytearray(path.read_bytes())
    if kind == "truncated shard":
        length = draw.choice((0, 1, 4, 8, len(data) // 2, len(data) - 8, len(data) - 1, draw.randrange(len(data))))
        path.write_bytes(data[:length])
        return f"cut to {length} of {len(data)} bytes"
    bit = draw.randrange(8 * len(data))
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)
    return f"bit {bit} of {8 * len(data)} flipped"


def _damaged_round(place: Workplace, scenario: Scenario, draw: random.Random, kind: str) -> Outcome:
    usual = place.undisturbed(scenario)
    world = place.fresh()
    run = next(argument for argument in scenario.arguments if argument.startswith("runs/"))
    shard = draw.choice(sorted((world / run).glob("*/part-*.parquet")))
    name = str(shard.relative_to(world))
    outcome = begin(scenario, kind, f"{name} {damage(shard, kind, draw)}")
    ended = place.run(scenario.arguments)
    shutil.copy2(place.template / name, shard)
    outcome = answered(outcome, ended, shard.name)
    outcome = with_findings(outcome, examine(place, scenario, usual, told=ended.code != 0))
    if ended.code == 0 and (wrong := oracle.differences(oracle.contents(world, *scenario.outputs), usual.contents)):
        losses = tuple(f"wrong without a word: {line}" for line in wrong)
        outcome = with_findings(outcome, begin(scenario, "", "", losses=losses))
    return recover(place, scenario, usual, outcome)
