"""Where a run's numbers come from, and the commands that give them again; folders of this machine are not named."""

import shlex
from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Any

from workbench.evaluation.headlines import PREFIXES, headlines
from workbench.runs import Run

_PARAMETERS = {
    "threshold": "--threshold",
    "mask_threshold": "--mask-threshold",
    "overlap_threshold": "--overlap-threshold",
    "top_k": "--top-k",
    "candidate_floor": "--candidate-floor",
    "classes": "--classes",
    "limit": "--limit",
}
"""What decides the rows, in a run's identity: the option of `workbench predict`."""


def facts(run: Run, metrics: Mapping[str, Any]) -> dict[str, str]:
    """What a reader needs to trust the numbers: label -> value."""
    identity, provenance = run.manifest.get("identity", {}), run.manifest.get("provenance", {})
    scored = metrics["provenance"]
    found = {
        "Model": without_folders(provenance.get("model")),
        "Weights, SHA-256": identity.get("weights_sha256"),
        "Dataset": scored["dataset"]["name"],
        "Dataset fingerprint": scored["dataset"]["fingerprint"],
        "Made by": run.manifest.get("source"),
        "Parameters": _joined({key: identity.get(key) for key in (*_PARAMETERS, "dtype")}),
        "Scored": metrics.get("mode"),
        "Seed": provenance.get("seed"),
        "Predicted": _sessions(provenance.get("sessions", [])),
        "Evaluated": f"{scored['evaluated']} with {_joined(scored['versions'])}",
    }
    return {label: str(value) for label, value in found.items() if value not in (None, "")}


def commands(run: Run, metrics: Mapping[str, Any]) -> tuple[str, ...]:
    """The commands that make the run, its numbers and this report again."""
    folder = f"runs/{run.path.resolve().name}"
    return (
        shlex.join([*_made_by(run), "--out", folder]),
        shlex.join(["workbench", "evaluate", folder, *_scored_by(metrics)]),
        shlex.join(["workbench", "report", folder]),
    )


def without_folders(name: Any) -> Any:
    """A path of this machine cut down to its last part; hub ids and other values as they are."""
    return PurePath(name).name if isinstance(name, str) and PurePath(name).is_absolute() else name


def _made_by(run: Run) -> Iterator[str]:
    identity, provenance = run.manifest.get("identity", {}), run.manifest.get("provenance", {})
    dataset = run.manifest["dataset"]["name"]
    if run.manifest.get("source") == "import":
        source = str(without_folders(provenance.get("source", "predictions.json")))
        yield from ("workbench", "import", source, "--dataset", dataset, "--format", str(identity.get("format")))
        return
    yield from ("workbench", "predict", "--dataset", dataset)
    if model := without_folders(provenance.get("model")):
        yield from ("--model", str(model))
    yield from ("--task", run.task)
    for key, option in _PARAMETERS.items():
        if identity.get(key) is not None:
            yield from (option, str(identity[key]))
    if identity.get("images"):
        yield from ("--images", "images.txt")  # with the ids that the manifest has


def _scored_by(metrics: Mapping[str, Any]) -> Iterator[str]:
    """The options of `workbench evaluate`."""
    if intervals := metrics.get("intervals"):
        yield from ("--confidence", f"{intervals['confidence']:g}")
    if metrics.get("mode") == "corrected":
        yield "--corrected"
    if any(name.startswith(PREFIXES["boundary"]) for name in headlines(metrics)):
        yield "--boundary"
    for by in metrics.get("slices") or {}:
        yield from ("--by", str(without_folders(by)))


def _sessions(sessions: list[Mapping[str, Any]]) -> str:
    if not sessions:
        return ""
    last = sessions[-1]
    device = f" on {last['device']}" if "device" in last else ""
    versions = {key: value for key, value in last.get("versions", {}).items() if key != "platform"}
    return f"{last.get('finished', last.get('started', ''))}{device} with {_joined(versions)}"


def _joined(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in values.items() if value is not None)
