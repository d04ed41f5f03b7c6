"""`workbench.train`: learn a dataset from a checkpoint, a backbone or random weights, and go on where it stopped."""

import os
import shlex
import sys
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.errors import OptionError
from workbench.storage import plain_path
from workbench.training import checkpoints, folder
from workbench.training.distributed import Processes, processes
from workbench.training.history import JSON_LINES, read_entries
from workbench.training.loop import Loop
from workbench.training.options import TrainOptions
from workbench.training.plan import TrainingPlan, make_plan
from workbench.training.progress import TrainingProgress, on_stderr
from workbench.training.start import StartOptions


@dataclass(frozen=True)
class Training:
    """A training on disk."""

    path: Path

    @property
    def last(self) -> Path:
        """The newest checkpoint."""
        return self.path / checkpoints.LAST

    @property
    def best(self) -> Path:
        """The checkpoint that scored highest in validation; the newest one where there was none."""
        best = self.path / checkpoints.BEST
        return best if best.is_dir() else self.last

    @property
    def history(self) -> list[dict[str, Any]]:
        """The curve: the lines of history.jsonl."""
        return read_entries(self.path / JSON_LINES)

    def summary(self) -> dict[str, Any]:
        """JSON values: path, status, steps, checkpoint, and the best validation's metric, value and step (or null)."""
        manifest = folder.read(self.path) or {}
        scored = [entry for entry in self.history if "metric" in entry]
        best: Mapping[str, Any] = max(scored, key=lambda entry: entry["value"], default={})
        return {
            "path": str(self.path),
            "status": manifest.get("status"),
            "task": manifest.get("task"),
            "steps": manifest.get("steps"),
            "checkpoint": str(self.best),
            **{name: best.get(name) for name in ("metric", "value", "step")},
        }


def train(
    dataset: str | os.PathLike[str],
    *,
    val: str | os.PathLike[str] | None = None,
    start_from: str | os.PathLike[str] | None = None,
    size: str | None = None,
    config: str | os.PathLike[str] | None = None,
    image_size: int | tuple[int, int] | None = None,
    points: int | None = None,
    out: str | os.PathLike[str] | None = None,
    device: str = "auto",
    workers: int | None = None,
    resume: bool = True,
    progress: TrainingProgress | bool = True,
    **options: Any,
) -> Training:
    """Train an EoMT on a dataset and return the training, whose `best` is the checkpoint to use.

    Args:
        dataset: the name of a dataset, or the path of its TOML file.
        val: the same of the data to validate on; without it there is no `best`, only `last`.
        start_from: a checkpoint (hub id, folder, bundled name) or a DINOv2-with-registers or DINOv3 backbone. Classes
            that the dataset shares with a checkpoint, by name, keep their weights; the others start anew.
        size: instead, random weights in a published architecture: "s", "b", "l" or "g".
        config: instead, random weights in the architecture of a config.json.
        image_size: of the input in pixels, where it is not the checkpoint's or the size's own: the edge of a square, or
            (height, width), the height at most the width.
        points: at how many points the loss compares masks; fewer are quicker on a CPU.
        out: the folder. By default the first of trainings/<dataset>-<task>-<start>[-2, ...] that is free or holds this
            very training, so that the same call resumes.
        device: "auto", "cpu", "cuda", "cuda:N".
        workers: processes that prepare images; by default none on a CPU, else one a core, at most 8.
        resume: go on with an incomplete training of the same identity; a complete one is returned as it is.
        progress: True tells stderr, False nothing.
        options: the fields of `workbench.training.options.TrainOptions`:
            task ("panoptic", "instance", "semantic"; the first that the dataset has), steps or epochs (12), batch_size
            (of a pass of one process; 16 a step in all), accumulate (passes of a step), lr, lr_end (share of it that is
            left at the end), betas (of AdamW), weight_decay, layer_decay, clip_norm, warmup (steps of the heads', the
            backbone's in proportion), annealing (START, END: shares of the training between which masked attention
            goes), dense_weight and dense_until (of `eomt.dense_supervision`, and the share of the training after which
            it is gone), ema (decay of the average of the weights that is then saved), augmentation ("original" or
            "none"), scale (LOW, HIGH of its jitter), dtype ("auto", "float32", "bfloat16"), gradient_checkpointing,
            seed, and eval_every, eval_limit, save_every, log_every (steps, images of a validation, steps, steps).

    Raises:
        WorkbenchError, EomtError: the dataset, the start, an option or the folder cannot be used, and why.
        Interrupted: Ctrl-C or SIGTERM; the state is saved. It is a KeyboardInterrupt.
    """
    start = StartOptions(_text(start_from), size, _text(config), image_size, points)
    try:
        wanted = TrainOptions(start, **options)
    except TypeError as error:
        raise OptionError(f"train: {error}.") from error
    if workers is not None and workers < 0:
        raise OptionError(f"--workers is {workers}; it must be at least 0.")
    with processes(device) as group, _shown(progress, group) as shown:
        plan = make_plan(os.fspath(dataset), _text(val), wanted, group, workers)
        path = _folder(plan, None if out is None else plain_path(out), resume)
        with folder.lock(path) if group.first else nullcontext():
            _train_in(path, plan, resume, shown)
    return Training(path)


def _train_in(path: Path, plan: TrainingPlan, resume: bool, shown: TrainingProgress) -> None:
    group = plan.processes
    complete = group.from_first(folder.begin(path, folder.manifest(plan, _command()), resume) if group.first else False)
    if complete:
        shown.note(f"{path} is complete already; nothing to do. --no-resume trains anew.")
        return
    _announce(plan, path, shown)
    Loop(plan, path, shown).run()
    if group.first:
        folder.finish(path)


def _announce(plan: TrainingPlan, path: Path, shown: TrainingProgress) -> None:
    shown.note(f"{plan.describe()}, into {path}")
    shown.note(plan.start.head.describe())
    without = plan.annotations.images_in_all - len(plan.annotations)
    if without:
        shown.note(f"{without} of {plan.annotations.images_in_all} images have nothing to learn from and are left out.")
    if plan.val is None:
        shown.note("Without --val nothing is validated, and there is no best checkpoint, only the last.")


def _folder(plan: TrainingPlan, out: Path | None, resume: bool) -> Path:
    if out is not None:
        return out
    group = plan.processes
    identity = folder.manifest(plan, "")["identity"]
    return group.from_first(folder.choose(plan.name, identity, resume) if group.first else Path())


def _shown(progress: TrainingProgress | bool, group: Processes) -> TrainingProgress:
    if not group.first:
        return TrainingProgress()
    if isinstance(progress, TrainingProgress):
        return progress
    return on_stderr() if progress else TrainingProgress()


def _command() -> str:
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])


def _text(value: str | os.PathLike[str] | None) -> str | None:
    return None if value is None else os.fspath(value)
