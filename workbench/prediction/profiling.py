"""Where a prediction's time goes: seconds of each stage, how busy its threads were, and which of them limits the run.

Off, which is `Profile`, nothing is measured. On, which is `StageProfile`, the clock is read twice a stage.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from time import perf_counter
from typing import Any

READERS, MODEL_THREAD, WRITER = "readers", "model", "writer"
"""The threads that work side by side: several read, one runs the model, one makes segments and writes them."""


@dataclass(frozen=True)
class Stage:
    """One step of the work on an image."""

    name: str
    threads: str
    """Which of the threads do it."""
    waits: bool = False
    """Whether the thread is idle meanwhile."""


DECODE = Stage("read and decode", READERS)
PREPARE = Stage("resize and normalise", READERS)
MODEL = Stage("model", MODEL_THREAD)
POST_PROCESS = Stage("post-process", WRITER)
ENCODE = Stage("encode", WRITER)
WRITE = Stage("write", WRITER)
WAIT_FOR_IMAGES = Stage("model waits for images", MODEL_THREAD, waits=True)
WAIT_FOR_WRITER = Stage("model waits for the writer", MODEL_THREAD, waits=True)
STAGES = (DECODE, PREPARE, MODEL, POST_PROCESS, ENCODE, WRITE, WAIT_FOR_IMAGES, WAIT_FOR_WRITER)

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


class StageProfile(Profile):
    """Adds up the seconds of each stage.

    `synchronise` waits for a GPU: its work is then timed where it is asked for, not where its results are first read.
    """

    def __init__(self, synchronise: Callable[[], None] | None = None) -> None:
        self._seconds = dict.fromkeys(STAGES, 0.0)
        self._lock = threading.Lock()
        self._synchronise = synchronise
        self._began = perf_counter()

    def start(self) -> None:
        """Forget what was measured so far, the time of loading a model for one."""
        self._seconds = dict.fromkeys(STAGES, 0.0)
        self._began = perf_counter()

    @contextmanager
    def stage(self, stage: Stage) -> Iterator[None]:
        """Time the block, whether it succeeds or not."""
        began = perf_counter()
        try:
            yield
            if self._synchronise is not None and stage is MODEL:
                self._synchronise()
        finally:
            passed = perf_counter() - began
            with self._lock:
                self._seconds[stage] += passed

    def result(self, images: int, workers: int) -> dict[str, Any]:
        """Of `images` images that `workers` threads read.

        `seconds` of the whole, `ms_per_image` of each stage, `busy`: the share of the time that each kind of thread
        worked (1 is all of the time, all of them), `limit`: the kind that worked the largest share.
        """
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
    work = sum(per_image[stage.name] for stage in STAGES if not stage.waits) or 1.0
    lines = [
        f"Profile of {result['images']} images, {1000 * result['seconds'] / max(result['images'], 1):.1f} ms an image:"
    ]
    for stage in STAGES:
        share = "   waiting" if stage.waits else f"{per_image[stage.name] / work:10.1%}"
        lines.append(f"  {stage.name:<28}{per_image[stage.name]:10.1f} ms{share}")
    busy = result["busy"]
    lines.append(
        f"Busy: readers ({workers}) {busy[READERS]:.0%}, model {busy[MODEL_THREAD]:.0%}, writer {busy[WRITER]:.0%}. "
        + _ADVICE[result["limit"]]
    )
    return "\n".join(lines)
