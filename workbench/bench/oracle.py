"""transformers' EoMT to measure against, importable where torchvision's compiled part does not fit torch."""

from typing import Any

import torch
from torch import nn

from eomt.modeling import EomtForUniversalSegmentation
from workbench.errors import WorkbenchError

_KEPT_ALIVE: list[Any] = []


def transformers_model(ours: EomtForUniversalSegmentation) -> nn.Module:
    """transformers' model with the same configuration and weights. Raises WorkbenchError where it is not installed."""
    _declare_torchvision_operators()
    try:
        import transformers
        from transformers.models.eomt.modeling_eomt import EomtForUniversalSegmentation as Theirs
    except ImportError as error:
        raise _missing(error) from error
    make: Any = Theirs._from_config
    config = transformers.EomtConfig.from_dict(ours.config.to_dict())
    theirs: nn.Module = make(config, dtype=ours.dtype)
    theirs.load_state_dict(ours.state_dict())
    return theirs


def transformers_processor(**settings: Any) -> Any:
    """transformers' image processor for EoMT. Raises WorkbenchError where it is not installed."""
    _declare_torchvision_operators()
    try:
        from transformers.models.eomt.image_processing_eomt import EomtImageProcessor
    except ImportError as error:
        raise _missing(error) from error
    make: Any = EomtImageProcessor
    return make(**settings)


def _missing(error: ImportError) -> WorkbenchError:
    return WorkbenchError(
        f"this benchmark compares with transformers, which cannot be imported ({error}): "
        "pip install 'transformers==5.23.0'."
    )


def _declare_torchvision_operators() -> None:
    """torchvision registers shapes for two compiled operators while it is imported; nothing here calls them."""
    try:
        import torchvision  # type: ignore[import-untyped, unused-ignore]  # noqa: F401
    except ImportError:  # transformers does without it
        return
    except RuntimeError:  # "operator torchvision::nms does not exist"
        make_library: Any = torch.library.Library  # which has no type annotations
        library = make_library("torchvision", "FRAGMENT")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _KEPT_ALIVE.append(library)
