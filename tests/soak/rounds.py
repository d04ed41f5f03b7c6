"""One round: a fresh world, a command, a fault; then what is left is examined, and the command is given once more."""

import random
import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from tests.soak import oracle
from tests.soak.faults import SignalAtEvent
from tests.soak.scenarios import Scenario
from tests.soak.workplace import SIGNALS, Ended, Undisturbed, Workplace


@dataclass(frozen=True)
class Outcome:
    """What a round showed."""

    scenario: str
    command: str
    fault: str
    detail: str
    """With what the round can be repeated: moments, sizes."""
    strikes: int = 0
    """Faults that met the command at work."""
    ended: str = "died"
    """How it answered: "died", "clear error", "unharmed"."""
    losses: tuple[str, ...] = ()
    duplicates: tuple[str, ...] = ()
    unclear: tuple[str, ...] = ()
    """Tracebacks, and errors that say nothing."""
    left_overs: tuple[str, ...] = ()
    """Hidden files that are still there after the second attempt."""

    @property
    def good(self) -> bool:
        """Whether nothing was lost, doubled or left unexplained."""
        return not (self.losses or self.duplicates or self.unclear)


def begin(scenario: Scenario, fault: str, detail: str, **more: tuple[str, ...]) -> Outcome:
    """An outcome of which nothing is known yet."""
    return Outcome(scenario.name, scenario.command, fault, detail, **more)  # type: ignore[arg-type]


def with_findings(outcome: Outcome, found: Outcome) -> Outcome:
    """The outcome, with what else was found."""
    return replace(
        outcome,
        losses=(*outcome.losses, *found.losses),
        duplicates=(*outcome.duplicates, *found.duplicates),
        left_overs=(*outcome.left_overs, *found.left_overs),
    )


def kill_round(place: Workplace, scenario: Scenario, draw: random.Random) -> Outcome:
    """Kill the command once to three times, at moments of the clock or before an event of files; then let it end."""
    usual = place.undisturbed(scenario)
    place.fresh()
    outcome = begin(scenario, "signal", "")
    for arguments in (scenario.arguments, *[scenario.repeated] * draw.choice((0, 0, 1, 2))):
        name = draw.choice(list(SIGNALS))
        if draw.random() < 0.5:
            event = draw.randint(1, usual.events)
            moment = f"{name} at event {event}"
            ended = place.run(arguments, SignalAtEvent(SIGNALS[name], event))
        else:
            seconds = draw.uniform(0.0, 1.05) * usual.seconds
            moment = f"{name} after {seconds:.3f} s"
            ended = place.strike(arguments, SIGNALS[name], seconds)
        outcome = struck(outcome, moment, ended)
        outcome = with_findings(outcome, examine(place, scenario, usual))
    return recover(place, scenario, usual, outcome)


def fault_round(
    place: Workplace,
    scenario: Scenario,
    outcome: Outcome,
    fault: Callable[[], None] | None,
    mend: Callable[[], None],
    says: str,
) -> Outcome:
    """The command with a fault, which it survives or explains; then `mend`, and the command once more.

    The world is laid out. `says` is a pattern of what the error must name.
    """
    usual = place.undisturbed(scenario)
    ended = place.run(scenario.arguments, fault)
    mend()
    outcome = answered(outcome, ended, says)
    outcome = with_findings(outcome, examine(place, scenario, usual, told=ended.code != 0))
    return recover(place, scenario, usual, outcome)


def answered(outcome: Outcome, ended: Ended, says: str) -> Outcome:
    """How a command took a fault that it can notice: without harm, or with an error that names the cause."""
    unclear = ended.unclear()
    if ended.code < 0:
        unclear.append(f"ended by signal {-ended.code}: {ended.stderr[-1500:]}")
    elif ended.code == 1 and not re.search(says, ended.stderr):
        unclear.append(f"does not name {says}: {ended.stderr[-1500:]}")
    how = "unharmed" if ended.code == 0 else "clear error"
    return replace(outcome, strikes=1, ended=how, unclear=(*outcome.unclear, *unclear))


def examine(place: Workplace, scenario: Scenario, usual: Undisturbed, told: bool = False) -> Outcome:
    """The state in which a fault left the world; `told`: by an error, after which earlier results must be there."""
    losses = place.damage_to_others(scenario)
    world = place.world
    duplicates = oracle.duplicates(world, *scenario.outputs)
    if scenario.run and (world / scenario.run).is_dir():
        losses += _foreign_rows(oracle.rows_of_images(world / scenario.run), usual)
    if scenario.seal is not None:
        found = oracle.contents(world, *scenario.outputs)
        if scenario.seal(world):
            against_new, against_old = (oracle.differences(found, each) for each in (usual.contents, usual.earlier))
            if against_new and against_old:
                losses.append(f"neither new nor old: {'; '.join(against_new[:3])}")
        elif told and usual.earlier:
            losses.append("the earlier result is gone, though the command failed with an error")
    return begin(scenario, "", "", losses=tuple(losses), duplicates=tuple(duplicates))


def recover(place: Workplace, scenario: Scenario, usual: Undisturbed, outcome: Outcome) -> Outcome:
    """Give the command once more, undisturbed: what it leaves must be what it always leaves."""
    ended = place.run(scenario.repeated)
    world, losses = place.world, []
    if ended.code != 0:
        losses.append(f"the second attempt failed: {ended.stderr[-1500:]}")
    losses += oracle.differences(oracle.contents(world, *scenario.outputs), usual.contents)
    losses += place.damage_to_others(scenario)
    after = begin(
        scenario,
        "",
        "",
        losses=tuple(f"after all: {loss}" for loss in losses),
        duplicates=tuple(oracle.duplicates(world, *scenario.outputs)),
        left_overs=tuple(oracle.left_overs(world, *scenario.outputs)),
    )
    return with_findings(outcome, after)


def _foreign_rows(found: dict[str, str], usual: Undisturbed) -> list[str]:
    wrong = [image_id for image_id, digest in found.items() if usual.rows.get(image_id) != digest]
    return [f"committed rows of images {', '.join(wrong)} are not the undisturbed ones"] if wrong else []


def struck(outcome: Outcome, moment: str, ended: Ended) -> Outcome:
    """The outcome after one more signal at that moment, which may have come too late."""
    detail = f"{outcome.detail}, {moment}".removeprefix(", ")
    strikes = outcome.strikes + ended.died
    unclear = (*outcome.unclear, *ended.unclear())
    return replace(outcome, detail=detail, strikes=strikes, unclear=unclear)
