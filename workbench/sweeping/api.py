"""`sweep`: how a run would score at other thresholds, kept in its folder; the model does not run again."""

import os
import shlex
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from workbench import catalog, runs
from workbench.errors import EvaluationError, RunError
from workbench.evaluation import agreement, keeping
from workbench.evaluation.compare import evaluated
from workbench.evaluation.evaluation import Progress, comparison_with, dataset_of, ground_truths, notes_on_dataset
from workbench.evaluation.passes import Comparison
from workbench.evaluation.resampling import Bootstrap
from workbench.files.replacing import new_file
from workbench.formats.base import Dataset
from workbench.runs import Run
from workbench.segments import write_parquet
from workbench.storage import plain_path
from workbench.sweeping import applying, settings
from workbench.sweeping.curve import Curve, Setting, curve_json
from workbench.sweeping.grid import Values
from workbench.sweeping.instance import best_by_category, sweep_instances
from workbench.sweeping.panoptic import sweep_panoptic

JSON, TABLE = "sweep.json", "sweep.parquet"


@dataclass(frozen=True)
class Sweep:
    """How a run would score at other thresholds."""

    run: Run
    report: Mapping[str, Any] = field(repr=False)
    """The content of sweep.json: see docs/evaluation.md."""
    table: pa.Table = field(repr=False)
    """The content of sweep.parquet: a row for each point, and for each point and category."""

    @property
    def best(self) -> Setting:
        """The point with the best main number."""
        return Setting(self.report["best"]["threshold"], self.report["best"].get("overlap_threshold"))

    def apply(self, out: str | os.PathLike[str], setting: Setting | None = None) -> Run:
        """A new run with the rows that `predict` would give at `setting` (None: the best). Raises RunError.

        The setting of a panoptic run needs both thresholds, the first not below the floor of its candidates.
        """
        return applying.apply(self.run, setting or self.best, Path(out))


def sweep(
    run: Run | str | os.PathLike[str] | None = None,
    thresholds: Values | None = None,
    overlaps: Values | None = None,
    *,
    dataset: Dataset | str | None = None,
    out: str | os.PathLike[str] | None = None,
    bootstrap: Bootstrap | None = None,
    progress: Progress | None = None,
) -> Sweep:
    """Score a run (None: the newest) at other thresholds; keep sweep.json and sweep.parquet in its folder, or in `out`.

    A panoptic run made with `keep_candidates` gives PQ for every threshold and overlap threshold, an instance run F1
    at IoU 0.5 for every threshold; both equal those of runs made with them. Thresholds are numbers, or text such as
    "0.1:0.95:0.05" or "0.5,0.8"; the run's own are always among them. `dataset` as in `evaluate`; `bootstrap` makes the
    interval of the gain.

    Raises RunError for a run without candidates and for a folder that cannot be written, OptionError for thresholds
    that the run cannot give, EvaluationError for a semantic run, for one without images, and where run and ground
    truth do not belong together.
    """
    opened = run if isinstance(run, Run) else Run.newest() if run is None else Run.open(run)
    _check(opened)
    truth = dataset_of(opened, dataset)
    bootstrap, progress = bootstrap or Bootstrap(), progress or (lambda what, done, total: None)
    if opened.task not in ground_truths(opened, truth):
        raise EvaluationError(
            f"{opened.path}: sweeping a {opened.task} run needs {opened.task} ground truth, which dataset "
            f"{truth.definition.name} does not have. Name another dataset with --dataset."
        )
    values, shares = settings.choose(opened, thresholds, overlaps)
    mode = "strict"
    if opened.task == "instance":
        mode = evaluated(opened, None if dataset is None else truth, progress)["mode"]
    comparison, images = comparison_with(opened, truth, opened.task, progress)
    curve = _curve(comparison, values, shares)
    own = settings.own_setting(opened)
    found = curve_json(curve, None if own is None else list(curve.settings).index(own), bootstrap)
    renamed = agreement.category_note(opened, truth.categories)
    about_data = [*notes_on_dataset(opened, truth, dataset), *([renamed] if renamed else []), *images.notes]
    table = _table(curve)
    report = {
        "run": str(opened.path),
        "task": opened.task,
        "mode": mode,
        "images": curve.images,
        **found,
        "notes": [*about_data, *found["notes"]],
        "provenance": keeping.provenance(opened, truth),
    }
    if opened.task == "instance":
        report["best_by_category"] = best_by_category(table)
    _keep(opened, plain_path(out) if out is not None else opened.path, report, table)
    return Sweep(opened, report, table)


def _curve(comparison: Comparison, thresholds: Sequence[float], overlaps: Sequence[float]) -> Curve:
    run = comparison.run
    if run.task == "instance":
        return sweep_instances(comparison, run.matches(), thresholds)
    store = run.candidate_store
    return sweep_panoptic(comparison, store, thresholds, overlaps)


def _check(run: Run) -> None:
    run.check_whole()
    if run.task == "semantic":
        raise EvaluationError(
            f"{run.path}: a semantic run has no threshold to choose: each pixel gets its best class. Sweep a "
            "panoptic or an instance run."
        )
    if not run.store.count_images():
        raise EvaluationError(f"{run.path}: it holds no image yet, so there is nothing to sweep.")
    if run.task == "panoptic" and "candidate_floor" not in run.manifest.get("identity", {}):
        raise RunError(
            f"{run.path}: it keeps no candidates, so only the model could say what other thresholds give. Make a run "
            f"that does: {_command(run)}"
        )


def _command(run: Run) -> str:
    model = run.manifest.get("provenance", {}).get("model", "MODEL")
    dataset = catalog.name_or_path(run.manifest["dataset"]["name"], Path(run.manifest["dataset"]["definition"]))
    command = ["workbench", "predict", "--dataset", dataset, "--model", str(model)]
    return shlex.join([*command, "--task", "panoptic", "--keep-candidates"])


def _table(curve: Curve) -> pa.Table:
    """Settings first, then `category_id`, `name`, `isthing` (null: all categories), then the numbers."""
    parts = []
    for point, setting in enumerate(curve.settings):
        whole = pa.Table.from_pylist([{"category_id": None, "name": None, "isthing": None, **curve.numbers(point)}])
        rows = pa.concat_tables([whole, curve.category_rows(point)], promote_options="permissive")
        for column, (name, value) in enumerate(vars(setting).items()):
            rows = rows.add_column(column, name, pa.array([value] * len(rows), pa.float64()))
        parts.append(rows)
    return pa.concat_tables(parts, promote_options="permissive")


def _keep(run: Run, folder: Path, report: Mapping[str, Any], table: pa.Table) -> None:
    """Write both files; sweep.json goes first and comes last, so that one that is there belongs to the table.

    The run is locked only where it is written to: with `--out` it may be read-only, or in use.
    """
    with runs.lock(run.path) if folder.resolve() == run.path.resolve() else nullcontext():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / JSON).unlink(missing_ok=True)
            with new_file(folder / TABLE) as partial:
                write_parquet(table, partial)
            runs.write_json(folder / JSON, report)
        except OSError as error:
            raise RunError(
                f"{folder}: cannot be written ({error.strerror}). Name another folder with --out."
            ) from error
