"""Writes the answers into docs/cookbook.md by running what it shows: `python -m tests.cookbook_document`.

After a block of SQL that asks stands what it gives, as a Markdown table; after one of Python what it prints.
"""

import contextlib
import io
import re
import shlex
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.types as types
from click.testing import CliRunner

from workbench.cli import main

DOCUMENT = Path(__file__).parents[1] / "docs" / "cookbook.md"
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```\n", re.DOTALL | re.MULTILINE)
# What this module writes after a block: a table, or a block of text.
_ANSWER = re.compile(r"\n(?:(?:\|.*\n)+|```text\n(?s:.*?)^```\n)", re.MULTILINE)


def blocks(text: str, language: str) -> list[str]:
    """The document's blocks in a language."""
    return [found[2] for found in _BLOCK.finditer(text) if found[1] == language]


def run_commands(text: str, folder: Path) -> None:
    """Run the document's commands with `folder` as the current one."""
    with contextlib.chdir(folder):
        for line in "".join(blocks(text, "console")).splitlines():
            arguments = shlex.split(line.removeprefix("$ "))[1:]
            result = CliRunner().invoke(main, arguments)
            if result.exit_code:
                raise RuntimeError(f"{line}: {result.output}") from result.exception


def answered(text: str, folder: Path) -> str:
    """The document with every answer as `folder`, where its commands have been run, gives it."""
    with contextlib.chdir(folder), duckdb.connect() as connection:
        return "".join(_pieces(text, connection))


def _pieces(text: str, connection: duckdb.DuckDBPyConnection) -> Iterator[str]:
    names: dict[str, Any] = {}
    end = 0
    for block in _BLOCK.finditer(text):
        if block.start() < end:
            continue  # an earlier answer
        yield text[end : block.end()]
        end = block.end()
        if block[1] not in ("sql", "python"):
            continue
        answer = _sql(block[2], connection) if block[1] == "sql" else _python(block[2], names)
        if answer:
            yield "\n" + answer
            earlier = _ANSWER.match(text, end)
            end = earlier.end() if earlier else end
    yield text[end:]


def _sql(query: str, connection: duckdb.DuckDBPyConnection) -> str:
    result = connection.sql(query)
    return "" if query.startswith("CREATE") or result is None else _markdown(result.to_arrow_table())


def _python(code: str, names: dict[str, Any]) -> str:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, str(DOCUMENT), "exec"), names)
    return f"```text\n{printed.getvalue()}```\n" if printed.getvalue() else ""


def _markdown(table: pa.Table) -> str:
    numbers = [types.is_integer(field.type) or types.is_floating(field.type) for field in table.schema]
    rows = [[_cell(value) for value in row.values()] for row in table.to_pylist()]
    marks = ["--:" if number else "---" for number in numbers]
    return "".join(_row(cells) for cells in [table.column_names, marks, *rows])


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |\n"


def _cell(value: Any) -> str:
    return "" if value is None else str(value)


if __name__ == "__main__":
    document = DOCUMENT.read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as place:
        run_commands(document, Path(place))
        DOCUMENT.write_text(answered(document, Path(place)), encoding="utf-8")
