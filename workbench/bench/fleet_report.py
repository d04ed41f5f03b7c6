"""The formula against the simulation, fleet by fleet, and what the simulation shows beyond it.

Behind `workbench bench fleet`; docs/scale.md shows the committed report.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import mean
from typing import Any

import click

from workbench.bench.fleet import Fleet, estimate
from workbench.bench.fleet_simulation import Outcome, Simulation
from workbench.bench.reporting import machine


@dataclass(frozen=True)
class Scenario:
    """A fleet with its work."""

    name: str
    fleet: Fleet
    images: int


@dataclass(frozen=True)
class Compared:
    """A scenario as the formula has it, and as the mean of several simulations."""

    name: str
    images: int
    fleet: dict[str, Any]
    seeds: int
    formula_seconds: float
    """With as many deaths of the driver as were simulated."""
    seconds: float
    fewest_seconds: float
    most_seconds: float
    difference: float
    """Of the formula, as a share of the simulations' mean."""
    utilisation: float
    driver_busy: float
    lost: float
    """The share of the workers' busy time whose rows were not committed."""
    worker_failures: float
    node_failures: float
    driver_deaths: float
    retried: float
    limit: str


def scenarios(cpu: Fleet, gpu: Fleet, images: int) -> list[Scenario]:
    """A thousand CPU workers as they are and under worse luck; how far they may run ahead; GPUs until a driver is full.

    `cpu` has a thousand workers; `gpu` is the same run's with any number. The GPUs get ten times the images.
    """
    calm = replace(cpu, stragglers=0.0, worker_mtbf_hours=1e9, node_mtbf_hours=1e9, driver_mtbf_hours=1e9)
    bad = replace(cpu, worker_mtbf_hours=2.4, node_mtbf_hours=72.0)
    of_cpus = {
        "nothing fails": calm,
        "as assumed": cpu,
        "workers and nodes fail ten times as often": bad,
        "the driver dies every hour": replace(cpu, driver_mtbf_hours=1.0),
    }
    of_cpus |= {f"window of {each}": replace(cpu, window=each) for each in (2, 4, 16)}
    of_gpus = {f"{each:,} GPUs": replace(gpu, workers=each) for each in (8, 32, 64, 1000)}
    return [
        *(Scenario(f"{cpu.workers:,} CPU workers, {name}", fleet, images) for name, fleet in of_cpus.items()),
        *(Scenario(name, fleet, 10 * images) for name, fleet in of_gpus.items()),
    ]


def compare(scenario: Scenario, seeds: int) -> Compared:
    """Play a scenario with the seeds 0, 1, ..."""
    fleet = scenario.fleet
    batches = -(-scenario.images // fleet.batch_images)
    played = [Simulation(fleet, batches, seed).run() for seed in range(seeds)]
    seconds = [outcome.seconds for outcome in played]
    of = _mean_of(played)
    deaths = of(lambda outcome: outcome.driver_deaths)  # so rare that chance, not the formula, would be compared
    told = estimate(fleet, scenario.images, deaths)
    lost = of(lambda outcome: outcome.lost_with_workers + outcome.lost_with_driver)
    return Compared(
        scenario.name,
        scenario.images,
        asdict(fleet),
        seeds,
        told.seconds,
        mean(seconds),
        min(seconds),
        max(seconds),
        told.seconds / mean(seconds) - 1,
        of(lambda outcome: outcome.utilisation(fleet)),
        of(lambda outcome: outcome.driver_busy / outcome.seconds),
        lost / (lost + of(lambda outcome: outcome.useful)),
        of(lambda outcome: outcome.worker_failures),
        of(lambda outcome: outcome.node_failures),
        deaths,
        of(lambda outcome: outcome.retried),
        told.limit,
    )


def _mean_of(played: Sequence[Outcome]) -> Callable[[Callable[[Outcome], float]], float]:
    return lambda of: mean(of(outcome) for outcome in played)


def benchmark(
    chosen: Sequence[Scenario], seeds: int, command: str, out: Path | None, tell: Callable[[str], None]
) -> None:
    """Play all scenarios and print the table; with `out` also write `<date>-fleet.md` and `.json` there."""
    rows = []
    for scenario in chosen:
        rows.append(asdict(compare(scenario, seeds)))
        tell(f"{scenario.name}: formula {100 * rows[-1]['difference']:+.1f} %")
    day = datetime.now(UTC).date().isoformat()
    about = machine(())
    text = f"# A fleet by formula and by simulation, {day}\n\n```sh\n{command}\n```\n\n{table(rows)}\n{_assumed(rows)}"
    click.echo(text, nl=False)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        (out / f"{day}-fleet.md").write_text(text, encoding="utf-8")
        content = {"date": day, "command": command, "machine": about, "scenarios": rows}
        (out / f"{day}-fleet.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


_HEAD = (
    *("fleet", "images", "simulated", "formula", "off by", "useful", "lost", "driver busy"),
    "died: workers, nodes, drivers",
)


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Scenarios as Markdown, from a report's JSON."""
    lines = [f"| {' | '.join(_HEAD)} |\n", "| --- |" + " --: |" * (len(_HEAD) - 1) + "\n"]
    for row in rows:
        failures = ", ".join(f"{row[name]:.3g}" for name in ("worker_failures", "node_failures", "driver_deaths"))
        lines.append(
            f"| {row['name']} | {row['images']:,} | {row['seconds']:,.0f} s | {row['formula_seconds']:,.0f} s "
            f"| {100 * row['difference']:+.1f} % | {100 * row['utilisation']:.1f} % | {100 * row['lost']:.2f} % "
            f"| {100 * row['driver_busy']:.0f} % | {failures} |\n"
        )
    return "".join(lines)


def _assumed(rows: Sequence[Mapping[str, Any]]) -> str:
    """The inputs of each scenario, where they differ from the first one's."""
    first = rows[0]["fleet"]
    lines = [f"The first: {', '.join(f'{key} {value}' for key, value in first.items())}.\n"]
    for row in rows[1:]:
        changed = {key: value for key, value in row["fleet"].items() if value != first[key]}
        lines.append(f"- {row['name']}: {', '.join(f'{key} {value}' for key, value in changed.items())}\n")
    return "\n" + lines[0] + "\n" + "".join(lines[1:])
