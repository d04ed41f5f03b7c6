"""How many planted label errors `workbench audit` ranks among the first: the bundled model against worn copies.

Behind `workbench bench audit`. The images are predicted once; each seed plants other errors into the labels
(`planting.py`), and the same run is audited against each copy.
"""

import json
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import mean
from typing import Any

import click
import numpy as np
import pycocotools.mask as coco_mask

from workbench.auditing.api import Audit, audit
from workbench.auditing.kinds import KINDS, Kind
from workbench.auditing.ranking import SUSPECT
from workbench.bench.planting import Planted, WornCopy, plant
from workbench.bench.reporting import machine
from workbench.catalog import built_in_folder, read
from workbench.errors import OptionError
from workbench.formats import open_dataset
from workbench.prediction.api import predict
from workbench.runs import Run

BUNDLED = "the bundled sample"
_MODEL = "eomt_scenes_panoptic"
_SAME_OBJECT_IOU = 0.5
Json = dict[str, Any]


@dataclass(frozen=True)
class Place:
    """Where a planted error stands in the ranking."""

    planted: Planted
    rank: int | None
    """Of its label, or of a missing label there (IoU of 0.5 or more); None where the ranking does not have it."""
    named: Kind | None
    """The kind that the ranking takes it for."""


@dataclass(frozen=True)
class Outcome:
    """What became of one copy's planted errors."""

    scenes: str
    task: str
    seed: int
    labels: int
    """Labels of the copy that can be doubted."""
    first: int
    """How many ranks count as the first of the ranking."""
    places: tuple[Place, ...]
    suspects: int
    """Rows with a suspicion of 0.5 or more."""

    def found(self, kind: str | None = None) -> int:
        """Planted errors among the first, of a kind or of all."""
        return sum(place.rank is not None and place.rank <= self.first for place in self._of(kind))

    def planted(self, kind: str | None = None) -> int:
        """Planted errors, of a kind or of all."""
        return len(self._of(kind))

    @property
    def share(self) -> float:
        """Of the planted errors, those among the first."""
        return self.found() / self.planted()

    @property
    def named(self) -> int:
        """Of those found, how many under their own kind."""
        among = (place for place in self.places if place.rank is not None and place.rank <= self.first)
        return sum(place.named == place.planted.kind for place in among)

    @property
    def true_suspects(self) -> int:
        """Suspects that were planted."""
        return sum(place.rank is not None and place.rank <= self.suspects for place in self.places)

    def _of(self, kind: str | None) -> list[Place]:
        return [place for place in self.places if kind is None or place.planted.kind == kind]


def outcome(found: Audit, worn: WornCopy, scenes: str, seed: int, share: float = 0.1) -> Outcome:
    """Count the planted errors within the first `share` x labels ranks. Of instances, stuff is left out: no label."""
    things = {category.category_id for category in found.dataset.categories if category.isthing}
    counted = [each for each in worn.planted if found.task == "panoptic" or each.category_id in things]
    labels = found.summary["labels"]
    suspects = sum(suspicion >= SUSPECT for suspicion in found.table["suspicion"].to_pylist())
    places = tuple(_places(found, counted))
    return Outcome(scenes, found.task, seed, labels, round(share * labels), places, suspects)


def _places(found: Audit, planted: Sequence[Planted]) -> Iterator[Place]:
    rows = found.table.to_pylist()
    of_label = {(row["image_id"], row["source_id"]): row for row in rows if row["source_id"] is not None}
    masks = {(row["image_id"], row["segment_id"]): row for row in found.run.segments().to_pylist()}
    missing = [row for row in rows if row["kind"] == "missing"]
    for each in planted:
        if each.source_id is not None:
            row = of_label.get((each.image_id, each.source_id))
        else:
            there = (row for row in missing if row["image_id"] == each.image_id)
            row = next(
                (
                    row
                    for row in there
                    if _iou(masks[row["image_id"], row["pred_segment_id"]], each) >= _SAME_OBJECT_IOU
                ),
                None,
            )
        yield Place(each, row and row["rank"], row and row["kind"])


def _iou(segment: Json, each: Planted) -> float:
    predicted = {"size": [segment["height"], segment["width"]], "counts": segment["counts"]}
    removed = {"size": list(each.size_hw), "counts": each.counts.encode()}
    return float(coco_mask.iou([predicted], [removed], [0])[0, 0])


def audit_copies(
    run: Run, source: Path, folder: Path, rate: float, seeds: Sequence[int], scenes: str = BUNDLED
) -> list[Outcome]:
    """Plant, audit and count for each seed; the copies go below `folder`, the audits into the run's folder."""
    found = []
    for seed in seeds:
        worn = plant(source, folder / f"{scenes}-{seed}".replace(" ", "-"), rate, seed)
        found.append(outcome(audit(run, open_dataset(read(worn.definition))), worn, scenes, seed))
    return found


def benchmark(
    rate: float,
    seeds: Sequence[int],
    series: Sequence[int],
    command: str,
    out: Path | None,
    tell: Callable[[str], None],
) -> None:
    """Audit worn copies of the bundled sample, of further series of scenes, and report; with `out` write it there."""
    from workbench.sample.writing import make_dataset

    if not seeds:
        raise OptionError("no seed to plant with: name one with --seed.")
    outcomes: list[Outcome] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sources = {BUNDLED: built_in_folder() / "scenes_val.toml"}
        for number in series:
            sources[f"scenes of seed {number}"] = make_dataset(folder / f"scenes-{number}", 60, number)[0]
        for scenes, source in sources.items():
            for task in ("panoptic", "instance") if scenes == BUNDLED else ("panoptic",):
                tell(f"{scenes}: {task}")
                target = folder / f"{scenes}-{task}".replace(" ", "-")
                run = predict(source, model=_MODEL, task=task, out=target / "run", progress=False)
                share = rate if task == "panoptic" else rate * _share_of_things(source)
                outcomes += audit_copies(run, source, target, share, seeds, scenes)
    write_report(outcomes, rate, command, out)


def _share_of_things(source: Path) -> float:
    """Of the labels that are no crowd."""
    tables = [table for table, _ in open_dataset(read(source)).ground_truth("panoptic")]
    labels = [row for table in tables for row in table.select(["segment_id", "isthing", "iscrowd"]).to_pylist()]
    counted = [row["isthing"] for row in labels if row["segment_id"] and not row["iscrowd"]]
    return float(np.mean(counted))


def write_report(outcomes: Sequence[Outcome], rate: float, command: str, out: Path | None) -> None:
    """Print the report; with `out` also write `<date>-audit.md` and `.json` there."""
    day = datetime.now(UTC).date().isoformat()
    about = machine(("torch", "numpy", "pyarrow", "pycocotools"))
    text = markdown(outcomes, rate, command, day, about)
    click.echo(text, nl=False)
    if out is None:
        return
    out.mkdir(parents=True, exist_ok=True)
    content = {
        "date": day,
        "command": command,
        "rate": rate,
        "machine": about,
        "outcomes": [_json(o) for o in outcomes],
    }
    (out / f"{day}-audit.md").write_text(text, encoding="utf-8")
    (out / f"{day}-audit.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    click.echo(f"Written: {out / f'{day}-audit'}.md and .json", err=True)


def markdown(outcomes: Sequence[Outcome], rate: float, command: str, day: str, about: dict[str, str]) -> str:
    """The report for people."""
    lines = [f"# Planted label errors that `workbench audit` finds, {day}", "", "```sh", command, "```", "", _HOW, ""]
    for key in dict.fromkeys((each.scenes, each.task) for each in outcomes):
        chosen = [each for each in outcomes if (each.scenes, each.task) == key]
        lines += [f"## {key[0][0].upper()}{key[0][1:]}, {key[1]} run", "", *_table(chosen), ""]
    lines += ["## Errors that were not found", "", *_lost(outcomes), "", "## Machine", ""]
    lines = [line.replace("RATE", f"{100 * rate:g} %") for line in lines]
    return "\n".join([*lines, *(f"- {name}: {value}" for name, value in about.items()), ""])


_HOW = """RATE of the labels are made wrong, in equal parts by leaving one out, making one up, giving one another class,
and moving one by a quarter to a half of its box (`workbench/bench/planting.py`). Found is what stands among the
first 10 % of the ranking, counted in labels: with 400 labels, the first 40 ranks. A label that was left out is
found where a missing label is ranked there whose prediction has an IoU of 0.5 or more with it. "Kind right": of
those found, how many under their own kind. "Suspects": rows with a suspicion of 0.5 or more, and how many of
them were planted; the others are errors of the model, or of the labels as they were. An instance run is audited
against things alone, so the same share of those is planted; stuff that is given another class counts nowhere
there. The seeds and scenes that the command takes by default were not looked at while the audit was built."""


def _table(outcomes: Sequence[Outcome]) -> list[str]:
    head = ["seed", "labels", "found", "share", *KINDS, "kind right", "suspects, of them planted"]
    lines = [f"| {' | '.join(head)} |", "|" + " --- |" * len(head)]
    for each in outcomes:
        kinds = [f"{each.found(kind)} of {each.planted(kind)}" for kind in KINDS]
        cells = [each.seed, each.labels, f"{each.found()} of {each.planted()}", _percent(each.share), *kinds]
        cells += [f"{each.named} of {each.found()}", f"{each.suspects}, {each.true_suspects}"]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    shares = [each.share for each in outcomes]
    sums = [f"{_sum(outcomes, 'found', kind)} of {_sum(outcomes, 'planted', kind)}" for kind in KINDS]
    total = f"{_sum(outcomes, 'found')} of {_sum(outcomes, 'planted')}"
    lines.append(f"| **all** | | {total} | **{_percent(mean(shares))}**, worst {_percent(min(shares))} | ")
    lines[-1] += " | ".join(sums) + " | | |"
    return lines


def _lost(outcomes: Sequence[Outcome]) -> list[str]:
    """By kind, how many stand nowhere in the ranking and how many too late."""
    nowhere, late = Counter[str](), Counter[str]()
    for each in outcomes:
        for place in each.places:
            if place.rank is None:
                nowhere[place.planted.kind] += 1
            elif place.rank > each.first:
                late[place.planted.kind] += 1
    return [
        f"- {kind}: {nowhere[kind]} that the run says nothing about, {late[kind]} ranked too late" for kind in KINDS
    ]


def _json(each: Outcome) -> Json:
    return {
        "scenes": each.scenes,
        "task": each.task,
        "seed": each.seed,
        "labels": each.labels,
        "first": each.first,
        "found": {kind: each.found(kind) for kind in KINDS},
        "planted": {kind: each.planted(kind) for kind in KINDS},
        "kind_right": each.named,
        "suspects": each.suspects,
        "planted_suspects": each.true_suspects,
        "ranks": [[place.planted.kind, place.rank] for place in each.places],
    }


def _sum(outcomes: Sequence[Outcome], what: str, kind: str | None = None) -> int:
    return sum(getattr(each, what)(kind) for each in outcomes)


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
