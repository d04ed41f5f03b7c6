"""PQ and the confusion of classes, against panopticapi on one core."""

import contextlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from workbench.bench.drawn_dataset import comparison
from workbench.bench.measuring import Case, Goal, measure, same, times, within
from workbench.bench.panoptic_scenes import CATEGORIES, PanopticScenes
from workbench.bench.reporting import Section
from workbench.bench.without_numba import no_compiled_code
from workbench.evaluation.evaluation import evaluate
from workbench.evaluation.panoptic import PanopticResult
from workbench.evaluation.passes import count_panoptic
from workbench.evaluation.semantic import SemanticResult
from workbench.runs import Run

Json = dict[str, Any]
PEER = "panopticapi, `pq_compute_single_core`"


def section(
    scenes: PanopticScenes,
    run: Run,
    official: tuple[list[tuple[Json, Json]], Path, Path],
    rounds: int,
    tell: Callable[[str], None],
) -> Section:
    """PQ and confusion with and without compiled code, and all of `workbench evaluate`."""

    def theirs() -> dict[str, Any]:
        return _panopticapi(*official)

    def ours() -> dict[str, Any]:
        return _numbers(*count_panoptic(comparison(scenes, run)))

    def without_compiled() -> dict[str, Any]:
        with no_compiled_code():
            return ours()

    def complete() -> dict[str, Any]:
        result = evaluate(run, scenes).scores
        assert result.panoptic is not None and result.semantic is not None
        return _numbers(result.panoptic, result.semantic)

    def against(title: str, run_ours: Callable[[], Json], *goals: Goal) -> Case:
        name = f"{title}, {scenes.distinct} images"
        return Case(name, run_ours, theirs, PEER, agree, _AGREEMENT, goals, items=scenes.distinct, clock="cpu")

    cases = [
        against("PQ and confusion", ours, times(40)),
        against("the same without numba", without_compiled, times(20)),
        against("all of `workbench evaluate`", complete),
    ]
    return Section("Panoptic quality", [measure(case, rounds, tell) for case in cases], _NOTES)


_AGREEMENT = "PQ, SQ, RQ of every class, bit for bit"
_NOTES = (
    "From Parquet: run and ground truth as `workbench predict` and the first evaluation leave them; panopticapi reads "
    "its PNGs and makes no confusion. Times against it are the processor's, on one core.",
)


def section_of_many(scenes: PanopticScenes, run: Run, rounds: int, tell: Callable[[str], None]) -> Section:
    """As many images as a validation set has: seconds of the clock, and of both threads' work."""
    title, goal = f"PQ and confusion, {scenes.count:,} images", [within(2 * scenes.count / 5000)]

    def run_once() -> None:
        count_panoptic(comparison(scenes, run))

    cases = [
        Case(f"{title}, two threads, by the clock", run_once, goals=goal, items=scenes.count),
        Case(f"{title}, work of both threads", run_once, clock="cpu", items=scenes.count),
    ]
    return Section("A validation set", [measure(case, rounds, tell) for case in cases], [_NOTE_OF_MANY])


_NOTE_OF_MANY = (
    "One thread reads while the other scores. By the clock only on a machine that does nothing else: compare the load "
    "average below with its cores."
)


def agree(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    """Bit for bit in what panopticapi gives; the confusion is ours alone."""
    same({key: ours[key] for key in theirs}, theirs)


def _panopticapi(pairs: list[Any], gt_folder: Any, pred_folder: Any) -> dict[str, Any]:
    from panopticapi.evaluation import pq_compute_single_core

    categories = {each.category_id: {"id": each.category_id, "isthing": int(each.isthing)} for each in CATEGORIES}
    with contextlib.redirect_stdout(io.StringIO()):
        stat = pq_compute_single_core(0, pairs, str(gt_folder), str(pred_folder), categories)
    means, per_class = stat.pq_average(categories, isthing=None)
    return {
        "pq": float(means["pq"]),
        "sq": float(means["sq"]),
        "rq": float(means["rq"]),
        "per_class": {key: (float(v["pq"]), float(v["sq"]), float(v["rq"])) for key, v in per_class.items()},
        "counts": {key: (stat[key].tp, stat[key].fp, stat[key].fn) for key in categories},
    }


def _numbers(result: PanopticResult, classes: SemanticResult | None) -> dict[str, Any]:
    mean = result.mean()
    ids = result.category_ids.tolist()
    qualities = [np.nan_to_num(values).tolist() for values in result.qualities()]
    counts = [values.tolist() for values in (result.tp, result.fp, result.fn)]
    return {
        "pq": mean.pq,
        "sq": mean.sq,
        "rq": mean.rq,
        "per_class": dict(zip(ids, zip(*qualities, strict=True), strict=True)),
        "counts": dict(zip(ids, zip(*counts, strict=True), strict=True)),
        "confusion": None if classes is None else classes.confusion,
    }
