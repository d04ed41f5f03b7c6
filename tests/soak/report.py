"""What all rounds together showed: faults by kind and command, and what was lost, doubled or left unexplained."""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tests.soak.rounds import Outcome
from tests.soak.workplace import SIGNALS

_COLUMNS = (
    *("fault", "command", "rounds", "faults met", *SIGNALS, "clear errors", "resumed"),
    *("losses", "duplicates", "unclear", "left over"),
)
_FOLDERS = re.compile(r"(?<![\w.+-])/(?:[\w.+-]+/)+")  # of the machine, which a report does not name
_LONGEST = 300
_MEANINGS = """\
A round is a command that meets one to four faults, one after another, and is then given once more without any.
Faults met: those that found the command at work; the signals among them that ended it are counted by name.
Clear errors: rounds in which the command named the cause; in the others it died or went on unharmed.
Resumed: rounds whose last attempt gave exactly the undisturbed result (a vanished image of a prediction is not tried
again: its reason is kept). Losses, duplicates, unclear: rounds with any.
Left over: rounds after which a hidden file still lay there."""


@dataclass
class Report:
    """The outcomes of all rounds so far."""

    seed: int
    outcomes: list[Outcome] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def good(self) -> bool:
        """Whether nothing was lost, doubled or left unexplained."""
        return all(outcome.good for outcome in self.outcomes)

    def write(self, seconds: float, out: Path) -> None:
        """Write soak.json, with every round, and soak.md, with the counts; print these."""
        out.mkdir(parents=True, exist_ok=True)
        text = self._markdown(seconds)
        (out / "soak.md").write_text(text, encoding="utf-8")
        rounds = [asdict(each) for each in self.outcomes]
        about = {"seed": self.seed, "seconds": round(seconds), "notes": self.notes, "rounds": rounds}
        record = _FOLDERS.sub("…/", json.dumps(about, indent=1, ensure_ascii=False))
        (out / "soak.json").write_text(f"{record}\n", encoding="utf-8")
        print(text)

    def _markdown(self, seconds: float) -> str:
        groups: dict[tuple[str, str], list[Outcome]] = defaultdict(list)
        for outcome in self.outcomes:
            groups[outcome.fault, outcome.command].append(outcome)
        rows = [(*names, *_counts(group)) for names, group in sorted(groups.items())]
        rows.append(("all", "", *_counts(self.outcomes)))
        table = [_COLUMNS, ("---",) * len(_COLUMNS), *rows]
        lines = ["# Faults", "", f"Seed {self.seed}, {seconds:.0f} s, {self._kills()}.", "", _MEANINGS, ""]
        lines += [f"| {' | '.join(map(str, row))} |" for row in table]
        lines += ["", *(f"- {note}" for note in self.notes)]
        lines += [f"- {line}" for outcome in self.outcomes if not outcome.good for line in _found(outcome)]
        return "\n".join(lines).rstrip() + "\n"

    def _kills(self) -> str:
        databases = sum(outcome.strikes for outcome in self.outcomes if outcome.fault == "database killed")
        of_commands = sum(len(outcome.killed) for outcome in self.outcomes)
        return f"{of_commands} commands and {databases} databases killed at work"


def _counts(group: Sequence[Outcome]) -> tuple[int, ...]:
    signals = Counter(name for outcome in group for name in outcome.killed)
    return (
        len(group),
        sum(outcome.strikes for outcome in group),
        *(signals[name] for name in SIGNALS),
        sum(outcome.ended == "clear error" for outcome in group),
        sum(outcome.resumed for outcome in group),
        sum(bool(outcome.losses) for outcome in group),
        sum(bool(outcome.duplicates) for outcome in group),
        sum(bool(outcome.unclear) for outcome in group),
        sum(bool(outcome.left_overs) for outcome in group),
    )


def _found(outcome: Outcome) -> list[str]:
    about = f"{outcome.fault}, {outcome.scenario}, {outcome.detail}"
    found = dict.fromkeys((*outcome.losses, *outcome.duplicates, *outcome.unclear))
    return [_FOLDERS.sub("…/", " ".join(f"{about}: {what}".split()))[:_LONGEST] for what in found]
