"""`audit`: the labels of a run's ground truth ranked by how likely each is wrong, kept in the run's folder."""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from workbench.auditing import keeping
from workbench.auditing.gathering import Evidence, gather
from workbench.auditing.kinds import KINDS, Kind
from workbench.auditing.ranking import SUSPECT, rank, rank_images
from workbench.errors import EvaluationError, OptionError, did_you_mean
from workbench.evaluation.compare import evaluated
from workbench.evaluation.evaluation import Progress, dataset_of
from workbench.formats.base import Dataset, Task
from workbench.report.content import matched_task
from workbench.runs import Run

TOP = 50
"""How many suspects are shown unless told otherwise."""


@dataclass(frozen=True)
class Audit:
    """What a run says against the labels of its dataset."""

    run: Run
    dataset: Dataset = field(repr=False)
    task: Task
    """The ground truth whose labels were doubted."""
    table: pa.Table = field(repr=False)
    """The ranking, rows of `ranking.AUDIT_SCHEMA`."""
    images: pa.Table = field(repr=False)
    """The images, rows of `ranking.IMAGE_SCHEMA`."""
    summary: Mapping[str, Any] = field(repr=False)
    """The content of audit.json."""

    def top(self, count: int = TOP, kinds: Sequence[Kind] = ()) -> list[dict[str, Any]]:
        """The first rows of the ranking, of those kinds (none named: all). Raises OptionError for an unknown kind."""
        for kind in kinds:
            if kind not in KINDS:
                raise OptionError(f"no kind of label error {kind!r}. {did_you_mean(kind, KINDS)}")
        rows = self.table.slice(0, count).to_pylist() if not kinds else self.table.to_pylist()
        return [row for row in rows if not kinds or row["kind"] in kinds][:count]


def audit(
    run: Run | str | os.PathLike[str] | None = None,
    dataset: Dataset | str | None = None,
    progress: Progress | None = None,
) -> Audit:
    """Rank the labels that a run (None: the newest) was scored against by how likely each is wrong.

    Four kinds: missing, spurious, of the wrong class, with a bad outline; `suspicion.py` says how each is weighed. A
    run that is not evaluated yet is evaluated first. `dataset` (a name, the path of a definition, or a dataset) stands
    in for the one that the run was made with. Leaves audit.parquet, audit_images.parquet, audit.csv and audit.json in
    the run's folder; earlier ones are replaced.

    Raises EvaluationError for semantic runs, which have no objects to doubt, and where run and ground truth do not
    belong together; RunError and DatasetError where one of them cannot be used.
    """
    opened = run if isinstance(run, Run) else Run.newest() if run is None else Run.open(run)
    if opened.task == "semantic":
        raise EvaluationError(
            f"{opened.path}: audit doubts objects one by one, and a semantic run has none. Predict with --task "
            "panoptic or instance; the images with the lowest IoU are in `workbench report` and `workbench browse`."
        )
    truth = dataset_of(opened, dataset)
    show = progress or (lambda what, done, total: None)
    metrics = evaluated(opened, truth, show)
    task = matched_task(opened, metrics)
    evidence = gather(opened, truth, task, show)
    table = rank(evidence, truth.categories)
    images = rank_images(table)
    summary = {
        "version": keeping.VERSION,
        "task": task,
        "dataset": {"name": truth.definition.name, "fingerprint": truth.fingerprint()},
        "evaluated": metrics["provenance"]["evaluated"],
        "images": len(evidence.image_ids),
        "labels": len(evidence.labels.segment_id),
        "suspect_from": SUSPECT,
        "kinds": _by_kind(table),
        "notes": [*_notes_on_images(evidence, metrics["notes"]), *_notes_on_boxes(opened)],
    }
    keeping.keep(opened.path, table, images, summary)
    return Audit(opened, truth, task, table, images, summary)


def _notes_on_images(evidence: Evidence, of_evaluation: Sequence[str]) -> list[str]:
    """The evaluation's, but for images without predictions: it holds them against the run, an audit leaves them out."""
    notes = [note for note in of_evaluation if note not in evidence.lacking]
    if evidence.left_out:
        every = len(evidence.image_ids) + evidence.left_out
        notes.append(f"{evidence.left_out} of {every} images are left out: the run lacks them, or could not read them")
    return notes


def _notes_on_boxes(run: Run) -> list[str]:
    if "segm" in run.manifest.get("iou_types", ["segm"]):
        return []
    return ["boxes count as filled, so their IoU with a label says little of its outline"]


def _by_kind(table: pa.Table) -> dict[str, dict[str, int]]:
    kinds, suspicions = table["kind"].to_pylist(), table["suspicion"].to_pylist()
    ranked = Counter(kinds)
    suspects = Counter(kind for kind, suspicion in zip(kinds, suspicions, strict=True) if suspicion >= SUSPECT)
    return {kind: {"ranked": ranked[kind], "suspects": suspects[kind]} for kind in KINDS}
