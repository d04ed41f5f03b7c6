"""Load and save a model in the published layout, `config.json` beside `model.safetensors`, every key accounted for."""

import json
import logging
import warnings
from os import PathLike
from pathlib import Path
from typing import Any, TypeVar

import torch
from huggingface_hub import split_torch_state_dict_into_shards
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from eomt.configuration import EomtConfig
from eomt.errors import CheckpointError
from eomt.hub import HubOptions, find_file, read_json, try_find_file

WEIGHTS_NAME = "model.safetensors"
INDEX_NAME = "model.safetensors.index.json"

_logger = logging.getLogger(__name__)
_LISTED = 20  # keys of each kind that an error names
_Model = TypeVar("_Model", bound=nn.Module)


class CheckpointWarning(UserWarning):
    """A checkpoint lacks something that has a safe default, which changes how the model runs."""


def load_checkpoint(
    model_class: type[_Model],
    id_or_folder: str | PathLike[str],
    config: EomtConfig | None = None,
    dtype: torch.dtype | str | None = None,
    device: torch.device | str | None = None,
    hub_options: dict[str, Any] | None = None,
) -> _Model:
    """A model in eval mode with the weights of a folder or hub id; the arguments are those of `from_pretrained`.

    The weights are mapped from the file and put in place of parameters that never had memory or random numbers, so
    that loading costs little more than reading. Raises `CheckpointError`.
    """
    options = HubOptions(**(hub_options or {}))
    if config is None:
        config = EomtConfig.from_pretrained(id_or_folder, **(hub_options or {}))
    state = read_weights(id_or_folder, options)
    with torch.device("meta"):
        model = model_class(config)
    place = str(id_or_folder)
    state = _split_packed_swiglu(state)
    _fill_tolerated(state, config, place)
    check_keys(state, model.state_dict(), place)
    model.load_state_dict(_cast(state, model, _dtype(dtype), device), assign=True)
    return model.eval()


def read_weights(id_or_folder: str | PathLike[str], options: HubOptions) -> dict[str, Tensor]:
    """All tensors of a checkpoint by name, from one safetensors file or its shards."""
    single = try_find_file(id_or_folder, WEIGHTS_NAME, options)
    if single is not None:
        return _read_safetensors(single)
    index = try_find_file(id_or_folder, INDEX_NAME, options)
    if index is None:
        raise CheckpointError(
            f"{id_or_folder} has neither {WEIGHTS_NAME} nor {INDEX_NAME}: there are no weights to load."
        )
    return _read_shards(id_or_folder, index, options)


def check_keys(state: dict[str, Tensor], expected: dict[str, Tensor], place: str) -> None:
    """Raise one `CheckpointError` that lists every missing, unknown and misshapen key."""
    problems = {
        "missing": sorted(expected.keys() - state.keys()),
        "unknown": sorted(state.keys() - expected.keys()),
        "misshapen": [
            f"{key} is {tuple(state[key].shape)} and should be {tuple(expected[key].shape)}"
            for key in sorted(state.keys() & expected.keys())
            if state[key].shape != expected[key].shape
        ],
    }
    if any(problems.values()):
        lines = [f"  {len(keys)} {kind}: {_listed(keys)}" for kind, keys in problems.items() if keys]
        raise CheckpointError(
            f"{place}: the weights do not fit the model that its config.json describes.\n" + "\n".join(lines)
        )


def save_checkpoint(model: nn.Module, folder: str | PathLike[str], max_shard_size: int | str = "5GB") -> None:
    """Write `config.json` and the weights; each file appears whole or not at all, and older weights go.

    max_shard_size: bytes, or text such as "5GB"; larger weights are cut into shards with an index.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    state = {key: tensor.detach().contiguous() for key, tensor in model.state_dict().items()}
    shards = split_torch_state_dict_into_shards(
        state, max_shard_size=max_shard_size, filename_pattern="model{suffix}.safetensors"
    )
    for name, keys in shards.filename_to_tensors.items():
        part = folder / f"{name}.part"
        save_file({key: state[key] for key in keys}, part, metadata={"format": "pt"})
        part.replace(folder / name)
    written = set(shards.filename_to_tensors)
    if shards.is_sharded:
        index = {"metadata": shards.metadata, "weight_map": shards.tensor_to_filename}
        (folder / INDEX_NAME).write_text(json.dumps(index, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        written.add(INDEX_NAME)
    for stale in {*folder.glob("model.safetensors*"), *folder.glob("model-*-of-*.safetensors")}:
        if stale.name not in written:
            stale.unlink()
    assert isinstance(model.config, EomtConfig)
    model.config.save_pretrained(folder)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is damaged or incomplete: {error}. Fetch or copy it again.") from error


def _read_shards(id_or_folder: str | PathLike[str], index: Path, options: HubOptions) -> dict[str, Tensor]:
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict):
        raise CheckpointError(f"{index} has no weight_map; it should name the shard of each weight.")
    state: dict[str, Tensor] = {}
    for name in sorted(set(weight_map.values())):
        if Path(name).name != name:
            raise CheckpointError(f"{index} names the shard {name!r}, which is outside its folder.")
        state |= _read_safetensors(find_file(id_or_folder, name, options))
    return state


def _split_packed_swiglu(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Older giants pack gate and up into `mlp.weights_in`, in this order, and call down `mlp.weights_out`."""
    renamed: dict[str, Tensor] = {}
    for key, tensor in state.items():
        if ".mlp.weights_in." in key:
            gate, up = tensor.chunk(2)
            renamed[key.replace("weights_in", "gate_proj")] = gate
            renamed[key.replace("weights_in", "up_proj")] = up
        else:
            renamed[key.replace(".mlp.weights_out.", ".mlp.down_proj.")] = tensor
    return renamed


def _fill_tolerated(state: dict[str, Tensor], config: EomtConfig, place: str) -> None:
    """Add the two buffers that a complete checkpoint may lack."""
    if "criterion.empty_weight" not in state:
        _logger.info("%s: criterion.empty_weight is missing and follows from the configuration.", place)
        empty_weight = torch.ones(config.num_labels + 1)
        empty_weight[-1] = config.no_object_weight
        state["criterion.empty_weight"] = empty_weight
    if "attn_mask_probs" not in state:
        warnings.warn(
            f"{place}: attn_mask_probs is missing. It is taken as ones, so attention stays masked at inference; a model"
            " whose masks were annealed away in training should have zeros: model.attn_mask_probs.zero_().",
            CheckpointWarning,
            stacklevel=4,
        )
        state["attn_mask_probs"] = torch.ones(config.num_blocks)


def _cast(
    state: dict[str, Tensor], model: nn.Module, dtype: torch.dtype | None, device: torch.device | str | None
) -> dict[str, Tensor]:
    """Move to the device and cast the parameters; the buffers are probabilities and weights of the loss, kept exact."""
    parameters = {name for name, _ in model.named_parameters()}
    return {key: tensor.to(device=device, dtype=dtype if key in parameters else None) for key, tensor in state.items()}


def _dtype(dtype: torch.dtype | str | None) -> torch.dtype | None:
    if dtype is None or dtype == "auto":
        return None
    found = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise ValueError(
            f"dtype {dtype!r} is not a floating-point type; give torch.float32, torch.bfloat16 or torch.float16."
        )
    return found


def _listed(keys: list[str]) -> str:
    more = f", ... ({len(keys) - _LISTED} more)" if len(keys) > _LISTED else ""
    return ", ".join(keys[:_LISTED]) + more
