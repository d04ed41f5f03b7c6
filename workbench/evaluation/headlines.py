"""Short names for the headline numbers of metrics.json, one list for tables, intervals, comparisons and gates."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from workbench.errors import OptionError, did_you_mean
from workbench.evaluation.average_precision import SUMMARY
from workbench.evaluation.per_image import BOUNDARY

QUALITIES = ("pq", "sq", "rq")
MEANS = {"all": "", "things": "_things", "stuff": "_stuff"}
PIXELS = ("miou", "aacc", "macc", "miou_all_classes", "miou_in_gt")
PREFIXES = {"segm": "", "bbox": "bbox_", "boundary": "boundary_"}
"""Of each geometry: `AP` is that of masks, `bbox_AP` of boxes, `boundary_pq` of outlines."""

Path = tuple[str, ...]


def paths() -> dict[str, Path]:
    """Name -> where metrics.json has it, in the order in which tables show them."""
    return dict(_paths())


def _paths() -> Iterator[tuple[str, Path]]:
    for prefix, within in (("", ()), (PREFIXES["boundary"], ("boundary",))):
        for mean, suffix in MEANS.items():
            for quality in QUALITIES:
                yield f"{prefix}{quality}{suffix}", ("panoptic", *within, mean, quality)
    for geometry, prefix in PREFIXES.items():
        for name in SUMMARY:
            yield f"{prefix}{name}", ("instance", geometry, name)
    for name in PIXELS:
        yield name, ("semantic", name)
    yield f"{PREFIXES['boundary']}miou", ("semantic", "boundary", "miou")


def headlines(metrics: Mapping[str, Any]) -> dict[str, float | None]:
    """The headline numbers of what was scored, as fractions; None for one that does not exist in these data."""
    return {name: found[-1] for name, path in _paths() if (found := _follow(metrics, path))}


def main_headline(task: str, available: Iterable[str]) -> str:
    """The number that a run of that task is judged by. Raises OptionError where it has none."""
    preferred = {"panoptic": ("pq",), "instance": ("AP", "bbox_AP"), "semantic": ("miou",)}[task]
    known = list(available)
    for name in (*preferred, "AP", "bbox_AP", "miou"):
        if name in known:
            return name
    raise OptionError(f"a run of the task {task} has no headline number here. {did_you_mean(preferred[0], known)}")


def resolve(name: str, available: Iterable[str]) -> str:
    """The headline of that name, upper or lower case. Raises OptionError naming the nearest one."""
    known = list(available)
    found = {each.lower(): each for each in known}.get(name.lower())
    if found is None:
        raise OptionError(f"no metric {name!r} here. {did_you_mean(name, known)}")
    return found


def counted_names(task: str, geometry: str | None = None) -> tuple[str, ...]:
    """The names that one kind of stored counts gives: of `per_image.TASKS`, instances for one geometry."""
    if task == "instance":
        return tuple(f"{PREFIXES[geometry or 'segm']}{name}" for name in SUMMARY)
    if task == "semantic":
        return PIXELS
    prefix = PREFIXES["boundary"] if task.endswith(BOUNDARY) else ""
    return tuple(f"{prefix}{quality}{suffix}" for suffix in MEANS.values() for quality in QUALITIES)


def _follow(metrics: Mapping[str, Any], path: Path) -> tuple[float | None, ...]:
    """The value at the end of the path as a tuple of one, or an empty tuple where the path does not exist."""
    part: Any = metrics
    for key in path:
        if not isinstance(part, Mapping) or key not in part:
            return ()
        part = part[key]
    return (part,)
