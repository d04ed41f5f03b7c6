"""`workbench.predict`: run a model over a dataset, into a run folder, and go on where an earlier session stopped."""

import os
from collections.abc import Collection

from workbench import runs
from workbench.prediction.device import choose_batch_size, choose_compiled
from workbench.prediction.engines.choosing import chosen_engine
from workbench.prediction.options import CANDIDATE_FLOOR
from workbench.prediction.plan import make_plan
from workbench.prediction.progress import Progress, on_stderr
from workbench.prediction.run_folder import choose_folder
from workbench.prediction.session import run_session
from workbench.runs import Run
from workbench.storage import local_path


def predict(
    dataset: str | os.PathLike[str],
    *,
    model: str | os.PathLike[str] | None = None,
    task: str | None = None,
    out: str | os.PathLike[str] | None = None,
    root: str | os.PathLike[str] = runs.DEFAULT_ROOT,
    batch_size: int | str = "auto",
    device: str = "auto",
    dtype: str = "auto",
    limit: int | None = None,
    images: Collection[str] | None = None,
    threshold: float | None = None,
    mask_threshold: float | None = None,
    overlap_threshold: float | None = None,
    top_k: int | None = None,
    classes: str = "exact",
    keep_candidates: bool = False,
    candidate_floor: float | None = None,
    workers: int | None = None,
    engine: str = "local",
    processes: int | None = None,
    num_workers: int | None = None,
    address: str | None = None,
    compiled: bool | None = None,
    profile: bool = False,
    resume: bool = True,
    progress: Progress | bool = True,
) -> Run:
    """Run a model over a dataset and return the run.

    Args:
        dataset: the name of a dataset, or the path of its TOML file.
        model: a hub id, a checkpoint's folder, or a bundled checkpoint's name; by default the one published for the
            dataset's classes.
        task: "panoptic", "instance" or "semantic"; by default the one that the checkpoint was trained for.
        out: the run folder. By default the first of <root>/<dataset>-<task>-<model>[-2, -3, ...] that is free or holds
            this very run, so that the same call resumes, and another one never touches it.
        root: the folder of run folders, where `out` is not given.
        batch_size: inputs of a forward pass, or "auto": see `workbench.prediction.device`.
        device: "auto", "cpu", "cuda", "cuda:N"; "cuda:0,1" runs one process on each of those GPUs. With Ray "auto",
            "cpu" or "cuda": which GPU is Ray's affair.
        dtype: "auto" (bfloat16 on a GPU, else float32), "float32", "bfloat16" or "float16".
        limit: only the first so many images.
        images: only these, by id or file name; the run's manifest keeps their ids, and it is scored on them alone.
        threshold: panoptic: class scores must exceed it (0.8). Instance: scores below it are left out (0).
        mask_threshold: panoptic: where a mask begins (0.5).
        overlap_threshold: panoptic: the share of its mask that a segment has to keep (0.8).
        top_k: instance: candidates an image (100), before those with an empty mask are left out.
        classes: "exact": the checkpoint's classes are the dataset's categories; "common": go on with those that match.
        keep_candidates: panoptic: keep the queries below the threshold too, so that `workbench.sweep` gives the
            numbers of other thresholds without the model.
        candidate_floor: those that score above it (0.05); giving it keeps them.
        workers: threads that read images, of each process; by default one a CPU core that it has, at most 8.
        engine: "local": this machine; "ray": workers on a Ray cluster, which needs the extra `[ray]`. The rows are the
            same, and a run that one engine began another goes on with.
        processes: so many processes on this machine, the cores, or the GPUs that `device` names, divided among them.
        num_workers: with Ray: by default one a GPU of the cluster, or one a machine where there is none.
        address: with Ray: of the cluster ("auto", "host:port", "ray://host:port"); without it one is started here and
            ended with the run.
        compiled: whether the model goes through torch's compiler, on a GPU below float32; None: where the run is long
            enough to pay for it.
        profile: tell what share of the time each stage takes and what limits the run, and keep it in the manifest
            (`provenance.sessions[-1].profile`).
        resume: go on with an incomplete run of the same identity; a complete one is returned as it is.
        progress: True tells stderr, False nothing.

    Raises:
        WorkbenchError, EomtError: the dataset, the checkpoint, an option, the engine or the run folder cannot be used,
            and why.
        Interrupted: Ctrl-C or SIGTERM; what is complete is kept. It is a KeyboardInterrupt.
    """
    given = {
        "threshold": threshold,
        "mask_threshold": mask_threshold,
        "overlap_threshold": overlap_threshold,
        "top_k": top_k,
        "candidate_floor": CANDIDATE_FLOOR if keep_candidates and candidate_floor is None else candidate_floor,
    }
    model_id = None if model is None else os.fspath(model)
    with chosen_engine(engine, device, processes, num_workers, address, workers) as chosen:
        plan = make_plan(os.fspath(dataset), model_id, task, limit, chosen.device, dtype, classes, given, images)
        manifest = plan.manifest()
        folder = local_path(out or root)
        if out is None:
            folder = choose_folder(plan.name, manifest["identity"], resume, folder)
        # Told before a folder is made.
        choose_batch_size(batch_size, plan.device, plan.checkpoint.config.image_size_hw)
        choose_compiled(compiled, plan.device, plan.dtype, len(plan.records))
        with runs.lock(folder):
            run = runs.create_or_resume(folder, manifest, resume)
            with _shown(progress) as shown:
                if run.complete and not run.lost_images:
                    shown.note(f"{run.place} is complete already; nothing to do. --no-resume predicts anew.")
                    return run
                return run_session(run, plan, shown, batch_size, chosen, profile, compiled)


def _shown(progress: Progress | bool) -> Progress:
    if isinstance(progress, Progress):
        return progress
    return on_stderr() if progress else Progress()
