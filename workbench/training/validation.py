"""Validation: the saved weights predict a dataset and are scored, by the very functions behind the two commands."""

import shutil
from pathlib import Path

import torch

from workbench.evaluation.evaluation import evaluate
from workbench.formats.base import Task
from workbench.prediction.api import predict
from workbench.runs import Run
from workbench.training.plan import METRICS, TrainingPlan

FOLDER = "validation"


def validate(plan: TrainingPlan, checkpoint: Path, folder: Path) -> tuple[str, float]:
    """The task's metric (PQ, AP of masks, or mIoU), by name, of a saved checkpoint on the validation data.

    The run folder `folder` holds its predictions and all metrics; an earlier one is replaced. A metric that does not
    exist, as where no category occurs, counts as 0. Raises Interrupted where the user stops it.
    """
    assert plan.val is not None
    if folder.exists():
        shutil.rmtree(folder)
    torch.cuda.empty_cache()  # room for a second model; does nothing where there is no GPU
    run = predict(
        plan.val.definition.source,
        model=checkpoint,
        task=plan.task,
        out=folder,
        batch_size=plan.batch_size,
        device=str(plan.processes.device),
        dtype=plan.dtype,
        limit=plan.options.eval_limit,
        workers=max(1, plan.workers),
        progress=False,
    )
    return METRICS[plan.task], score(run, plan.task)


def score(run: Run, task: Task) -> float:
    """The metric of `METRICS` of a run, as a fraction."""
    metrics = evaluate(run).metrics
    value = {
        "panoptic": lambda: metrics["panoptic"]["all"]["pq"],
        "instance": lambda: metrics["instance"]["segm"]["AP"],
        "semantic": lambda: metrics["semantic"]["miou"],
    }[task]()
    return 0.0 if value is None else float(value)
