"""Every metric against its official tool, on data drawn from a seed: behind `workbench bench evaluate`."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa

from workbench.bench import boundary_quality, intervals, mean_iou, panoptic_quality
from workbench.bench.panoptic_scenes import PanopticScenes
from workbench.bench.reporting import Report, finish, machine

PACKAGES = ("numpy", "numba", "pyarrow", "pycocotools", "panopticapi-lite", "opencv-python-headless", "pillow")
_BOUNDARY_SHARE = 6
"""Boundary PQ takes the peer so much longer that a sixth of the images is enough."""


def benchmark(
    images: int, distinct: int, rounds: int, seed: int, command: str, out: Path | None, tell: Callable[[str], None]
) -> None:
    """Measure all sections and report. Raises Disagreement where a tool gives other numbers than we do."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["WORKBENCH_CACHE"] = str(folder / "cache")
        # pyarrow counts a thread of its own for each core: on one core, what is read is read by one.
        pa.set_cpu_count(1)
        scenes = PanopticScenes(folder / "scenes", distinct, seed=seed)
        tell(f"Drawing {distinct} scenes")
        run, official = scenes.make_run(), scenes.write_for_panopticapi()
        many = scenes.repeated(images)
        many_run = many.make_run()
        few = PanopticScenes(folder / "few", max(1, distinct // _BOUNDARY_SHARE), seed=seed)
        sections = [
            panoptic_quality.section(scenes, run, official, rounds, tell),
            panoptic_quality.section_of_many(many, many_run, rounds, tell),
            mean_iou.section(scenes, run, rounds, tell),
            boundary_quality.section(few, few.make_run(), few.write_for_panopticapi(), rounds, tell),
            intervals.section(many, many_run, min(rounds, 3), tell),
        ]
    report = Report("Evaluation speed", _ABOUT.format(distinct=distinct, seed=seed), sections, {"seed": seed})
    finish(report, machine(PACKAGES, threads=1), command, "evaluate", out)


_ABOUT = (
    "{distinct} panoptic scenes drawn from seed {seed}: 480x640 pixels, 133 categories, some 12 segments an image on "
    "either side with about 850 characters of RLE each, crowds and void. Ours reads Parquet, the tools their own "
    "files. Where a peer is named, seconds are the processor's work on one core, which other programs disturb less."
)
