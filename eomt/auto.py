"""Load a model by what its `config.json` says it is: EoMT on DINOv2, or on DINOv3."""

from os import PathLike
from pathlib import Path

import torch

from eomt.configuration import EomtConfig
from eomt.dinov3 import EomtDinov3ForUniversalSegmentation
from eomt.hub import HubOptions, find_file, read_json, try_find_file
from eomt.modeling import EomtForUniversalSegmentation

_CLASSES = {
    cls.config_class.model_type: cls for cls in (EomtForUniversalSegmentation, EomtDinov3ForUniversalSegmentation)
}


def model_class_of(
    id_or_folder: str | PathLike[str], options: HubOptions | None = None
) -> type[EomtForUniversalSegmentation]:
    """The class that loads a checkpoint; `EomtForUniversalSegmentation`, which explains itself, where none is named."""
    path = try_find_file(id_or_folder, "config.json", options)
    model_type = read_json(path).get("model_type") if path else None
    return _CLASSES.get(str(model_type), EomtForUniversalSegmentation)


def config_from_json(path: Path) -> EomtConfig:
    """The configuration in a `config.json`, of the class that fits its `model_type`. Raises `CheckpointError`."""
    model_class = _CLASSES.get(str(read_json(path).get("model_type")), EomtForUniversalSegmentation)
    return model_class.config_class.from_json(path)


def load_config(id_or_folder: str | PathLike[str], options: HubOptions | None = None) -> EomtConfig:
    """The configuration of a local folder or hub id, of the class that fits. Raises `CheckpointError`."""
    return config_from_json(find_file(id_or_folder, "config.json", options))


def load_model(
    id_or_folder: str | PathLike[str],
    *,
    config: EomtConfig | None = None,
    dtype: torch.dtype | str | None = None,
    device: torch.device | str | None = None,
    revision: str | None = None,
    cache_dir: str | PathLike[str] | None = None,
    token: str | bool | None = None,
    local_files_only: bool = False,
) -> EomtForUniversalSegmentation:
    """The model of a local folder or hub id, of the class that fits; arguments and errors as `from_pretrained` has."""
    options = HubOptions(revision, cache_dir, token, local_files_only)
    model_class = _CLASSES[config.model_type] if config else model_class_of(id_or_folder, options)
    return model_class.from_pretrained(
        id_or_folder,
        config=config,
        dtype=dtype,
        device=device,
        revision=revision,
        cache_dir=cache_dir,
        token=token,
        local_files_only=local_files_only,
    )
