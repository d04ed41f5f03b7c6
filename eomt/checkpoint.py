"""Load and save a model in the published layout, `config.json` beside `model.safetensors`, every key accounted for."""

import logging
import warnings
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from eomt.configuration import EomtConfig
from eomt.conversion import from_original, infer_config, is_delta, is_original, split_packed_swiglu
from eomt.errors import CheckpointError, ConfigError
from eomt.hub import HubOptions, place, read_json, try_find_file
from eomt.loss import EomtLoss
from eomt.weight_files import read_weights, write_weights

_LISTED = 20  # keys of each kind that an error names

_logger = logging.getLogger(__name__)
_Model = TypeVar("_Model", bound=nn.Module)


class CheckpointWarning(UserWarning):
    """A checkpoint lacks something that has a default, and the default changes how the model runs."""


def load_checkpoint(
    model_class: type[_Model],
    id_or_folder: str | PathLike[str],
    *,
    config_class: type[EomtConfig] = EomtConfig,
    config: EomtConfig | None = None,
    dtype: torch.dtype | str | None = None,
    device: torch.device | str | None = None,
    options: HubOptions | None = None,
) -> _Model:
    """A model in eval mode with the weights of a folder or hub id; the arguments are those of `from_pretrained`.

    Raises `CheckpointError`.
    """
    config = config or _read_config(config_class, id_or_folder, options)
    state = read_weights(id_or_folder, options)
    if is_delta(state):
        raise CheckpointError(
            f"{place(id_or_folder)} holds the difference to a DINOv3 backbone; with that backbone at hand, load it by"
            " eomt.load_delta."
        )
    if is_original(state):
        state = from_original(state)
        config = config or _infer_config(state, id_or_folder)
    elif config is None:
        raise CheckpointError(
            f"{place(id_or_folder)} has no config.json of an EoMT (with a model_type); without it, pass"
            f" config={config_class.__name__}(...)."
        )
    return build_model(model_class, config, split_packed_swiglu(state), str(id_or_folder), dtype, device)


def build_model(
    model_class: type[_Model],
    config: EomtConfig,
    state: dict[str, Tensor],
    source: str,
    dtype: torch.dtype | str | None = None,
    device: torch.device | str | None = None,
) -> _Model:
    """A model in eval mode that has these weights, all of them; `source` names them in errors and warnings.

    They take the place of parameters that never had memory or random numbers, so that loading costs little more than
    reading.
    """
    state = _fill_tolerated(state, config, source)
    try:
        with torch.device("meta"):
            model = model_class(config)
    except (RuntimeError, OverflowError) as error:  # sizes whose product torch cannot hold
        raise CheckpointError(f"{source}: its configuration makes no model ({str(error).splitlines()[0]}).") from error
    check_keys(state, model.state_dict(), source)
    model.load_state_dict(_cast(state, model, _floating(dtype), device), assign=True)
    return model.eval()


def save_checkpoint(
    model: nn.Module, config: EomtConfig, folder: str | PathLike[str], max_shard_size: int | str
) -> None:
    """Write `config.json` and the weights into a folder, which is made if need be; see `save_pretrained`."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_weights({key: tensor.detach() for key, tensor in model.state_dict().items()}, folder, max_shard_size)
    dtype = str(next(model.parameters()).dtype).removeprefix("torch.")
    kept = {key: value for key, value in config.extra.items() if key != "torch_dtype"}  # the older name of dtype
    named = {"architectures": [type(model).__name__], "dtype": dtype}
    replace(config, extra=kept | named).save_pretrained(folder)


def check_keys(state: dict[str, Tensor], expected: dict[str, Tensor], source: str) -> None:
    """Raise one `CheckpointError` that lists every missing, unknown and misshapen weight of `source`."""
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
        raise CheckpointError(f"{source}: the weights do not fit the configuration's model.\n" + "\n".join(lines))


def _read_config(
    config_class: type[EomtConfig], id_or_folder: str | PathLike[str], options: HubOptions | None
) -> EomtConfig | None:
    """None where there is no `config.json`, or only the few notes that the original puts beside its weights."""
    path = try_find_file(id_or_folder, "config.json", options)
    return config_class.from_json(path) if path and "model_type" in read_json(path) else None


def _infer_config(state: dict[str, Tensor], id_or_folder: str | PathLike[str]) -> EomtConfig:
    try:
        return infer_config(state)
    except (KeyError, ConfigError) as error:
        raise CheckpointError(
            f"{place(id_or_folder)} has no config.json, nor do its weights imply one ({error}); pass"
            " config=EomtConfig(...)."
        ) from error


def _fill_tolerated(state: dict[str, Tensor], config: EomtConfig, source: str) -> dict[str, Tensor]:
    """Add the two buffers that a complete checkpoint may lack."""
    state = dict(state)
    if "criterion.empty_weight" not in state:
        # Nothing is lost: it follows from no_object_weight.
        _logger.info("%s: criterion.empty_weight is missing; it was made from the configuration.", source)
        state["criterion.empty_weight"] = EomtLoss(config).empty_weight
    if "attn_mask_probs" not in state:
        warnings.warn(
            f"{source}: attn_mask_probs is missing and taken as ones, so attention is masked at inference too. If the"
            " masks were annealed away in training, set it to zeros: model.attn_mask_probs.zero_().",
            CheckpointWarning,
            stacklevel=5,
        )
        state["attn_mask_probs"] = torch.ones(config.num_blocks)
    return state


def _cast(
    state: dict[str, Tensor], model: nn.Module, dtype: torch.dtype | None, device: torch.device | str | None
) -> dict[str, Tensor]:
    """Move everything, cast the parameters: the buffers hold probabilities and loss weights, which stay exact."""
    parameters = {name for name, _ in model.named_parameters()}
    return {key: tensor.to(device=device, dtype=dtype if key in parameters else None) for key, tensor in state.items()}


def _floating(dtype: torch.dtype | str | None) -> torch.dtype | None:
    if dtype is None or dtype == "auto":
        return None
    found = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise ValueError(f"dtype {dtype!r} is not usable for weights; give float32, bfloat16 or float16.")
    return found


def _listed(keys: list[str]) -> str:
    more = f", ... ({len(keys) - _LISTED} more)" if len(keys) > _LISTED else ""
    return ", ".join(keys[:_LISTED]) + more
