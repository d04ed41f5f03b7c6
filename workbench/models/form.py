"""In which form a checkpoint comes: whose names its weights have, and whether they are whole."""

from dataclasses import dataclass
from typing import Literal, get_args

from torch import Tensor

from eomt.backbones import BACKBONE_TYPES
from eomt.conversion import from_original, is_delta, is_original
from eomt.errors import CheckpointError
from eomt.hub import HubOptions, read_json, try_find_file
from eomt.weight_files import read_weights

Form = Literal["published", "original", "delta", "backbone"]
"""published: what `from_pretrained` of transformers reads. original: the original repository's `pytorch_model.bin`.
delta: the same for DINOv3, as the difference to its backbone. backbone: a ViT alone, to train from."""
FORMS: tuple[Form, ...] = get_args(Form)

_BUFFERS = ("attn_mask_probs", "criterion.empty_weight")


@dataclass(frozen=True)
class Weights:
    """What a checkpoint's weights are, without having read more than their names and shapes."""

    form: Form
    parameters: int
    """How many numbers training changes."""
    dtype: str
    """Of most of them, such as "float32"."""


def weights_of(place: str, options: HubOptions | None = None) -> Weights:
    """The form and size of the weights in a folder or hub id. Raises CheckpointError where there are none."""
    state = read_weights(place, options)
    form = _form(place, state, options)
    if form in ("original", "delta"):
        state = from_original(state)
    state = {key: tensor for key, tensor in state.items() if key not in _BUFFERS}
    if not state:
        raise CheckpointError(f"{place} holds no weights. Copy or download it again.")
    return Weights(form, sum(tensor.numel() for tensor in state.values()), _main_dtype(state))


def _form(place: str, state: dict[str, Tensor], options: HubOptions | None) -> Form:
    config = try_find_file(place, "config.json", options)
    if config and read_json(config).get("model_type") in BACKBONE_TYPES:
        return "backbone"
    if is_delta(state):
        return "delta"
    return "original" if is_original(state) else "published"


def _main_dtype(state: dict[str, Tensor]) -> str:
    counts: dict[str, int] = {}
    for tensor in state.values():
        name = str(tensor.dtype).removeprefix("torch.")
        counts[name] = counts.get(name, 0) + tensor.numel()
    return max(counts, key=lambda name: counts[name])
