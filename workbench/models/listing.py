"""The checkpoints that can be named: bundled ones and published ones, and how much of each is on this machine."""

import re
from pathlib import Path
from typing import Any

from eomt.weight_files import INDEX, ORIGINAL, ORIGINAL_INDEX, SINGLE
from workbench.errors import ModelError
from workbench.models.published import PUBLISHED, PublishedModel
from workbench.prediction.checkpoint import BUNDLED_CHECKPOINTS, open_checkpoint

WEIGHTS = (SINGLE, INDEX, ORIGINAL, ORIGINAL_INDEX)


def list_models() -> list[dict[str, Any]]:
    """One JSON object a checkpoint, bundled ones first; nothing is fetched.

    `local` is "bundled", "weights" or "config" for what the hub's local cache holds of it, or null.
    """
    folders = sorted(path for path in BUNDLED_CHECKPOINTS.iterdir() if (path / "config.json").is_file())
    return [_bundled(folder) for folder in folders] + [_published(model) for model in PUBLISHED]


def in_hub_cache(model_id: str) -> str | None:
    """How much of a hub id the local cache holds: "weights", only its "config", or None.

    Raises ModelError for what cannot be a hub id.
    """
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", model_id):
        raise ModelError(f"{model_id} is neither a folder, nor a bundled checkpoint, nor a hub id like owner/name.")
    if any(_is_cached(model_id, name) for name in WEIGHTS):
        return "weights"
    return "config" if _is_cached(model_id, "config.json") else None


def _is_cached(model_id: str, name: str) -> bool:
    from huggingface_hub import try_to_load_from_cache  # here: its import costs what `--help` must not

    return isinstance(try_to_load_from_cache(model_id, name), str)


def _bundled(folder: Path) -> dict[str, Any]:
    checkpoint = open_checkpoint(folder.name)
    config = checkpoint.config
    return {
        "id": folder.name,
        "task": checkpoint.own_task,
        "size": None,
        "image_size": list(config.image_size_hw),
        "queries": config.num_queries,
        "blocks": config.num_blocks,
        "labels": config.num_labels,
        "backbone": None,
        "local": "bundled",
    }


def _published(model: PublishedModel) -> dict[str, Any]:
    return {
        "id": model.model_id,
        "task": model.task,
        "size": model.size,
        "image_size": [model.image_size, model.image_size],
        "queries": model.num_queries,
        "blocks": model.architecture.num_blocks,
        "labels": model.num_labels,
        "backbone": model.backbone,
        "local": in_hub_cache(model.model_id),
    }
