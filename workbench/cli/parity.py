"""`workbench parity`: our numbers against the official tools that are installed, and the list of their surprises."""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.table import Table

    from workbench.parity.checks import Check
    from workbench.parity.ledger import Row

_WIDTH = 140  # columns where stdout is no terminal


@click.command()
@click.option("--seed", default=0, help="Of what is done to the bundled scenes.")
@click.option("--json", "as_json", is_flag=True, help="Print the comparisons and the ledger as JSON.")
def parity(seed: int, as_json: bool) -> None:
    """Compare our numbers with those of the official tools that are installed: panopticapi, pycocotools, tidecv and
    transformers, on the bundled data.

    The bundled scenes get worn predictions, and annotations with every oddity at which the tools surprise; each tool
    and `workbench evaluate` score the same files. Then the ledger of docs/parity.md is printed with what came of each
    row. Exits with 1 if a number differs. What is not installed is left out, and said.

    \b
    workbench parity
    workbench parity --seed 7 --json
    """
    from workbench.parity.checks import run_checks
    from workbench.parity.ledger import ledger

    if seed < 0:
        raise click.UsageError(f"seed is {seed}; it is 0 or more.")
    outcome, rows = run_checks(seed), ledger()
    if as_json:
        click.echo(json.dumps(_report(outcome.checks, rows, outcome.oddities, seed), indent=2, ensure_ascii=False))
    else:
        _print(outcome.checks, rows, outcome.oddities)
    failed = [f"{check.oracle} ({check.what})" for check in outcome.checks if check.passed is False]
    if failed:
        raise click.ClickException(f"our numbers differ from those of {', '.join(failed)}.")


def _outcome_of(row: "Row", checks: "Sequence[Check]") -> str:
    """pass, FAIL or "not installed" as the comparison with the row's oracle; "tests" where it has none."""
    outcomes = [check.outcome for check in checks if check.oracle == row.check]
    if not outcomes:
        return "tests"
    return next((outcome for outcome in ("FAIL", "not installed") if outcome in outcomes), "pass")


def _report(checks: "Sequence[Check]", rows: "Sequence[Row]", oddities: Mapping[str, int], seed: int) -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "seed": seed,
        "passed": all(check.passed is not False for check in checks),
        "checks": [{**asdict(check), "outcome": check.outcome} for check in checks],
        "oddities": dict(oddities),
        "ledger": [{**asdict(row), "outcome": _outcome_of(row, checks)} for row in rows],
    }


def _print(checks: "Sequence[Check]", rows: "Sequence[Row]", oddities: Mapping[str, int]) -> None:
    from workbench.consoles import PrintableConsole

    console = PrintableConsole(width=None if sys.stdout.isatty() else _WIDTH)
    for table in _tables(checks, rows):
        console.print(table)
    click.echo(f"In the data: {', '.join(f'{count} {name}' for name, count in oddities.items())}.", err=True)


def _tables(checks: "Sequence[Check]", rows: "Sequence[Row]") -> Iterator["Table"]:
    found = _table("Comparisons", "tool", "version", "what", "numbers", "largest difference", "allowed", "outcome")
    for check in checks:
        allowed = f"{check.tolerance:g}" if check.tolerance else "0: bit-equal"
        numbers = (str(check.numbers), f"{check.difference:.2g}") if check.version else ("-", "-")
        found.add_row(check.oracle, check.version or "-", check.what, *numbers, allowed, check.outcome)
    yield found
    listed = _table("Ledger", "id", "what the tool does", "we, strict", "we, corrected", "outcome")
    for row in rows:
        listed.add_row(row.id, row.official, row.strict, row.corrected or "-", _outcome_of(row, checks))
    yield listed


def _table(title: str, *columns: str) -> "Table":
    from rich import box
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    for column in columns:
        table.add_column(column)
    return table
