"""What evaluating costs an image at 10,000, 100,000 and 1,000,000 images: behind `workbench bench scale-evaluate`.

Each evaluation runs in a process of its own, whose peak of resident memory is its own. Ground truth is converted
before. Every number of a size must be the same whoever counts, or nothing is reported.
"""

import json
import multiprocessing
import os
import resource
import tempfile
import textwrap
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from workbench import ground_truth
from workbench.bench.many_images import DETECTIONS, DISTINCT, SIZE_HW, ManyImages
from workbench.bench.measuring import same
from workbench.bench.reporting import machine
from workbench.evaluation.evaluation import evaluate
from workbench.evaluation.resampling import Bootstrap
from workbench.formats.base import Task
from workbench.runs import Run

Tell = Callable[[str], None]
PACKAGES = ("numpy", "numba", "pyarrow", "ray")
_NAME = "evaluate-scale"
_RESAMPLES = 100


@dataclass(frozen=True)
class Plan:
    """What is measured."""

    tasks: Sequence[Task]
    images: Sequence[int]
    """Ascending sizes of the data set."""
    processes: Sequence[int]
    """1: the local engine."""
    confidence: bool
    """Make intervals, too."""
    seed: int


@dataclass(frozen=True)
class Measured:
    """One evaluation."""

    task: Task
    images: int
    segments: int
    """Predicted."""
    processes: int
    seconds: float
    """By the clock; so whatever else the machine does counts."""
    cpu_seconds: float
    """Of all processes together."""
    peak_bytes: int
    """Resident, of the process that puts everything together."""
    worker_peak_bytes: int
    """Of the largest of the others; 0 without any."""
    written_bytes: int
    """What the evaluation keeps on disk."""

    @property
    def cpu_ms(self) -> float:
        """Milliseconds of the processor an image."""
        return 1000 * self.cpu_seconds / self.images


def benchmark(plan: Plan, command: str, out: Path | None, tell: Tell) -> None:
    """Measure and report. Raises Disagreement where engines give different numbers."""
    measured = []
    with tempfile.TemporaryDirectory() as folder:
        for task in plan.tasks:
            for count in plan.images:
                measured += _of_size(Path(folder), task, count, plan, tell)
    _finish(measured, plan, command, out)


def _of_size(folder: Path, task: Task, count: int, plan: Plan, tell: Tell) -> list[Measured]:
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory(dir=folder) as name:
        _in_another_process(_generate, Path(name), task, count, plan.seed)
        tell(f"{task}, {count} images: drawn and converted in {time.perf_counter() - begin:.0f} s")
        measured, first = [], None
        for processes in plan.processes:
            found, metrics = _in_another_process(_evaluate, Path(name), task, count, processes, plan)
            if first is not None:
                same(first, metrics, f"{task}, {count} images, {processes} processes")
            first = metrics
            measured.append(found)
            tell(f"  {_line(found)}")
        return measured


def _in_another_process(function: Callable[..., Any], *arguments: Any) -> Any:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_not_as_daemon, (function, *arguments))


def _not_as_daemon(function: Callable[..., Any], *arguments: Any) -> Any:
    multiprocessing.current_process()._config["daemon"] = False  # type: ignore[attr-defined]  # may have workers
    return function(*arguments)


def _dataset(folder: Path, task: Task, count: int, seed: int) -> ManyImages:
    os.environ["WORKBENCH_CACHE"] = str(folder / "cache")
    return ManyImages(folder, count, task, seed)


def _generate(folder: Path, task: Task, count: int, seed: int) -> None:
    dataset = _dataset(folder, task, count, seed)
    dataset.make_run()
    for each in dataset.tasks:
        ground_truth.load(dataset, each)


def _evaluate(folder: Path, task: Task, count: int, processes: int, plan: Plan) -> tuple[Measured, dict[str, Any]]:
    dataset = _dataset(folder, task, count, plan.seed)
    run = Run.open(folder / f"run-{task}-{count}")
    bootstrap = Bootstrap(resamples=_RESAMPLES) if plan.confidence else None
    begin, cpu = time.perf_counter(), time.process_time()
    metrics = dict(evaluate(run, dataset, bootstrap=bootstrap, processes=processes).metrics)
    seconds, cpu = time.perf_counter() - begin, time.process_time() - cpu
    workers, mine = resource.getrusage(resource.RUSAGE_CHILDREN), resource.getrusage(resource.RUSAGE_SELF)
    metrics["provenance"] = {**metrics["provenance"], "evaluated": None}
    found = Measured(
        task=task,
        images=count,
        segments=run.store.count_segments(),
        processes=processes,
        seconds=seconds,
        cpu_seconds=cpu + workers.ru_utime + workers.ru_stime,
        peak_bytes=mine.ru_maxrss * 1024,
        worker_peak_bytes=workers.ru_maxrss * 1024,
        written_bytes=sum(file.stat().st_size for file in run.path.glob("*.*")),
    )
    return found, metrics


def _line(measured: Measured) -> str:
    workers = f" and {measured.worker_peak_bytes / 2**20:.0f} MiB each" if measured.worker_peak_bytes else ""
    return (
        f"{measured.processes} process{'es' if measured.processes > 1 else ''}: {measured.cpu_ms:.3f} ms of CPU an "
        f"image, {1000 * measured.seconds / measured.images:.3f} ms by the clock, {measured.peak_bytes / 2**20:.0f} MiB"
        + workers
    )


def growth(measured: Sequence[Measured]) -> list[tuple[Measured, float]]:
    """For each evaluation but those of its task's smallest size, the bytes an image that memory has grown by."""
    found = []
    for each in measured:
        smallest = min(
            (one for one in measured if (one.task, one.processes) == (each.task, each.processes)),
            key=lambda one: one.images,
        )
        if smallest.images < each.images:
            found.append((each, (each.peak_bytes - smallest.peak_bytes) / (each.images - smallest.images)))
    return found


def _finish(measured: Sequence[Measured], plan: Plan, command: str, out: Path | None) -> None:
    day = datetime.now(UTC).date().isoformat()
    about = machine(PACKAGES)
    text = _markdown(measured, about, plan, command, day)
    click.echo(text, nl=False)
    if out is None:
        return
    out.mkdir(parents=True, exist_ok=True)
    grown = [{**asdict(each), "bytes_an_image": number} for each, number in growth(measured)]
    content = {
        "title": _TITLE,
        "date": day,
        "command": command,
        "machine": about,
        "seed": plan.seed,
        "size_hw": SIZE_HW,
        "evaluations": [asdict(each) for each in measured],
        "growth": grown,
    }
    (out / f"{day}-{_NAME}.md").write_text(text, encoding="utf-8")
    (out / f"{day}-{_NAME}.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    click.echo(f"Written: {out / f'{day}-{_NAME}'}.md and .json", err=True)


_TITLE = "Evaluation at scale"
_ABOUT = (
    f"Tables of images of {SIZE_HW[0]}x{SIZE_HW[1]} pixels, {DISTINCT} drawn ones in random order under new ids: "
    "small, so that what grows with the number of images shows. A panoptic run has some 11 segments an image and is "
    f"scored by PQ, mIoU, and AP of its things by mask and box; an instance run has {DETECTIONS} detections an image. "
    "Each evaluation ran in a process of its own, without conversion of ground truth; the numbers of a size were the "
    "same whoever counted. Memory is the peak of what is resident, of the process that puts everything together. "
    "Growth is over the smallest size of the same kind, by each image more."
)


def _markdown(measured: Sequence[Measured], about: dict[str, str], plan: Plan, command: str, day: str) -> str:
    lines = [f"# {_TITLE}, {day}", "", *textwrap.wrap(_ABOUT, 120), "", "```sh", command, "```", ""]
    lines += [
        "| task | images | predicted segments | processes | CPU ms an image | clock ms an image | peak memory | of a "
        "worker | grown by, an image | written an image |",
        "|" + " --- |" * 10,
    ]
    grown = {id(each): number for each, number in growth(measured)}
    for each in measured:
        more = grown.get(id(each))
        cells = [
            each.task,
            f"{each.images:,}",
            f"{each.segments:,}",
            each.processes,
            f"{each.cpu_ms:.3f}",
            f"{1000 * each.seconds / each.images:.3f}",
            f"{each.peak_bytes / 2**20:.0f} MiB",
            f"{each.worker_peak_bytes / 2**20:.0f} MiB" if each.worker_peak_bytes else "",
            "" if more is None else f"{more:.0f} B",
            f"{each.written_bytes / each.images:.0f} B",
        ]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    if plan.confidence:
        lines += ["", f"With intervals of {_RESAMPLES} resamples."]
    return "\n".join([*lines, "", "## Machine", "", *(f"- {name}: {value}" for name, value in about.items()), ""])
