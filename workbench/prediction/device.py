"""Where the model runs and in which precision: what `auto` means for device, dtype, batch size and compiling."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from workbench.errors import OptionError, did_you_mean

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_BATCH_OF_640 = {"cuda": 16}
_BATCH_ELSEWHERE = 2  # measured: a CPU is not faster with more, and waits longer for Ctrl-C
_LARGEST_BATCH = 64
COMPILE_FROM = 2000
"""Images from which compiling is expected to pay: some ten seconds against a millisecond or so of each. An estimate."""


def choose_device(name: str) -> torch.device:
    """The device of that name; "auto" is the GPU where there is one, else the CPU. Raises OptionError for others."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # torch's own answers to unknown and absent devices
        reason = str(error).splitlines()[0]
        raise OptionError(f"device {name!r} cannot be used ({reason}). Use auto, cpu, cuda or cuda:N.") from error
    return device


@contextmanager
def exact_convolutions() -> Iterator[None]:
    """Convolutions of float32 in float32: on a GPU torch lets cuDNN round their inputs to the ten bits of TF32."""
    settings = torch.backends.cudnn.conv  # type: ignore[attr-defined]
    before = settings.fp32_precision
    settings.fp32_precision = "ieee"
    try:
        yield
    finally:
        settings.fp32_precision = before


def choose_dtype(name: str, device: torch.device) -> str:
    """The name of a dtype; "auto" is bfloat16 on a GPU and float32, the bit-faithful one, elsewhere."""
    if name == "auto":
        return "bfloat16" if device.type == "cuda" else "float32"
    if name not in DTYPES:
        raise OptionError(f"no dtype {name!r}. {did_you_mean(name, ('auto', *DTYPES))}")
    return name


def choose_batch_size(wanted: int | str, device: torch.device, input_hw: tuple[int, int]) -> int:
    """Inputs of a forward pass: a number, or "auto".

    "auto" is 2 on a CPU; on a GPU 16 inputs of 640x640, more of smaller and fewer of larger ones, from 1 to 64.
    """
    if wanted == "auto":
        base = _BATCH_OF_640.get(device.type)
        scaled = base * 640 * 640 // (input_hw[0] * input_hw[1]) if base else _BATCH_ELSEWHERE
        return max(1, min(_LARGEST_BATCH, scaled))
    if isinstance(wanted, str) or wanted < 1:
        raise OptionError(f"batch size {wanted!r}: give a whole number from 1, or auto.")
    return wanted


def choose_compiled(wanted: bool | None, device: torch.device, dtype: str, images: int) -> bool:
    """Whether the model goes through torch's compiler; None leaves it to the number of images to predict.

    It is for a GPU and below float32, which is to stay what it is to the bit. Raises OptionError elsewhere.
    """
    possible = device.type == "cuda" and dtype != "float32"
    if wanted and not possible:
        raise OptionError(
            f"--compile is for a GPU with --dtype bfloat16 or float16, not for {device} with {dtype}. Leave it out."
        )
    return possible and (images >= COMPILE_FROM if wanted is None else wanted)
