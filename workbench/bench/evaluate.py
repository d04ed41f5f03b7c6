"""Every metric against its official tool, on data drawn from a seed: behind `workbench bench evaluate`."""

import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from unittest import mock

import pyarrow as pa

from workbench.bench import average_precision, boundary_quality, intervals, mean_iou, panoptic_quality
from workbench.bench.instance_scenes import InstanceScenes
from workbench.bench.panoptic_scenes import PanopticScenes
from workbench.bench.reporting import Report, Section, finish, machine
from workbench.runs import Run

Tell = Callable[[str], None]
PACKAGES = ("numpy", "numba", "pyarrow", "pycocotools", "panopticapi-lite", "opencv-python-headless", "pillow")
_BOUNDARY_SHARE = 6
"""Boundary PQ takes the peer so much longer that a sixth of the images is enough."""
_MOST_ROUNDS_OF_INTERVALS = 3


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    parts: Sequence[str]
    """Of `PARTS`."""
    images: int
    """Of the validation set that is timed by the clock."""
    distinct: int
    """Images that are drawn, and that the tools are given."""
    rounds: int
    seed: int


class _Data:
    """What the parts share, made when it is first asked for."""

    def __init__(self, folder: Path, plan: Plan) -> None:
        self.folder, self.plan = folder, plan
        self.scenes = PanopticScenes(folder / "scenes", plan.distinct, seed=plan.seed)

    @cached_property
    def run(self) -> Run:
        return self.scenes.make_run()

    @cached_property
    def many(self) -> tuple[PanopticScenes, Run]:
        scenes = self.scenes.repeated(self.plan.images)
        return scenes, scenes.make_run()


def _pq(data: _Data, tell: Tell) -> list[Section]:
    official, rounds = data.scenes.write_for_panopticapi(), data.plan.rounds
    return [
        panoptic_quality.section(data.scenes, data.run, official, rounds, tell),
        panoptic_quality.section_of_many(*data.many, rounds, tell),
    ]


def _miou(data: _Data, tell: Tell) -> list[Section]:
    return [mean_iou.section(data.scenes, data.run, data.plan.rounds, tell)]


def _boundary(data: _Data, tell: Tell) -> list[Section]:
    few = PanopticScenes(data.folder / "few", max(1, data.plan.distinct // _BOUNDARY_SHARE), seed=data.plan.seed)
    return [boundary_quality.section(few, few.make_run(), few.write_for_panopticapi(), data.plan.rounds, tell)]


def _intervals(data: _Data, tell: Tell) -> list[Section]:
    return [intervals.section(*data.many, min(data.plan.rounds, _MOST_ROUNDS_OF_INTERVALS), tell)]


def _ap(data: _Data, tell: Tell) -> list[Section]:
    scenes = InstanceScenes(data.folder / "instances", data.plan.distinct, data.plan.seed)
    return [average_precision.section(scenes, data.plan.rounds, tell)]


PARTS: dict[str, Callable[[_Data, Tell], list[Section]]] = {
    "pq": _pq,
    "miou": _miou,
    "boundary": _boundary,
    "ap": _ap,
    "intervals": _intervals,
}


def benchmark(plan: Plan, command: str, out: Path | None, tell: Tell) -> None:
    """Measure the parts and report. Raises Disagreement where a tool gives other numbers than we do."""
    threads = pa.cpu_count()
    with tempfile.TemporaryDirectory() as name, mock.patch.dict(os.environ, WORKBENCH_CACHE=str(Path(name) / "cache")):
        pa.set_cpu_count(1)  # pyarrow's own threads, which would decode columns side by side
        try:
            data = _Data(Path(name), plan)
            sections = [section for part in plan.parts for section in PARTS[part](data, tell)]
        finally:
            pa.set_cpu_count(threads)
    about = _about(plan)
    report = Report("Evaluation speed", about, sections, {"seed": plan.seed})
    name_of = "evaluate" if set(plan.parts) == set(PARTS) else "-".join(["evaluate", *plan.parts])
    finish(report, machine(PACKAGES), command, name_of, out)


def _about(plan: Plan) -> str:
    """What the parts that are measured were measured on."""
    drawn = [_PANOPTIC] if set(plan.parts) - {"ap"} else []
    drawn += [_INSTANCES] if "ap" in plan.parts else []
    return " ".join([f"Drawn from seed {plan.seed}, {plan.distinct} images:", " and ".join(drawn) + ".", _HOW])


_PANOPTIC = (
    "panoptic scenes of 480x640 pixels with 133 categories, some 12 segments an image on either side with about 850 "
    "characters of RLE each, crowds and void"
)
_INSTANCES = (
    "scenes of 480x640 pixels with 80 categories, some 7 objects an image, few of them crowds, and 30 to 100 "
    "detections with some 180 characters of RLE each"
)
_HOW = (
    "Ours reads Parquet, the tools their own files. Where a peer is named, seconds are the processor's work on one "
    "core, which other programs disturb less."
)
