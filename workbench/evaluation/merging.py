"""Putting together what was counted of consecutive images: counts add up, rows follow one another in order."""

from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from functools import reduce
from operator import add
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

Part = TypeVar("Part")


def merged(parts: Sequence[Part]) -> Part:
    """One part with all that several (at least one, in the order of their images) hold.

    Arrays and Arrow tables are joined; what can be added is added, and these are integers, so that the order of adding
    moves no bit; dictionaries and dataclasses are merged by key and field. Sums of floats depend on their order: parts
    hold the single terms, and the sum is taken once, of all of them.
    """
    found: Part = _merged(parts)
    return found


def _merged(parts: Sequence[Any]) -> Any:
    first = parts[0]
    if first is None or len(parts) == 1:
        return first
    if isinstance(first, np.ndarray):
        return np.concatenate(parts)
    if isinstance(first, pa.Table):
        return pa.concat_tables(parts)
    if isinstance(first, dict):
        return {key: _merged([part[key] for part in parts]) for key in first}
    if is_dataclass(first) and not hasattr(first, "__add__"):
        record: Any = type(first)
        return record(**{field.name: _merged([getattr(part, field.name) for part in parts]) for field in fields(first)})
    return reduce(add, parts)
