"""The plots of a report, drawn by matplotlib, each an SVG element or None where there is nothing to plot."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from workbench.report.content import Confused, ErrorRow
from workbench.report.curves import PrecisionRecall, SizeSlice
from workbench.report.svg import PALETTE, chart_style, printable, to_svg
from workbench.report.thresholds import ThresholdCurve

Difference = tuple[str, float, float | None, float | None]
"""Name, value, and the ends of its interval."""

_INCH = 72  # SVG units of matplotlib: a chart of 5 inches is 360 units wide
MOST_CATEGORIES = 24  # of a confusion matrix: more could not be read
_VISIBLE = 0.005  # share of a row below which a cell stays empty
_NAME = 18  # characters of a category in a chart


def precision_recall_chart(curves: PrecisionRecall | None, name: str) -> str | None:
    """Mean precision at each recall, for a few IoU thresholds, each line named at its end."""
    if curves is None:
        return None
    with chart_style():
        figure, axes = _new(400, 270)
        for (iou, precision), color in zip(curves.precision.items(), ("accent", "accent2", "accent3"), strict=False):
            label = f"IoU {iou:g} (AP {100 * precision.mean():.1f})"
            axes.plot(100 * curves.recall, 100 * precision, color=PALETTE[color], linewidth=2, label=label)
        _percent_axes(axes, "Recall, %", "Precision, %")
        _legend_above(axes, 3)
        return to_svg(figure, name, "Precision over recall, mean of the categories, at several IoU thresholds")


def calibration_chart(calibration: Mapping[str, Any] | None, name: str) -> str | None:
    """Share of right predictions by score, the diagonal for comparison; larger dots hold more predictions."""
    bins = [each for each in (calibration or {}).get("bins", []) if each["n"]]
    if not bins:
        return None
    with chart_style():
        figure, axes = _new(400, 270)
        axes.plot([0, 100], [0, 100], color=PALETTE["muted"], linewidth=1, linestyle=(0, (4, 4)))
        score, precision = ([100 * each[key] for each in bins] for key in ("score", "precision"))
        share = np.array([each["n"] for each in bins]) / max(each["n"] for each in bins)
        axes.plot(score, precision, color=PALETTE["accent"], linewidth=2)
        axes.scatter(score, precision, s=20 + 100 * share, color=PALETTE["accent"], zorder=3, clip_on=False)
        _percent_axes(axes, "Score, %", "Right at IoU 0.5, %")
        return to_svg(figure, name, "Share of right predictions by score; on the diagonal scores mean what they say")


def threshold_chart(curve: ThresholdCurve | None, name: str) -> str | None:
    """The main number over the threshold, a dot at the run's own and at the best."""
    if curve is None:
        return None
    with chart_style():
        figure, axes = _new(400, 270)
        for (label, points), color in zip(curve.lines.items(), ("accent", "accent3"), strict=False):
            thresholds, values = zip(*points, strict=True)
            axes.plot(thresholds, [100 * value for value in values], color=PALETTE[color], linewidth=2, label=label)
        for label, point, color in (("now", curve.now, "ink"), ("best", curve.best, "accent2")):
            if point is not None:
                axes.scatter([point[0]], [100 * point[1]], s=50, color=PALETTE[color], zorder=3, label=label)
        axes.set(xlabel="Threshold", ylabel=f"{curve.main.upper()}, %")
        axes.tick_params(length=0)
        _legend_above(axes, 2)
        return to_svg(figure, name, f"{curve.main.upper()} over the threshold of the score")


def error_chart(errors: Sequence[ErrorRow], name: str) -> str | None:
    """How many segments have each error type, of predictions and ground truth; for instances the AP that it costs."""
    if not errors:
        return None
    if any(row.dap for row in errors):
        return _cost_chart(errors, name)
    with chart_style():
        figure, axes = _new(400, 54 + 40 * len(errors))
        rows = np.arange(len(errors))
        most = max(max(row.predictions, row.ground_truth) for row in errors)
        sides = (("Predictions", "predictions", "accent", -0.19), ("Ground truth", "ground_truth", "accent2", 0.19))
        for label, side, color, shift in sides:
            counts = [getattr(row, side) for row in errors]
            axes.barh(rows + shift, counts, 0.34, color=PALETTE[color], label=label)
            for row, count in enumerate(counts):
                if count:
                    _note(axes, count + most / 80, row + shift, str(count))
        axes.set_yticks(rows, [row.label for row in errors])
        axes.set_xlim(0, most * 1.12)
        axes.invert_yaxis()
        _bars_only(axes)
        _legend_above(axes, 2)
        return to_svg(figure, name, "Segments by error type, of the predictions and of the ground truth")


def _cost_chart(errors: Sequence[ErrorRow], name: str) -> str:
    """An instance run keeps a hundred detections an image: their number says little, their weight in AP does."""
    with chart_style():
        figure, axes = _new(400, 40 + 34 * len(errors))
        rows, costs = np.arange(len(errors)), [100 * (row.dap or 0.0) for row in errors]
        axes.barh(rows, costs, 0.5, color=PALETTE["accent"])
        for row, cost in enumerate(costs):
            _note(axes, max(cost, 0) + max(costs) / 80, row, f"{cost:.1f}")
        axes.set_yticks(rows, [row.label for row in errors])
        axes.set_xlim(min(0, *costs), max(costs) * 1.15)
        axes.invert_yaxis()
        _bars_only(axes)
        return to_svg(figure, name, "Points of AP50 that each error type costs")


def size_chart(sizes: Sequence[SizeSlice], name: str) -> str | None:
    """Share of the ground truth that is found, by area."""
    known = [(size, size.recall) for size in sizes if size.recall is not None]
    if not known:
        return None
    with chart_style():
        figure, axes = _new(400, 40 + 34 * len(known))
        rows = np.arange(len(known))
        axes.barh(rows, [100.0] * len(known), 0.5, color=PALETTE["line"], alpha=0.5)
        axes.barh(rows, [100 * recall for _, recall in known], 0.5, color=PALETTE["accent"])
        for row, (size, recall) in enumerate(known):
            _note(axes, 102, row, f"{100 * recall:.0f} % of {size.segments}")
        axes.set_yticks(rows, [f"{size.label} px" for size, _ in known])
        axes.set_xlim(0, 138)
        axes.invert_yaxis()
        _bars_only(axes)
        return to_svg(figure, name, "Share of ground-truth segments that are found, by area in pixels")


def confusion_chart(cells: Sequence[Confused], names: Mapping[int, str], name: str) -> str | None:
    """The matrix by rows of true categories, each row in per cent of its ground truth; the busiest categories."""
    if not cells:
        return None
    kept = busiest(cells, MOST_CATEGORIES)
    shares = _row_shares(cells, kept)
    labels = [_short(names.get(i, str(i))) if i is not None else "nothing" for i in kept]
    side = 150 + 22 * len(kept)
    with chart_style():
        from matplotlib.patches import Rectangle

        figure, axes = _new(side, side)
        axes.grid(visible=False)
        for row, column in zip(*np.nonzero(shares >= _VISIBLE), strict=True):
            share = float(shares[row, column])
            color = PALETTE["accent" if row == column else "accent2"]
            corner = (column - 0.47, row - 0.47)
            axes.add_patch(Rectangle(corner, 0.94, 0.94, facecolor=color, alpha=0.08 + 0.92 * share, linewidth=0))
            if len(kept) <= 16:
                ink = PALETTE["paper"] if share > 0.55 else PALETTE["ink"]
                _note(axes, column, row, f"{100 * share:.0f}", ha="center", color=ink, fontsize=9)
        axes.set(xlim=(-0.5, len(kept) - 0.5), ylim=(len(kept) - 0.5, -0.5), aspect="equal")
        axes.set_xticks(range(len(kept)), labels, rotation=90)
        axes.set_yticks(range(len(kept)), labels)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        axes.set(xlabel="Predicted", ylabel="Ground truth")
        return to_svg(figure, name, "Confusion matrix: rows are true categories, columns predicted ones, in per cent")


def difference_chart(rows: Sequence[Difference], name: str, label: str) -> str | None:
    """Differences with their intervals around a line at zero."""
    if not rows:
        return None
    with chart_style():
        figure, axes = _new(420, 60 + 24 * len(rows))
        positions = np.arange(len(rows))
        axes.axvline(0, color=PALETTE["muted"], linewidth=1)
        for position, (_, value, low, high) in zip(positions, rows, strict=True):
            sure = low is not None and high is not None and (low > 0 or high < 0)
            color = PALETTE["accent" if value >= 0 else "accent2"]
            if low is not None and high is not None:
                axes.plot([100 * low, 100 * high], [position] * 2, color=color, linewidth=2, alpha=1 if sure else 0.5)
            axes.scatter([100 * value], [position], s=36, color=color, alpha=1 if sure else 0.5, zorder=3)
        axes.set_yticks(positions, [_short(row[0]) for row in rows])
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.grid(visible=False, axis="y")
        axes.spines["left"].set_visible(False)
        axes.tick_params(length=0)
        axes.set_xlabel(label)
        return to_svg(figure, name, f"{label} by category, with intervals")


def busiest(cells: Sequence[Confused], count: int) -> list[int | None]:
    """The categories with most off the diagonal, ascending by id, and None where the matrix has cells of nothing."""
    off: dict[int, int] = {}
    for cell in cells:
        for i in (cell.gt_category_id, cell.pred_category_id):
            if i is not None:
                off[i] = off.get(i, 0) + (cell.count if cell.gt_category_id != cell.pred_category_id else 0)
    kept: list[int | None] = [*sorted(sorted(off, key=lambda i: (-off[i], i))[:count])]
    return [*kept, None] if any(None in (cell.gt_category_id, cell.pred_category_id) for cell in cells) else kept


def _row_shares(cells: Sequence[Confused], kept: Sequence[int | None]) -> Any:
    """(n, n), each row divided by all of its ground truth, that of categories which are not shown too."""
    position = {category_id: i for i, category_id in enumerate(kept)}
    matrix, totals = np.zeros((len(kept), len(kept))), np.zeros(len(kept))
    for cell in cells:
        row, column = position.get(cell.gt_category_id), position.get(cell.pred_category_id)
        if row is not None:
            totals[row] += cell.count
            if column is not None:
                matrix[row, column] += cell.count
    return matrix / np.maximum(totals, 1)[:, None]


def _new(width: int, height: int) -> tuple[Any, Any]:
    """A figure of that many SVG units and its axes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width / _INCH, height / _INCH), layout="constrained")
    return figure, figure.subplots()


def _percent_axes(axes: Any, x: str, y: str) -> None:
    axes.set(xlim=(0, 100), ylim=(0, 102), xlabel=x, ylabel=y)
    axes.tick_params(length=0)


def _legend_above(axes: Any, columns: int) -> None:
    style = {"handlelength": 1.2, "columnspacing": 1.4, "borderpad": 0.2, "handletextpad": 0.5}
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=columns, fontsize=10, **style)


def _bars_only(axes: Any) -> None:
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    axes.set_xticks([])


def _note(axes: Any, x: float, y: float, text: str, **style: Any) -> None:
    """Small text beside a bar."""
    axes.text(x, y, text, **{"va": "center_baseline", "fontsize": 10, "color": PALETTE["muted"], **style})


def _short(name: str) -> str:
    clean = printable(name)
    return clean if len(clean) <= _NAME else f"{clean[: _NAME - 1]}…"
