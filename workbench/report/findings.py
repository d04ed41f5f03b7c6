"""What to look at first: a few sentences that the numbers of a run support."""

from collections.abc import Iterator

from workbench.report.content import RunContent

_FEW = 3
_SURE = 0.5  # predictions of lower scores are not meant to be right
_NOTICEABLE_GAP = 0.05  # between score and precision


def findings(content: RunContent) -> tuple[str, ...]:
    """At most five sentences, the most useful first; only what was measured is spoken of."""
    return tuple(_findings(content))


def _findings(content: RunContent) -> Iterator[str]:
    if weak := _weakest(content):
        yield weak
    if content.errors:
        yield _commonest_error(content)
    if confused := _most_confused(content):
        yield confused
    if by_size := _sizes(content):
        yield by_size
    if calibration := _calibration(content):
        yield calibration


def _weakest(content: RunContent) -> str | None:
    known = [row for row in content.categories if row.main.value is not None]
    if len(known) <= _FEW:
        return None
    weakest = sorted(known, key=lambda row: (row.main.value or 0.0, row.category_id))[:_FEW]
    named = ", ".join(f"{row.name} ({100 * (row.main.value or 0.0):.1f})" for row in weakest)
    return f"Lowest {content.categories[0].main.label}: {named}."


def _commonest_error(content: RunContent) -> str:
    costly = max(content.errors, key=lambda row: row.dap or 0.0)
    if costly.dap:
        return f"Most AP50 is lost to {costly.label.lower()}: {100 * costly.dap:.1f} points, as TIDE counts."
    worst = max(content.errors, key=lambda row: max(row.predictions, row.ground_truth))
    count, side = max((worst.predictions, "predictions"), (worst.ground_truth, "ground-truth segments"))
    most = f", {worst.most[1]} of them {worst.most[0]}" if worst.most and worst.most[1] >= _FEW else ""
    return f"Most common error: {worst.label.lower()} ({count} {side}{most})."


def _most_confused(content: RunContent) -> str | None:
    names = content.category_names
    off = [
        cell
        for cell in content.confusion
        if cell.gt_category_id != cell.pred_category_id and None not in (cell.gt_category_id, cell.pred_category_id)
    ]
    most = max(off, key=lambda cell: cell.count, default=None)
    if most is None or most.count < _FEW:
        return None
    true, predicted = (names.get(i or 0, f"category {i}") for i in (most.gt_category_id, most.pred_category_id))
    return f"Most often confused: {true} taken for {predicted} ({most.count:,} {content.confusion_unit})."


def _sizes(content: RunContent) -> str | None:
    known = [(size, size.recall) for size in content.sizes if size.recall is not None]
    if len(known) < 2:
        return None
    (small, found_small), (large, found_large) = known[0], known[-1]
    return (
        f"Found: {100 * found_small:.0f} % of the {small.segments} segments with {small.label} pixels, "
        f"{100 * found_large:.0f} % of the {large.segments} with {large.label}."
    )


def _calibration(content: RunContent) -> str | None:
    bins = [each for each in (content.calibration or {}).get("bins", []) if each["n"] and each["low"] >= _SURE]
    total = sum(each["n"] for each in bins)
    if not total:
        return None
    score, right = (sum(each[key] * each["n"] for each in bins) / total for key in ("score", "precision"))
    if abs(score - right) < _NOTICEABLE_GAP:
        return None
    extent = "high" if score > right else "low"
    return (
        f"Scores above {_SURE:g} are too {extent}: {score:.2f} on average, "
        f"while {100 * right:.0f} % of those predictions are right."
    )
