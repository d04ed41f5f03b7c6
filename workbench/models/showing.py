"""What one checkpoint holds: form, configuration, classes, processor, size, hash and where its files lie."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from eomt.auto import load_config, model_class_of
from eomt.backbones import BACKBONE_TYPES
from eomt.configuration import EomtConfig
from eomt.conversion import from_original, infer_config
from eomt.errors import ConfigError
from eomt.hub import HubOptions, read_json, try_find_file
from eomt.processor_settings import FILE_NAME as PROCESSOR
from eomt.weight_files import INDEX, ORIGINAL_INDEX, read_weights
from workbench.errors import ModelError
from workbench.models.form import Weights, weights_of
from workbench.models.listing import WEIGHTS, in_hub_cache
from workbench.models.published import PublishedModel, published
from workbench.prediction.checkpoint import BUNDLED_CHECKPOINTS, place_of, sha256_of, task_in_name, weight_files

_SMALL_FILES = ("config.json", PROCESSOR, "README.md")


def describe(model_id: str, download: bool = False) -> dict[str, Any]:
    """A JSON object about a bundled name, folder or hub id; what cannot be told without fetching is null.

    With `download` everything is fetched from the hub first. Raises ModelError for a hub id of which nothing is known
    here, CheckpointError for files that cannot be used.
    """
    place = place_of(model_id)
    entry = published(place)
    local = "weights" if download else _local(place)
    told: dict[str, Any] = {
        "id": model_id,
        "source": _source(place),
        "task": entry.task if entry else task_in_name(Path(place).name),
        "published": None if entry is None else _table_entry(entry),
        **dict.fromkeys(("form", "model_type", "parameters", "dtype", "weights_sha256")),
        **dict.fromkeys(("config", "labels", "processor")),
        "files": [],
    }
    if local is None:
        if entry is None:
            raise ModelError(f"{model_id} is not in the hub's local cache. Fetch it with --download, or name a folder.")
        return told
    options = HubOptions(local_files_only=not download)
    weights = weights_of(place, options) if local == "weights" else None
    told |= _from_small_files(place, options, weights)
    files = [path for name in _SMALL_FILES if (path := try_find_file(place, name, options))]
    if weights is not None:
        shards = weight_files(place, options)
        told |= {**asdict(weights), "weights_sha256": sha256_of(shards)}
        files += [path for name in (INDEX, ORIGINAL_INDEX) if (path := try_find_file(place, name, options))] + shards
    told["files"] = [{"path": str(path), "bytes": path.stat().st_size} for path in files]
    return told


def _local(place: str) -> str | None:
    """What there is to read, as `in_hub_cache` says it; a folder that has nothing is left to fail for its weights."""
    if not Path(place).is_dir():
        return in_hub_cache(place)
    has_weights = any((Path(place) / name).is_file() for name in WEIGHTS)
    return "config" if (Path(place) / "config.json").is_file() and not has_weights else "weights"


def _source(place: str) -> str:
    if not Path(place).is_dir():
        return "hub"
    return "bundled" if Path(place).parent == BUNDLED_CHECKPOINTS else "folder"


def _table_entry(model: PublishedModel) -> dict[str, Any]:
    return {**asdict(model), **asdict(model.architecture), "num_queries": model.num_queries}


def _from_small_files(place: str, options: HubOptions, weights: Weights | None) -> dict[str, Any]:
    told: dict[str, Any] = {}
    if path := try_find_file(place, PROCESSOR, options):
        told["processor"] = read_json(path)
    path = try_find_file(place, "config.json", options)
    values = read_json(path) if path else {}
    if values.get("model_type") in BACKBONE_TYPES:
        return told | {"model_type": values["model_type"], "config": values}
    config = _config(place, options, weights, "model_type" in values)
    if config is None:
        return told
    told |= {"model_type": config.model_type, "config": config.to_dict(), "labels": list(config.id2label.values())}
    if weights is None:
        with torch.device("meta"):
            model = model_class_of(place, options)(config)
        told["parameters"] = sum(parameter.numel() for parameter in model.parameters())
    return told


def _config(place: str, options: HubOptions, weights: Weights | None, is_complete: bool) -> EomtConfig | None:
    """From the file, else as the shapes of an original's weights imply it; None where neither tells."""
    if is_complete:
        return load_config(place, options)
    if weights is None or weights.form != "original":
        return None
    try:
        return infer_config(from_original(read_weights(place, options)))
    except (KeyError, ConfigError):
        return None
