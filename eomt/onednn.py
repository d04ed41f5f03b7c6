"""Linear layers of a CPU through oneDNN, which takes a fifth less time than torch's default library on some processors.

torch has the operator for its own compiler and promises nothing about it. So it is tried once a process, and used only
where it gives what torch's own layers give up to rounding; without it, and wherever gradients, another dtype or
autocast are asked for, or somebody watches, changes or records what a layer does, torch's own do the work.
"""

from collections.abc import Callable
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

_FEWEST_ROWS = 256  # of fewer, the call costs as much as it saves
_TOLERANCE = 1e-5  # of numbers of about 1, summed over 512 products
_PLAIN = (nn.Parameter, Tensor)
_OF_ALL_MODULES = nn.modules.module


def linear(layer: nn.Linear, inputs: Tensor) -> Tensor:
    """What `layer` gives for (..., in): (..., out)."""
    if _serves(layer, inputs):
        return _product(inputs, layer, "none")
    output: Tensor = layer(inputs)
    return output


def activated(layer: nn.Linear, inputs: Tensor, activation: Callable[[Tensor], Tensor]) -> Tensor:
    """The activation of that; the exact GELU is done in the same pass over memory."""
    if activation is F.gelu and _serves(layer, inputs):
        return _product(inputs, layer, "gelu")
    return activation(linear(layer, inputs))


def _serves(layer: nn.Linear, inputs: Tensor) -> bool:
    return (
        inputs.is_cpu
        and inputs.dtype == layer.weight.dtype == torch.float32
        and inputs.numel() >= _FEWEST_ROWS * inputs.shape[-1] > 0
        and not torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
        and bool(torch.backends.mkldnn.enabled)
        and _is_plain(layer)
        and _trusted()
    )


def _is_plain(layer: nn.Linear) -> bool:
    """Whether calling the layer is a product and nothing else: another kind, or another weight, such as a quantised
    one, knows what it does, and hooks and a `forward` that was put in the layer's place are to be called."""
    return (
        type(layer) is nn.Linear
        and type(layer.weight) in _PLAIN
        and not (layer._forward_hooks or layer._forward_pre_hooks or "forward" in vars(layer))
        and not (_OF_ALL_MODULES._global_forward_hooks or _OF_ALL_MODULES._global_forward_pre_hooks)
    )


def _product(inputs: Tensor, layer: nn.Linear, then: str) -> Tensor:
    algorithm = "none" if then == "gelu" else ""  # of GELU: no approximation
    output: Tensor = torch.ops.mkldnn._linear_pointwise(inputs, layer.weight, layer.bias, then, [], algorithm)
    return output


@cache
def _trusted() -> bool:
    """Whether the installed torch has the operator, with the meaning that is expected of it."""
    try:
        return bool(torch.backends.mkldnn.is_available()) and _gives_what_torch_gives()  # type: ignore[no-untyped-call]
    except (AttributeError, RuntimeError, TypeError):  # not there, not for this processor, or with other arguments
        return False


@torch.inference_mode()
def _gives_what_torch_gives() -> bool:
    random = np.random.default_rng(0)  # torch's own generators are the caller's, who may have seeded them
    inputs = torch.from_numpy(random.standard_normal((2, 150, 512), np.float32))
    with torch.random.fork_rng(devices=[]):  # not `skip_init`, which imports torch's compiler
        layer = nn.Linear(512, 96, dtype=torch.float32)
    layer.weight.copy_(torch.from_numpy(random.standard_normal((96, 512), np.float32) * 512**-0.5))
    layer.bias.copy_(torch.from_numpy(random.standard_normal(96, np.float32)))
    expected = layer(inputs)
    pairs = ((_product(inputs, layer, "none"), expected), (_product(inputs, layer, "gelu"), F.gelu(expected)))
    return all(torch.allclose(ours, theirs, rtol=0, atol=_TOLERANCE) for ours, theirs in pairs)
