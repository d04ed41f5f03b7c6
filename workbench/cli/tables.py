"""Tables of numbers for the terminal: fractions in percent, counts as they are, a dash for what does not exist."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

HEADINGS = {"pq": "PQ", "sq": "SQ", "rq": "RQ", "n": "classes", "miou": "mIoU", "aacc": "aAcc", "macc": "mAcc"}


def table(title: str, columns: Sequence[str], rows: Sequence[tuple[str, Mapping[str, Any]]]) -> "Table":
    """A row a name, a column a key of its numbers."""
    from rich import box
    from rich.table import Table

    made = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    made.add_column("")
    for column in columns:
        made.add_column(HEADINGS.get(column, column), justify="right")
    for name, numbers in rows:
        made.add_row(name, *(shown(numbers[column]) for column in columns))
    return made


def shown(value: float | None) -> str:
    """One cell."""
    if value is None:
        return "-"
    return str(value) if isinstance(value, int) else f"{100 * value:.2f}"
