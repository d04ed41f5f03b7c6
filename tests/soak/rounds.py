"""One round: a fresh world, a command, a fault; then what is left is examined, and the command is given once more."""

import random
import re
from collections.abc import Callable, Sequence
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
    killed: tuple[str, ...] = ()
    """The signals among them that ended the command."""
    ended: str = "died"
    """How it answered: "died", "clear error", "unharmed"."""
    losses: tuple[str, ...] = ()
    duplicates: tuple[str, ...] = ()
    unclear: tuple[str, ...] = ()
    """Tracebacks, and errors that say nothing."""
    left_overs: tuple[str, ...] = ()
    """Hidden files that are still there after the second attempt."""
    resumed: bool = False
    """Whether the last attempt, without a fault, gave exactly the undisturbed result."""

    @property
    def good(self) -> bool:
        """Whether nothing was lost, doubled or left unexplained."""
        return not (self.losses or self.duplicates or self.unclear)


@dataclass(frozen=True)
class Turn:
    """A round that is to be played."""

    scenario: Scenario
    name: str
    play: Callable[[], Outcome]

    def taken(self) -> Outcome:
        """What it showed; a round that could not be played to its end counts as unclear."""
        try:
            return self.play()
        except Exception as error:
            return replace(begin(self.scenario, self.name, ""), unclear=(f"the round broke: {error!r}",))


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
    """Kill the command once to four times, at moments of the clock or before an event of files; then let it end."""
    usual = place.undisturbed(scenario)
    place.fresh()
    outcome = begin(scenario, "signal", "")
    for arguments in (scenario.arguments, *[scenario.repeated] * draw.randrange(4)):
        name = draw.choice(list(SIGNALS))
        if draw.random() < 0.5:
            event = draw.randint(1, usual.events)
            moment = f"{name} at event {event}"
            ended = place.run(arguments, SignalAtEvent(SIGNALS[name], event))
        else:
            seconds = draw.uniform(0.0, 1.05) * usual.seconds
            moment = f"{name} after {seconds:.3f} s"
            ended = place.strike(arguments, SIGNALS[name], seconds)
        outcome = struck(outcome, name, moment, ended)
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
    return replace(outcome, strikes=outcome.strikes + 1, ended=how, unclear=(*outcome.unclear, *unclear))


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
    duplicates, hidden = (find(world, *scenario.outputs) for find in (oracle.duplicates, oracle.left_overs))
    return after_all(outcome, losses, duplicates, hidden)


def after_all(
    outcome: Outcome, losses: Sequence[str], duplicates: Sequence[str], left_overs: Sequence[str] = ()
) -> Outcome:
    """The outcome with what its last attempt, which met no fault, left: nothing wrong, or these."""
    after = replace(
        outcome,
        losses=(*outcome.losses, *(f"after all: {loss}" for loss in losses)),
        duplicates=(*outcome.duplicates, *duplicates),
        left_overs=(*outcome.left_overs, *left_overs),
    )
    return replace(after, resumed=not losses and not duplicates)


def _foreign_rows(found: dict[str, str], usual: Undisturbed) -> list[str]:
    wrong = [image_id for image_id, digest in found.items() if usual.rows.get(image_id) != digest]
    return [f"committed rows of images {', '.join(wrong)} are not the undisturbed ones"] if wrong else []


def struck(outcome: Outcome, name: str, moment: str, ended: Ended) -> Outcome:
    """The outcome after one more signal of that name at that moment, which may have come too late."""
    detail = f"{outcome.detail}, {moment}".removeprefix(", ")
    strikes = outcome.strikes + ended.died
    unclear = (*outcome.unclear, *ended.unclear())
    killed = (*outcome.killed, name) if ended.died else outcome.killed
    return replace(outcome, detail=detail, strikes=strikes, killed=killed, unclear=unclear)
