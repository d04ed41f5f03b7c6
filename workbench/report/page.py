"""Contents to one HTML page: everything inside it, every name escaped, and a policy that lets nothing else in."""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from itertools import groupby
from typing import Any

import workbench
from workbench.evaluation.headlines import PREFIXES, paths
from workbench.printable import printable
from workbench.report import charts
from workbench.report.comparison import SHOWN, Pair
from workbench.report.content import Number, RunContent
from workbench.report.findings import findings
from workbench.report.galleries import Gallery
from workbench.report.thresholds import ThresholdCurve
from workbench.report.words import label

_BESIDE_MAIN = ("sq", "rq", "pq_things", "pq_stuff", "AP", "AP50", "AP75", "bbox_AP", "miou", "aacc", "macc")
_MOST_HEADLINES = 6


@dataclass(frozen=True)
class Chart:
    """A plot with what to read from it. `svg` is markup."""

    title: str
    svg: Any
    about: str


@dataclass(frozen=True)
class Column:
    """Of the table of categories."""

    name: str
    label: str


@dataclass(frozen=True)
class RunPart:
    """One run as the template takes it. `id` goes before the ids of its sections."""

    id: str
    content: RunContent
    galleries: Sequence[Gallery]
    charts: Sequence[Chart]

    @property
    def headline(self) -> list[Number]:
        """The main number and the few that belong beside it."""
        by_name = {number.name: number for number in self.content.numbers if number.value is not None}
        beside = [by_name[name] for name in _BESIDE_MAIN if name in by_name and name != self.content.main.name]
        return [self.content.main, *beside][:_MOST_HEADLINES]

    @property
    def numbers(self) -> list[list[Number]]:
        """Those that exist, in a list for each part of metrics.json."""
        known = [number for number in self.content.numbers if number.value is not None]
        return [list(group) for _, group in groupby(known, _part)]

    @property
    def columns(self) -> list[Column]:
        """Of the table of categories, the main number first."""
        names = list(dict.fromkeys(name for row in self.content.categories for name in row.values))
        return [Column(name, label(name)) for name in names] or [Column("", "")]

    @property
    def findings(self) -> tuple[str, ...]:
        """What to look at first."""
        return findings(self.content)


def page(contents: Sequence[tuple[RunContent, Sequence[Gallery]]], pairs: Sequence[Pair] = ()) -> str:
    """The HTML of a report on one run, or on several and their differences from the first."""
    from markupsafe import Markup

    runs = [
        RunPart(f"run-{i}", content, galleries, _charts(content, f"run-{i}", Markup))
        for i, (content, galleries) in enumerate(contents, start=1)
    ]
    return rendered(
        "report.html.j2",
        title=title(contents),
        subtitle=subtitle([content for content, _ in contents]),
        runs=runs,
        pairs=[_pair(pair, i, Markup) for i, pair in enumerate(pairs, start=1)],
    )


def rendered(template: str, **content: Any) -> str:
    """A page of the template, with our style sheet, script and policy, and `content` escaped wherever it is text."""
    import jinja2
    from markupsafe import Markup

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("workbench.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        percent=percent, interval=interval, shown=shown, blank=blank, signed=signed, sentence=sentence
    )
    css, script = (_text(name) for name in ("report.css", "report.js"))
    page = environment.get_template(template).render(
        policy=policy(css, script),
        css=Markup(css),  # our own files: escaping would break them, and their hashes
        script=Markup(script),
        version=workbench.__version__,
        **content,
    )
    return printable(page)


def policy(css: str, script: str) -> str:
    """A content security policy: this style sheet, this script, pictures from the page itself, nothing else."""
    return (
        f"default-src 'none'; style-src {_hash(css)}; script-src {_hash(script)}; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def title(contents: Sequence[tuple[RunContent, Sequence[Gallery]]]) -> str:
    """Of the page."""
    names = [content.name for content, _ in contents]
    return names[0] if len(names) == 1 else f"{len(names)} runs on {contents[0][0].dataset}"


def subtitle(contents: Sequence[RunContent]) -> str:
    """What was scored on what."""
    first = contents[0]
    model = f" by {first.facts['Model']}" if "Model" in first.facts and len(contents) == 1 else ""
    return f"{first.task.capitalize()} segmentation of {first.images:,} images of {first.dataset}{model}"


def percent(value: float | None) -> str:
    """A fraction in per cent, a dash for none."""
    return "–" if value is None else f"{100 * value:.1f}"


def signed(value: float | None) -> str:
    """A difference of fractions, in points."""
    return "–" if value is None else f"{100 * value:+.1f}"


def interval(number: Number) -> str:
    """Both ends in per cent; nothing without an interval."""
    return "" if number.low is None else f"{percent(number.low)} to {percent(number.high)}"


def shown(value: float | int | None) -> str:
    """Counts as they are, fractions in per cent."""
    return f"{value:,}" if isinstance(value, int) else percent(value)


def blank(value: float | int | None) -> str:
    """What a table sorts by."""
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)


def sentence(text: str) -> str:
    """With a capital and a full stop."""
    return f"{text[:1].upper()}{text[1:]}" + ("" if text.endswith(".") else ".")


def _charts(content: RunContent, name: str, markup: Any) -> list[Chart]:
    """Those that there is something to plot for."""
    ece = 100 * (content.calibration or {}).get("ece", 0.0)
    geometry = {"segm": "masks", "bbox": "boxes"}[content.curves.geometry] if content.curves else ""
    drawn = (
        ("Errors", charts.error_chart(content.errors, f"{name}-errors"), _about_errors(content)),
        (
            "Confusion",
            charts.confusion_chart(content.confusion, content.category_names, f"{name}-confusion"),
            _about_confusion(content),
        ),
        (
            "Found, by size",
            charts.size_chart(content.sizes, f"{name}-sizes"),
            "Share of the ground truth that a prediction matches at IoU 0.5, by area.",
        ),
        (
            "Precision and recall",
            charts.precision_recall_chart(content.curves, f"{name}-curves"),
            f"Of {geometry}, as pycocotools computes them, mean of the categories that have ground truth.",
        ),
        (
            "Calibration",
            charts.calibration_chart(content.calibration, f"{name}-calibration"),
            f"On the dashed line scores mean what they say. Expected calibration error: {ece:.1f} %.",
        ),
        (
            "Thresholds",
            charts.threshold_chart(content.thresholds, f"{name}-thresholds"),
            _about_thresholds(content.thresholds),
        ),
    )
    return [Chart(heading, markup(svg), about) for heading, svg, about in drawn if svg is not None]


def _about_errors(content: RunContent) -> str:
    if any(row.dap for row in content.errors):
        return "Points of AP50 that would be won without errors of the type, as TIDE counts them."
    return "Every prediction and every segment of the ground truth has one type; examples are shown below."


def _about_thresholds(curve: ThresholdCurve | None) -> str:
    if curve is None or curve.held_out is None:
        return "The best is chosen on the images that it is scored on: on others it is worth less."
    return (
        "The best is chosen on the images that it is scored on. Chosen on four fifths of them and scored on the fifth, "
        f"in turn: {percent(curve.held_out)} %."
    )


def _about_confusion(content: RunContent) -> str:
    about = f"Each row is a true category, in per cent of its {content.confusion_unit}; below 0.5 % left empty."
    if any(None in (cell.gt_category_id, cell.pred_category_id) for cell in content.confusion):
        about += " “nothing”: no counterpart on the other side."
    if len(content.categories) > charts.MOST_CATEGORIES:
        about += f" Shown are the {charts.MOST_CATEGORIES} categories that are confused most."
    return about


def _pair(pair: Pair, index: int, markup: Any) -> Mapping[str, Any]:
    """A comparison as the template takes it."""
    svg = charts.difference_chart(pair.moved(), f"pair-{index}", f"{label(pair.counted)}, points")
    numbers = [
        {"label": label(name), **row, "interval": _signed_interval(row), "sure": _is_sure(row)}
        for name, row in pair.report["headlines"].items()
        if row["difference"] is not None and _is_headline(name)
    ]
    return {"pair": pair, "svg": markup(svg) if svg else None, "numbers": numbers, "notes": pair.notes}


def _part(number: Number) -> tuple[str, ...]:
    """Where metrics.json has it: under a task, AP under its geometry."""
    path = paths()[number.name]
    return path[:2] if path[0] == "instance" else path[:1]


def _is_headline(name: str) -> bool:
    return name in _BESIDE_MAIN or name == "pq" or name in (f"{PREFIXES['boundary']}pq", f"{PREFIXES['boundary']}AP")


def _signed_interval(row: Mapping[str, Any]) -> str:
    ends = row["interval"]
    return "" if ends is None else f"{signed(ends['low'])} to {signed(ends['high'])}"


def _is_sure(row: Mapping[str, Any]) -> bool:
    ends = row["interval"]
    return ends is not None and (ends["low"] > 0 or ends["high"] < 0) and abs(row["difference"]) >= SHOWN


def _text(name: str) -> str:
    return files("workbench.report").joinpath("templates", name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode('ascii')}'"
