"""What a benchmark leaves: a dated report, as Markdown to read and as JSON to compare with; it says where we lose."""

import json
import os
import platform
import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from workbench.bench.measuring import Result, Timings
from workbench.cores import usable_cores

_WIDTH = 120


@dataclass(frozen=True)
class Section:
    """Results that belong together."""

    title: str
    results: Sequence[Result]
    notes: Sequence[str] = ()
    """Sentences below the table."""


@dataclass(frozen=True)
class Report:
    """All that one benchmark measured."""

    title: str
    about: str
    """What the inputs are and how it was measured."""
    sections: Sequence[Section]
    extra: dict[str, Any] = field(default_factory=dict)
    """More for the JSON: sizes, seeds, shares of stages."""

    @property
    def results(self) -> list[Result]:
        """Of all sections."""
        return [result for section in self.sections for result in section.results]


def machine(packages: Sequence[str], threads: int | None = None, device: str = "cpu") -> dict[str, str]:
    """What it was measured on; packages that are not installed are left out. `device` may be a GPU's name."""
    about = {
        "processor": f"{cpu_name()}, {usable_cores()} cores usable"
        + ("" if threads is None else f", {threads} threads used"),
        "device": device,
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
        "load average": f"{os.getloadavg()[0]:.1f}",
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }
    return about | {package: found for package in packages if (found := _version(package)) is not None}


def command_line(context: click.Context) -> str:
    """The command as it was given, without where to write: what repeats the benchmark."""
    given = [context.command_path]
    for parameter in context.command.params:
        name = parameter.name or ""
        if name == "out" or context.get_parameter_source(name) is not ParameterSource.COMMANDLINE:
            continue
        value = context.params[name]
        if isinstance(value, bool):
            given.append(parameter.opts[0] if value else parameter.secondary_opts[0])
            continue
        for each in value if isinstance(value, tuple) else (value,):
            given.append(f"{parameter.opts[0]} {each}")
    return " ".join(given)


def finish(report: Report, about_machine: dict[str, str], command: str, name: str, out: Path | None) -> None:
    """Print the report; with `out` also write `<date>-<name>.md` and `.json` there. An earlier day's stay."""
    day = datetime.now(UTC).date().isoformat()
    text = markdown(report, about_machine, command, day)
    click.echo(text, nl=False)
    if out is None:
        return
    out.mkdir(parents=True, exist_ok=True)
    content = as_json(report, about_machine, command, day)
    (out / f"{day}-{name}.md").write_text(text, encoding="utf-8")
    (out / f"{day}-{name}.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    click.echo(f"Written: {out / f'{day}-{name}'}.md and .json", err=True)


def markdown(report: Report, about_machine: dict[str, str], command: str, day: str) -> str:
    """The report for people."""
    lines = [f"# {report.title}, {day}", "", *_wrapped(report.about), "", "```sh", command, "```", ""]
    lines += [*_wrapped(_HOW), ""]
    for section in report.sections:
        lines += [f"## {section.title}", "", *_table(section.results), ""]
        for note in section.notes:
            lines += [*_wrapped(note), ""]
    lines += ["## Where we lose", "", *_losses(report.results), "", "## Machine", ""]
    return "\n".join([*lines, *(f"- {name}: {value}" for name, value in about_machine.items()), ""])


_HOW = (
    "Both sides ran on the same inputs in the same process, in turn; what they gave was compared before a time was "
    "taken. Times are medians, with the fastest and the slowest round; memory is the peak beyond what was resident "
    "before, in the first run."
)


def as_json(report: Report, about_machine: dict[str, str], command: str, day: str) -> dict[str, Any]:
    """The report for programs: seconds of every round, bytes, goals."""
    return {
        "title": report.title,
        "date": day,
        "command": command,
        "about": report.about,
        "machine": about_machine,
        "sections": [
            {
                "title": section.title,
                "results": [_result_json(result) for result in section.results],
                "notes": list(section.notes),
            }
            for section in report.sections
        ],
        **report.extra,
    }


def cpu_name() -> str:
    """The processor's model."""
    info = Path("/proc/cpuinfo")
    found = re.search(r"^model name\s*:\s*(.+)$", info.read_text(), re.MULTILINE) if info.exists() else None
    return found[1] if found else platform.processor() or "CPU"


_HEAD = (
    "what",
    "workbench",
    "spread",
    "peer",
    "its time",
    "spread",
    "times as fast",
    "memory, ours / its",
    "agree",
    "goal",
)


def _table(results: Sequence[Result]) -> list[str]:
    rule = "|".join([" --- "] * len(_HEAD))
    return [f"| {' | '.join(_HEAD)} |", f"|{rule}|", *(_row(result) for result in results)]


def _row(result: Result) -> str:
    case, theirs = result.case, result.theirs
    ratio = "" if result.ratio is None else f"**{result.ratio:.2f}**"
    memory = " / ".join(_mebibytes(side) for side in (result.ours, theirs) if side is not None)
    cells = [
        case.title,
        *_times(result.ours),
        case.peer,
        *(("", "") if theirs is None else _times(theirs)),
        ratio,
        memory,
    ]
    cells += ["" if theirs is None else case.agreement, "; ".join(_goals(result))]
    return "| " + " | ".join(cells) + " |"


def _times(side: Timings) -> tuple[str, str]:
    return _seconds(side.median), f"{_seconds(min(side.seconds))} to {_seconds(max(side.seconds))}"


def _seconds(value: float) -> str:
    return f"{value:.3g} s" if value >= 1 else f"{1000 * value:.3g} ms"


def _mebibytes(side: Timings) -> str:
    return "not known" if side.peak_bytes is None else f"{side.peak_bytes / 2**20:.0f} MiB"


def _goals(result: Result) -> list[str]:
    words = {True: "met", False: "MISSED", None: "not measured"}
    return [f"{goal.text}: {words[goal.reached(result)]}" for goal in result.case.goals]


def _losses(results: Sequence[Result]) -> list[str]:
    """A line for each case in which the peer is faster, and for each goal missed."""
    lines = [
        f"- {result.case.title}: {result.ratio:.2f} times as fast as {result.case.peer}, so slower."
        for result in results
        if result.ratio is not None and result.ratio < 1
    ]
    for result in results:
        lines += [
            f"- {result.case.title}: goal missed, {goal.text}; measured {_measured(result)}." for goal in result.missed
        ]
    return lines or ["Nowhere in this run: no peer was faster, and no goal was missed."]


def _measured(result: Result) -> str:
    parts = [_seconds(result.ours.median)]
    if result.ratio is not None:
        parts.append(f"{result.ratio:.2f}x")
    if result.memory_share is not None:
        parts.append(f"{result.memory_share:.2g} of its memory")
    if result.case.items > 1:
        parts.append(f"{result.case.items / result.ours.median:.3g} a second")
    return ", ".join(parts)


def _result_json(result: Result) -> dict[str, Any]:
    case = result.case
    return {
        "what": case.title,
        "peer": case.peer or None,
        "clock": case.clock,
        "items": case.items,
        "ours": _side_json(result.ours),
        "theirs": None if result.theirs is None else _side_json(result.theirs),
        "times_as_fast": result.ratio,
        "memory_share": result.memory_share,
        "agreement": None if result.theirs is None else case.agreement,
        "goals": [{"goal": goal.text, "met": goal.reached(result)} for goal in case.goals],
    }


def _side_json(side: Timings) -> dict[str, Any]:
    return {"median_seconds": side.median, "seconds": list(side.seconds), "peak_bytes": side.peak_bytes}


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, break_long_words=False, break_on_hyphens=False)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
