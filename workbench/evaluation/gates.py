"""Limits on headline numbers, so that a script can refuse a run that is worse than it should be."""

from collections.abc import Iterable, Mapping, Sequence

from workbench.errors import OptionError
from workbench.evaluation import headlines

Numbers = Mapping[str, float | None]


def parse(texts: Iterable[str], option: str) -> list[tuple[str | None, float]]:
    """`name=0.55` or `0.55` -> (headline name or None, fraction). Raises OptionError for anything else."""
    return [_parse(text, option) for text in texts]


def _parse(text: str, option: str) -> tuple[str | None, float]:
    name, _, number = text.rpartition("=")
    try:
        limit = float(number)
    except ValueError:
        raise OptionError(f"{option} {text}: {number!r} is no number. Write for instance {option} pq=0.55.") from None
    if not 0 <= limit <= 1:
        raise OptionError(f"{option} {text}: {number} is no fraction. Metrics run from 0 to 1: for 55 % write 0.55.")
    return headlines.resolve(name, headlines.paths()) if name else None, limit


def below(numbers: Numbers, limits: Sequence[tuple[str | None, float]]) -> list[str]:
    """A sentence for each number that is below its limit or does not exist.

    Raises OptionError for a limit without a name, and for a number that was not measured.
    """
    failed = []
    for name, limit in limits:
        if name is None:
            raise OptionError(f"--fail-below {limit:g}: of which metric? Write for instance --fail-below pq={limit:g}.")
        value = numbers[headlines.resolve(name, numbers)]
        if value is None:
            failed.append(f"{name} does not exist here, so it is not at least {limit:g}")
        elif value < limit:
            failed.append(f"{name} is {value:.4f}, below {limit:g}")
    return failed


def worse(first: Numbers, second: Numbers, limits: Sequence[tuple[str | None, float]], main: str) -> list[str]:
    """A sentence for each number of `second` that lies more than the limit below `first`'s; `main` where none is named.

    Raises OptionError for a number that was not measured.
    """
    failed = []
    for named, limit in limits:
        name = headlines.resolve(named or main, first)
        before, after = first[name], second[name]
        if before is not None and (after is None or before - after > limit):
            shown = "does not exist any more" if after is None else f"fell by {before - after:.4f} to {after:.4f}"
            failed.append(f"{name} {shown}, more than {limit:g}")
    return failed
