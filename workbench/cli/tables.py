"""Tables of numbers for the terminal: fractions in percent, counts as they are, a dash for what does not exist."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

HEADINGS = {"pq": "PQ", "sq": "SQ", "rq": "RQ", "n": "classes", "miou": "mIoU", "aacc": "aAcc", "macc": "mAcc"}
_FEW = 6  # columns of numbers that fit with space around them


def table(title: str, columns: Sequence[str], rows: Sequence[tuple[str, Mapping[str, Any]]]) -> "Table":
    """A row a name, a column a key of its numbers."""
    made = new_table(title, [HEADINGS.get(column, column) for column in columns])
    for name, numbers in rows:
        made.add_row(name, *(shown(numbers[column]) for column in columns))
    return made


def new_table(title: str, headings: Sequence[str]) -> "Table":
    """A table without rows: a column of names, which wrap where the terminal is narrow, and columns that never do."""
    from rich import box
    from rich.table import Table

    padding = (0, 0) if len(headings) > _FEW else (0, 1)  # within 80 columns
    made = Table(
        title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, padding=padding, pad_edge=False
    )
    made.add_column("", overflow="fold")
    for heading in headings:
        made.add_column(heading, justify="right", no_wrap=True)
    return made


def shown(value: float | None) -> str:
    """One cell."""
    if value is None:
        return "-"
    return str(value) if isinstance(value, int) else f"{100 * value:.2f}"
