"""The same report as Markdown, without pictures: for pull requests, chats and diffs."""

import re
from collections.abc import Iterable, Iterator, Sequence

from workbench.printable import printable
from workbench.report.comparison import Pair
from workbench.report.content import RunContent
from workbench.report.findings import findings
from workbench.report.page import interval, percent, sentence, shown, signed, subtitle
from workbench.report.words import label


def markdown(contents: Sequence[RunContent], pairs: Sequence[Pair] = ()) -> str:
    """Headline numbers, differences, categories, errors, provenance and commands."""
    parts = [line for pair in pairs for line in _pair(pair, contents[0])]
    for content in contents:
        parts.extend(_run(content))
    return printable("\n\n".join(parts) + "\n")


def escaped(text: str) -> str:
    """A name that Markdown, tables and HTML inside it leave alone, on one line."""
    one_line = " ".join(text.split())
    return re.sub(r"([\\`*_{}\[\]<>()#+!|~&$])", r"\\\1", one_line)


def _run(content: RunContent) -> Iterator[str]:
    yield f"# {escaped(content.name)}"
    yield f"{escaped(subtitle([content]))}. Numbers in per cent."
    yield from (f"> {escaped(sentence(note))}" for note in content.notes)
    yield "\n".join(f"- {escaped(finding)}" for finding in findings(content)) or "No findings."
    known = [number for number in content.numbers if number.value is not None]
    yield _table(("Number", "Value", "Interval"), ((n.label, percent(n.value), interval(n)) for n in known))
    yield "## Categories"
    columns = list(dict.fromkeys(name for row in content.categories for name in row.values))
    rows = ((row.name, interval(row.main), *(shown(row.values.get(c)) for c in columns)) for row in content.categories)
    yield _table(("Category", "Interval", *(label(column) for column in columns)), rows)
    if content.errors:
        yield "## Errors"
        errors = ((e.label, str(e.predictions), str(e.ground_truth), e.meaning) for e in content.errors)
        yield _table(("Type", "Predictions", "Ground truth", "Meaning"), errors)
    yield "## Provenance"
    yield _table(("", ""), content.facts.items())
    yield "\n".join(["```console", *(f"$ {' '.join(command.splitlines())}" for command in content.commands), "```"])
    if content.absent:
        yield _table(("Not in this report", "How to get it"), ((each.what, each.how) for each in content.absent))


def _pair(pair: Pair, first: RunContent) -> Iterator[str]:
    yield f"# {escaped(pair.name)} against {escaped(first.name)}"
    rows = (
        (label(name), percent(row["a"]), percent(row["b"]), signed(row["difference"]))
        for name, row in pair.report["headlines"].items()
        if row["difference"] is not None
    )
    yield _table(("Number", first.name, pair.name, "Difference"), rows)


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---", *["---:"] * (len(header) - 1)]]
    cells = [[escaped(cell) for cell in header], lines[1], *([escaped(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)
