"""The image processors of transformers, made importable where torchvision's compiled part does not fit the
installed torch."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

_KEPT_ALIVE: list[torch.library.Library] = []


def transformers_processors() -> tuple[type[Any], type[Any]]:
    """`EomtImageProcessor` (torchvision backend) and `EomtImageProcessorPil` of transformers."""
    _make_torchvision_importable()
    from transformers.models.eomt.image_processing_eomt import EomtImageProcessor
    from transformers.models.eomt.image_processing_pil_eomt import EomtImageProcessorPil

    return EomtImageProcessor, EomtImageProcessorPil


def _make_torchvision_importable() -> None:
    """Declare the two operators whose fake versions torchvision registers while it is imported.

    They belong to its compiled part, which a CPU build of torch cannot load from a CUDA wheel. Only the
    signatures are given: resizing and normalising, all that the oracle uses, are Python on top of torch, and
    a call to these would fail.
    """
    if hasattr(torch.ops.torchvision, "nms") or _compiled_part_loads():
        return
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _KEPT_ALIVE.append(library)


def _compiled_part_loads() -> bool:
    spec = find_spec("torchvision")
    if spec is None or spec.origin is None:
        return False
    try:
        torch.ops.load_library(Path(spec.origin).parent / "_C.so")
    except OSError:
        return False
    return True
