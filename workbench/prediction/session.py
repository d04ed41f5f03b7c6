"""One sitting at a run: predict the images that are missing, on any engine, and record who did it, how and when."""

from collections.abc import Collection, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from workbench import runs
from workbench.formats.base import ImageRecord
from workbench.prediction.device import COMPILE_FROM, choose_batch_size, choose_compiled
from workbench.prediction.engines.base import Engine
from workbench.prediction.engines.work import WorkerSpec, portable_model, stage_profile
from workbench.prediction.interrupt import Interrupted, stop_on_signals
from workbench.prediction.pipeline import ShardWriter
from workbench.prediction.plan import Plan, versions
from workbench.prediction.profiling import Profile, as_text
from workbench.prediction.progress import Progress
from workbench.runs import INCOMPLETE, Run


def run_session(
    run: Run,
    plan: Plan,
    progress: Progress,
    batch_size: int | str,
    engine: Engine,
    profiled: bool = False,
    compiled: bool | None = None,
) -> Run:
    """Predict what `run` lacks; the caller holds its lock. Raises Interrupted where the user stops it.

    A `profiled` session tells, and keeps under `profile`, what `StageProfile.result` gives.
    """
    batch_size = _batch_size(run, plan, batch_size)
    store = runs.writer(run)
    done = store.done_image_ids()
    progress.note(_announcement(run, plan, batch_size, engine))
    profile = stage_profile(plan.device) if profiled else Profile()
    to_compile = _compiled(run, plan, compiled)
    spec = _spec(run, plan, batch_size, engine.readers, profiled, to_compile)
    with engine.started(spec, progress.note, profile) as started:
        session = _new_session(plan, engine, batch_size, to_compile)
        if run.lost_images:
            progress.note(
                f"{run.place} was complete, but {run.lost_images} of its images are lost: predicting them again."
            )
            run = run.updated(status=INCOMPLETE)
        run = _with_session(run, session, first=True)
        progress.start(len(done), len(plan.records))
        batches = list(missing_batches(plan.records, batch_size, done))
        interrupted = False
        with stop_on_signals() as stop:
            try:
                started.run(batches, ShardWriter(store, progress, profile), stop)
            except KeyboardInterrupt:
                interrupted = True
        images = run.images().num_rows
        session |= {"finished": _now(), "batch_size": started.batch_size, "images": images - len(done)}
        measured = started.profile(images - len(done))
    if measured:
        progress.note(as_text(measured, engine.readers))
        session["profile"] = measured
    if images == len(plan.records):
        return _with_session(run, session).completed()
    _with_session(run, session)
    assert interrupted or stop.requested
    raise Interrupted(
        f"Stopped: {images} of {len(plan.records)} images are in {run.place}. Run the same command again to go on."
    )


def missing_batches(
    records: Sequence[ImageRecord], batch_size: int, done: Collection[str]
) -> Iterator[list[ImageRecord]]:
    """Batch k is `records[k * batch_size:(k + 1) * batch_size]` less what is done; empty ones are left out."""
    for start in range(0, len(records), batch_size):
        if batch := [record for record in records[start : start + batch_size] if record.image_id not in done]:
            yield batch


def _batch_size(run: Run, plan: Plan, wanted: int | str) -> int:
    """As `choose_batch_size`, but "auto" keeps an earlier session's: another size may round differently."""
    sessions = run.manifest["provenance"]["sessions"]
    if wanted == "auto" and sessions:
        wanted = sessions[-1]["batch_size"]
    return choose_batch_size(wanted, plan.device, plan.checkpoint.config.image_size_hw)


def _compiled(run: Run, plan: Plan, wanted: bool | None) -> bool:
    """As `choose_compiled`, by the images of the whole run; but without a word it keeps what an earlier session did."""
    sessions = run.manifest["provenance"]["sessions"]
    images = len(plan.records)
    if wanted is None and sessions and "compiled" in sessions[-1]:
        images = COMPILE_FROM if sessions[-1]["compiled"] else 0
    return choose_compiled(wanted, plan.device, plan.dtype, images)


def _spec(run: Run, plan: Plan, batch_size: int, readers: int, profiled: bool, compiled: bool) -> WorkerSpec:
    return WorkerSpec(
        portable_model(plan.checkpoint),
        run.manifest["identity"]["weights_sha256"],
        plan.checkpoint.processor,
        plan.options,
        plan.classes,
        plan.dtype,
        batch_size,
        plan.images_folder,
        readers,
        profiled,
        compiled,
    )


def _new_session(plan: Plan, engine: Engine, batch_size: int, compiled: bool) -> dict[str, Any]:
    return {
        "started": _now(),
        "engine": engine.name,
        "num_workers": engine.num_workers,
        "device": str(plan.device),
        "devices": list(engine.devices),
        "batch_size": batch_size,
        "workers": engine.readers,
        "compiled": compiled,
        "versions": versions(),
    }


def _announcement(run: Run, plan: Plan, batch_size: int, engine: Engine) -> str:
    return (
        f"{plan.options.task} segmentation of {plan.dataset.definition.name} ({len(plan.records)} images) with "
        f"{plan.checkpoint.model_id} on {engine.where} ({plan.dtype}, batch size {batch_size}) into {run.place}"
    )


def _with_session(run: Run, session: dict[str, Any], first: bool = False) -> Run:
    """The run with this session as its last; `first` where it is not among them yet."""
    provenance = run.manifest["provenance"]
    earlier = provenance["sessions"] if first else provenance["sessions"][:-1]
    return run.updated(provenance={**provenance, "sessions": [*earlier, dict(session)]})


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
