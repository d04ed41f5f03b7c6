"""docs/cookbook.md answers its questions as freshly made runs do."""

from pathlib import Path

import pytest

from tests.cookbook_document import DOCUMENT, answered, blocks

TEXT = DOCUMENT.read_text(encoding="utf-8")


# pycocotools' decode has not caught up with NumPy 2.
@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning")
def test_every_answer_is_that_of_freshly_made_runs(demo_folder: Path) -> None:
    assert answered(TEXT, demo_folder) == TEXT


def test_wrong_answers_are_put_right(tmp_path: Path) -> None:
    question = "```sql\nSELECT 1 + 1 AS sum, NULL::int AS nothing;\n```\n{}\nMore.\n\n```python\nprint(6 * 7)\n```\n{}"
    right = question.format("\n| sum | nothing |\n| --: | --: |\n| 2 |  |\n", "\n```text\n42\n```\n")
    wrong = question.format("\n| sum |\n| --- |\n| 3 |\n", "\n```text\n43\n44\n```\n")
    assert (
        answered(wrong, tmp_path) == answered(right, tmp_path) == answered(question.format("", ""), tmp_path) == right
    )


def test_it_asks_at_least_ten_questions_in_sql_and_some_in_python() -> None:
    assert TEXT.count("\n## ") - 5 >= 10
    assert len([block for block in blocks(TEXT, "sql") if block.startswith(("SELECT", "WITH"))]) >= 10
    python = "".join(blocks(TEXT, "python"))
    assert all(f"import {module}" in python for module in ("duckdb", "pandas", "polars"))
