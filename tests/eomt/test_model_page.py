"""`docs/model.md` names tests that exist, and every test that it relies on by a full name."""

import ast
import re

import pytest

from tests.conftest import REPOSITORY

PAGE = (REPOSITORY / "docs" / "model.md").read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"`([\w/]+\.py)::(\w+)`", PAGE)))


def rows(heading: str) -> list[list[str]]:
    """The cells of the table below a heading, its own heading and rule left out."""
    section = PAGE.split(f"\n{heading}\n", 1)[1].split("\n#", 1)[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[2:]]


@pytest.mark.parametrize("file", sorted({file for file, _ in NAMED}))
def test_every_test_that_the_page_names_exists(file: str) -> None:
    tree = ast.parse((REPOSITORY / "tests" / file).read_text(encoding="utf-8"))
    defined = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    assert {name for other, name in NAMED if other == file} <= defined


@pytest.mark.parametrize("heading", ["## Known differences", "### Modelling", "### Image processing"])
def test_every_row_names_a_test_of_ours(heading: str) -> None:
    table = rows(heading)
    assert len(table) >= 7
    for cells in table:
        assert len(cells) == 3, cells
        assert re.search(r"`[\w/]+\.py::test_\w+`", cells[2]), cells
