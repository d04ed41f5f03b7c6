"""Bootstrap intervals of PQ and mIoU from the counts of every image."""

from collections.abc import Callable, Sequence
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc

from workbench.bench.drawn_dataset import comparison
from workbench.bench.measuring import Case, measure, within
from workbench.bench.panoptic_scenes import PanopticScenes
from workbench.bench.reporting import Section
from workbench.evaluation.bootstrap import sample
from workbench.evaluation.counted import Counted, CountedPanoptic, CountedSemantic
from workbench.evaluation.passes import Keeping, score_panoptic
from workbench.evaluation.resampling import Bootstrap
from workbench.runs import Run

_RESAMPLES = 1000


def section(scenes: PanopticScenes, run: Run, rounds: int, tell: Callable[[str], None]) -> Section:
    """1,000 resamples of all ids that the scenes are shown under."""
    cases = [
        Case(
            f"{name}, {_RESAMPLES:,} resamples of {scenes.count:,} images",
            partial(sample, [counted], Bootstrap(resamples=_RESAMPLES)),
            goals=[within(10)],
            clock="cpu",
        )
        for name, counted in _counted(scenes, run)
    ]
    return Section("Confidence intervals", [measure(case, rounds, tell) for case in cases], [_NOTE])


_NOTE = "From the counts in `per_image.parquet`: every headline number and every category. No official tool gives them."


def _counted(scenes: PanopticScenes, run: Run) -> Sequence[tuple[str, Counted]]:
    kept: list[pa.Table] = []
    compared = comparison(scenes, run)
    keep = Keeping(lambda rows: None, kept.append, lambda rows: None)
    score_panoptic(compared, keep, semantic_too=True)
    rows = pa.concat_tables(kept)
    of_task = {task: rows.filter(pc.equal(rows["task"], task)) for task in ("panoptic", "semantic")}
    images, ids = compared.image_ids, compared.category_ids
    return [
        ("PQ", CountedPanoptic.of(of_task["panoptic"], "panoptic", images, ids, compared.isthing)),
        ("mIoU", CountedSemantic.of(of_task["semantic"], images, ids)),
    ]
