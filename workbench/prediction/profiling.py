"""Where a prediction's time goes: seconds of each stage, how busy its threads were, and which of them limits the run.

Off, which is `Profile`, nothing is measured. On, which is `StageProfile`, the clock is read twice a stage. What a GPU
does is timed by marks in its own queue, so that nobody waits for it in order to measure it.
"""

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Protocol

READERS, MODEL_THREAD, WRITER = "readers", "model", "writer"
"""The threads that work side by side: several read, one runs the model, one makes segments and writes them."""
SIDE_QUEUE = "GPU, beside the model"


@dataclass(frozen=True)
class Stage:
    """One step of the work on an image."""

    name: str
    threads: str
    """Which of the threads do it."""
    waits: bool = False
    """Whether the thread is idle meanwhile."""
    queued: bool = False
    """Whether a GPU does it, where there is one: then its time is the GPU's."""
    gpu_only: bool = False
    """Whether there is nothing of it without a GPU."""


DECODE = Stage("read and decode", READERS)
PREPARE = Stage("resize and normalise", READERS)
PREPARE_ON_GPU = Stage("resize and normalise on the GPU", MODEL_THREAD, queued=True, gpu_only=True)
MODEL = Stage("model", MODEL_THREAD, queued=True)
POST_PROCESS_ON_GPU = Stage("post-process on the GPU", SIDE_QUEUE, queued=True, gpu_only=True)
POST_PROCESS = Stage("post-process", WRITER)
ENCODE = Stage("encode", WRITER)
WRITE = Stage("write", WRITER)
WAIT_FOR_IMAGES = Stage("model waits for images", MODEL_THREAD, waits=True)
WAIT_FOR_WRITER = Stage("model waits for the writer", MODEL_THREAD, waits=True)
WAIT_FOR_GPU = Stage("writer waits for the GPU", WRITER, waits=True, gpu_only=True)
STAGES = (
    DECODE,
    PREPARE,
    PREPARE_ON_GPU,
    MODEL,
    POST_PROCESS_ON_GPU,
    POST_PROCESS,
    ENCODE,
    WRITE,
    WAIT_FOR_IMAGES,
    WAIT_FOR_WRITER,
    WAIT_FOR_GPU,
)

_ADVICE = {
    READERS: "Reading limits the run: more --workers help while there are idle cores, smaller image files always.",
    MODEL_THREAD: "The model limits the run, as it should.",
    WRITER: "Post-processing and writing limit the run.",
}


class Profile:
    """Measures nothing."""

    def stage(self, stage: Stage) -> AbstractContextManager[None]:
        """`with profile.stage(MODEL): ...` in any thread."""
        return _NOTHING

    def start(self) -> None:
        """What is measured begins here."""

    def result(self, images: int, workers: int) -> dict[str, Any] | None:
        """What was measured, as JSON values; None where nothing was."""
        return None


_NOTHING = nullcontext()


class DeviceClock(Protocol):
    """Marks in a GPU's queue; see `streams.GpuClock`."""

    def mark(self) -> Any:
        """This point of the work that the calling thread has given to the GPU."""

    def passed(self, mark: Any) -> bool:
        """Whether the GPU has reached it."""

    def seconds(self, begin: Any, end: Any) -> float:
        """Between two marks."""


class StageProfile(Profile):
    """Adds up the seconds of each stage, less those of stages within it.

    With a GPU's `clock` a queued stage lasts from its first to its last operation there, and not as long as it takes to
    ask for them.
    """

    def __init__(self, clock: DeviceClock | None = None) -> None:
        self._seconds = dict.fromkeys(STAGES, 0.0)
        self._lock = threading.Lock()
        self._clock = clock
        self._queued: deque[tuple[Stage, Any, Any]] = deque()
        self._inner = threading.local()
        self._began = perf_counter()

    def start(self) -> None:
        """Forget what was measured so far, the time of loading a model for one."""
        with self._lock:
            self._seconds = dict.fromkeys(STAGES, 0.0)
            self._queued.clear()
        self._began = perf_counter()

    def stage(self, stage: Stage) -> AbstractContextManager[None]:
        """Time the block, whether it succeeds or not."""
        if stage.queued and self._clock is not None:
            return self._on_device(stage, self._clock)
        return _NOTHING if stage.gpu_only and self._clock is None else self._on_host(stage)

    @contextmanager
    def _on_host(self, stage: Stage) -> Iterator[None]:
        outside = getattr(self._inner, "seconds", 0.0)
        self._inner.seconds = 0.0
        began = perf_counter()
        try:
            yield
        finally:
            passed = perf_counter() - began
            with self._lock:
                self._seconds[stage] += passed - self._inner.seconds
            self._inner.seconds = outside + passed

    @contextmanager
    def _on_device(self, stage: Stage, clock: DeviceClock) -> Iterator[None]:
        begin = clock.mark()
        try:
            yield
        finally:
            with self._lock:
                self._queued.append((stage, begin, clock.mark()))
            self._add_passed()

    def _add_passed(self) -> None:
        """Count the queued stages that the GPU is done with."""
        with self._lock:
            for _ in range(len(self._queued)):
                stage, begin, end = self._queued.popleft()
                if self._clock is not None and self._clock.passed(end):
                    self._seconds[stage] += self._clock.seconds(begin, end)
                else:
                    self._queued.append((stage, begin, end))

    def result(self, images: int, workers: int) -> dict[str, Any]:
        """Of `images` images that `workers` threads read.

        `seconds` of the whole, `ms_per_image` of each stage, `busy`: the share of the time that each kind of thread
        worked (1 is all of the time, all of them), `limit`: the kind that worked the largest share.
        """
        self._add_passed()
        seconds = max(perf_counter() - self._began, 1e-9)
        threads = {READERS: workers, MODEL_THREAD: 1, WRITER: 1}
        with self._lock:
            spent = dict(self._seconds)
        busy = {
            kind: sum(spent[stage] for stage in STAGES if stage.threads == kind and not stage.waits) / seconds / count
            for kind, count in threads.items()
        }
        return {
            "images": images,
            "seconds": round(seconds, 3),
            "ms_per_image": {stage.name: round(1000 * spent[stage] / max(images, 1), 3) for stage in STAGES},
            "busy": {kind: round(share, 4) for kind, share in busy.items()},
            "limit": max(busy, key=lambda kind: busy[kind]),
        }


def as_text(result: dict[str, Any], workers: int) -> str:
    """Lines for people: each stage with its share of the work, then what limits the run."""
    per_image = result["ms_per_image"]
    shown = [stage for stage in STAGES if not stage.gpu_only or per_image[stage.name]]
    work = sum(per_image[stage.name] for stage in shown if not stage.waits) or 1.0
    lines = [
        f"Profile of {result['images']} images, {1000 * result['seconds'] / max(result['images'], 1):.1f} ms an image:"
    ]
    for stage in shown:
        share = "   waiting" if stage.waits else f"{per_image[stage.name] / work:10.1%}"
        lines.append(f"  {stage.name:<32}{per_image[stage.name]:10.1f} ms{share}")
    busy = result["busy"]
    if per_image[POST_PROCESS_ON_GPU.name]:
        beside = per_image[POST_PROCESS_ON_GPU.name] * result["images"] / 1000 / result["seconds"]
        lines.append(f"GPU: {busy[MODEL_THREAD]:.0%} of the time busy with the model, {beside:.0%} beside it.")
    lines.append(
        f"Busy: readers ({workers}) {busy[READERS]:.0%}, model {busy[MODEL_THREAD]:.0%}, writer {busy[WRITER]:.0%}. "
        + _ADVICE[result["limit"]]
    )
    return "\n".join(lines)
