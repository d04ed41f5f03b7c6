"""Thresholds to try, as the user writes them: numbers and ranges, decimal as they look."""

from collections.abc import Sequence
from decimal import Decimal, InvalidOperation

from workbench.errors import OptionError

THRESHOLDS = "0.1:0.95:0.05"
OVERLAPS = "0.5:0.9:0.1"
Values = str | float | Sequence[float]
_MOST = 1000  # values: more is a slip of the step


def parse(text: Values, option: str) -> tuple[float, ...]:
    """Ascending values, each once: of `0.1:0.95:0.05` (both ends included), of `0.5,0.8`, of both mixed, of numbers.

    Steps are added as decimals, so that 0.1:0.9:0.1 holds 0.3 and not 0.30000000000000004. Raises OptionError for what
    is no number, lies outside 0..1, or has no value.
    """
    if isinstance(text, str):
        values = [float(value) for part in text.split(",") for value in _part(part.strip(), option)]
    else:
        values = [float(value) for value in ([text] if isinstance(text, int | float) else text)]
    outside = [value for value in values if not 0 <= value <= 1]
    if outside:
        raise OptionError(f"{option} {text}: {outside[0]:g} lies outside 0 to 1.")
    if not values:
        raise OptionError(f"{option}: no value is given. Write for instance {option} {THRESHOLDS}.")
    return tuple(sorted(set(values)))


def _part(part: str, option: str) -> list[Decimal]:
    """One number, or the numbers of one range."""
    try:
        numbers = [Decimal(number) for number in part.split(":")]
        if not all(number.is_finite() for number in numbers):
            raise InvalidOperation
    except InvalidOperation:
        raise OptionError(
            f"{option}: {part!r} is neither a number nor a range. Write for instance 0.5,0.8 or {THRESHOLDS} "
            "(first:last:step)."
        ) from None
    if len(numbers) == 1:
        return numbers
    if len(numbers) != 3 or numbers[2] <= 0 or numbers[1] < numbers[0]:
        raise OptionError(f"{option}: {part!r} is no range. Write first:last:step, for instance {THRESHOLDS}.")
    first, last, step = numbers
    count = int((last - first) / step) + 1
    if count > _MOST:
        raise OptionError(f"{option}: {part!r} has {count} values, more than {_MOST}. Take a larger step.")
    return [first + step * i for i in range(count)]
