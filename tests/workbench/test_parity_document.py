"""docs/parity.md must name tests that exist, one at least for every row."""

import re
from pathlib import Path

TESTS = Path(__file__).parent
ROWS = [
    line
    for line in (TESTS.parent.parent / "docs" / "parity.md").read_text(encoding="utf-8").splitlines()
    if re.match(r"\| [A-Z]+\d+ \|", line)
]


def test_every_row_names_tests_that_exist():
    defined = {
        name for path in TESTS.glob("test_*.py") for name in re.findall(r"^def (test_\w+)", path.read_text(), re.M)
    }
    assert len(ROWS) >= 27
    for row in ROWS:
        named = re.findall(r"`(test_\w+)`", row)
        assert set(named) <= defined, row
        assert named, row
