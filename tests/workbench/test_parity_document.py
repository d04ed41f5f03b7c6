"""docs/parity.md must be what the ledger says, and every row of that must name tests that exist."""

import re
from pathlib import Path

from workbench.parity.checks import PACKAGES
from workbench.parity.ledger import document, ledger

TESTS = Path(__file__).parent.parent


def test_every_row_names_tests_that_exist():
    defined = {
        name for path in TESTS.rglob("test_*.py") for name in re.findall(r"^def (test_\w+)", path.read_text(), re.M)
    }
    rows = ledger()
    assert len(rows) >= 46
    for row in rows:
        assert row.tests, row.id
        assert set(row.tests) <= defined, row.id


def test_ids_are_unique_and_checks_are_known():
    rows = ledger()
    assert len({row.id for row in rows}) == len(rows)
    assert {row.check for row in rows} == {"", *PACKAGES}


def test_what_is_mended_says_so_in_a_test_of_corrected_mode():
    corrected = (TESTS / "workbench" / "test_evaluate_corrected.py").read_text()
    for row in ledger():
        if row.corrected and row.id != "PQ8":
            assert any(f"def {name}(" in corrected for name in row.tests), row.id


def test_the_page_is_the_ledgers():
    assert (TESTS.parent / "docs" / "parity.md").read_text(encoding="utf-8") == document()
