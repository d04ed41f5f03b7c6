"""One process's share of a run: predict the images that are missing, and record who did it, with what and when."""

import warnings
from collections.abc import Collection, Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

import torch

from eomt.auto import load_model
from workbench import runs
from workbench.formats.base import ImageRecord
from workbench.prediction.candidates import CandidateBuilder
from workbench.prediction.device import DTYPES, choose_batch_size
from workbench.prediction.encode import ShardBuilder
from workbench.prediction.interrupt import Interrupted, stop_on_signals
from workbench.prediction.model import Predictor
from workbench.prediction.pipeline import ShardWriter, run_batches
from workbench.prediction.plan import Plan, versions
from workbench.prediction.profiling import Profile, StageProfile, as_text
from workbench.prediction.progress import Progress
from workbench.prediction.reading import reader
from workbench.runs import INCOMPLETE, Run


def run_session(
    run: Run, plan: Plan, progress: Progress, batch_size: int | str, workers: int, profiled: bool = False
) -> Run:
    """Predict what `run` lacks; the caller holds its lock. Raises Interrupted where the user stops it.

    A `profiled` session tells, and keeps under `profile`, what `StageProfile.result` gives.
    """
    batch_size = _batch_size(run, plan, batch_size)
    store = runs.writer(run)
    done = store.done_image_ids()
    progress.note(_announcement(run, plan, batch_size))
    profile = _profile(plan) if profiled else Profile()
    predictor = _load(plan, batch_size, progress, profile)
    session: dict[str, Any] = {
        "started": _now(),
        "device": str(plan.device),
        "batch_size": batch_size,
        "workers": workers,
        "versions": versions(),
    }
    if run.lost_images:
        progress.note(f"{run.path} was complete, but {run.lost_images} of its images are lost: predicting them again.")
        run = run.updated(status=INCOMPLETE)
    run = _with_session(run, session, first=True)
    progress.start(len(done), len(plan.records))
    profile.start()
    interrupted = False
    with stop_on_signals() as stop:
        try:
            run_batches(
                list(missing_batches(plan.records, batch_size, done)),
                reader(predictor.prepare, plan.images_folder),
                predictor,
                ShardWriter(store, ShardBuilder(predictor.categories), progress, _candidates(plan, predictor), profile),
                stop,
                workers,
                profile,
            )
        except KeyboardInterrupt:
            interrupted = True
    images = run.images().num_rows
    session |= {"finished": _now(), "batch_size": predictor.batch_size, "images": images - len(done)}
    if measured := profile.result(images - len(done), workers):
        progress.note(as_text(measured, workers))
        session["profile"] = measured
    if images == len(plan.records):
        return _with_session(run, session).completed()
    _with_session(run, session)
    assert interrupted or stop.requested
    raise Interrupted(
        f"Stopped: {images} of {len(plan.records)} images are in {run.path}. Run the same command again to go on."
    )


def missing_batches(
    records: Sequence[ImageRecord], batch_size: int, done: Collection[str]
) -> Iterator[list[ImageRecord]]:
    """Batch k is `records[k * batch_size:(k + 1) * batch_size]` less what is done; empty ones are left out."""
    for start in range(0, len(records), batch_size):
        if batch := [record for record in records[start : start + batch_size] if record.image_id not in done]:
            yield batch


def _candidates(plan: Plan, predictor: Predictor) -> CandidateBuilder | None:
    return None if plan.options.candidate_floor is None else CandidateBuilder(predictor.categories)


def _batch_size(run: Run, plan: Plan, wanted: int | str) -> int:
    """As `choose_batch_size`, but "auto" keeps an earlier session's: another size may round differently."""
    sessions = run.manifest["provenance"]["sessions"]
    if wanted == "auto" and sessions:
        wanted = sessions[-1]["batch_size"]
    return choose_batch_size(wanted, plan.device, plan.checkpoint.config.image_size_hw)


def _profile(plan: Plan) -> StageProfile:
    """A GPU is waited for after each forward pass: only then is the model's time its own."""
    on_gpu = plan.device.type == "cuda"
    return StageProfile(partial(torch.cuda.synchronize, plan.device) if on_gpu else None)


def _load(plan: Plan, batch_size: int, progress: Progress, profile: Profile) -> Predictor:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = load_model(plan.checkpoint.place, dtype=torch.float32, device=plan.device)
    for warning in caught:
        progress.note(f"Note: {warning.message}")
    return Predictor(
        model,
        plan.checkpoint.processor,
        plan.options,
        plan.classes,
        batch_size=batch_size,
        dtype=DTYPES[plan.dtype],
        note=progress.note,
        profile=profile,
    )


def _announcement(run: Run, plan: Plan, batch_size: int) -> str:
    return (
        f"{plan.options.task} segmentation of {plan.dataset.definition.name} ({len(plan.records)} images) with "
        f"{plan.checkpoint.model_id} on {plan.device} ({plan.dtype}, batch size {batch_size}) into {run.path}"
    )


def _with_session(run: Run, session: dict[str, Any], first: bool = False) -> Run:
    """The run with this session as its last; `first` where it is not among them yet."""
    provenance = run.manifest["provenance"]
    earlier = provenance["sessions"] if first else provenance["sessions"][:-1]
    return run.updated(provenance={**provenance, "sessions": [*earlier, dict(session)]})


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
