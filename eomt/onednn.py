"""Linear layers of a CPU through oneDNN, which takes a fifth less time than torch's default library on some processors.

torch has the operator for its own compiler and promises nothing about it. So it is tried once a process, and used only
where it gives what torch's own layers give up to rounding; without it, and wherever gradients, another dtype or
autocast are asked for, torch's own do the work.
"""

from collections.abc import Callable
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_FEWEST_ROWS = 256  # of fewer, the call costs as much as it saves
_TOLERANCE = 1e-5  # of numbers of about 1, summed over 512 products


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
        type(layer) is nn.Linear  # another kind, such as a quantised one, knows what it does
        and inputs.is_cpu
        and inputs.dtype == layer.weight.dtype == torch.float32
        and inputs.numel() >= _FEWEST_ROWS * inputs.shape[-1]
        and not torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
        and _trusted()
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
    random = torch.Generator().manual_seed(0)
    inputs = torch.randn(2, 150, 512, generator=random)
    layer = nn.Linear(512, 96)
    layer.weight.copy_(torch.randn(96, 512, generator=random) * 512**-0.5)
    expected = layer(inputs)
    pairs = ((_product(inputs, layer, "none"), expected), (_product(inputs, layer, "gelu"), F.gelu(expected)))
    return all(torch.allclose(ours, theirs, rtol=0, atol=_TOLERANCE) for ours, theirs in pairs)
