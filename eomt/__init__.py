"""EoMT, the Encoder-only Mask Transformer (Kerssies et al., CVPR 2025), as a plain PyTorch library.

The public names below are loaded when they are first used, so that `import eomt.label_maps` costs no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from eomt.auto import load_model as load_model
    from eomt.backbones import from_backbone as from_backbone
    from eomt.backbones import load_delta as load_delta
    from eomt.checkpoint import CheckpointWarning as CheckpointWarning
    from eomt.configuration import EomtConfig as EomtConfig
    from eomt.dinov3 import EomtDinov3Config as EomtDinov3Config
    from eomt.dinov3 import EomtDinov3ForUniversalSegmentation as EomtDinov3ForUniversalSegmentation
    from eomt.errors import CheckpointError as CheckpointError
    from eomt.errors import ConfigError as ConfigError
    from eomt.errors import EomtError as EomtError
    from eomt.errors import ImageInputError as ImageInputError
    from eomt.errors import LabelMapError as LabelMapError
    from eomt.errors import ProcessorError as ProcessorError
    from eomt.hub import HubOptions as HubOptions
    from eomt.image_processing import EomtImageProcessor as EomtImageProcessor
    from eomt.image_processing import EomtImageProcessorPil as EomtImageProcessorPil
    from eomt.loss import EomtLoss as EomtLoss
    from eomt.modeling import EomtForUniversalSegmentation as EomtForUniversalSegmentation
    from eomt.outputs import EomtForUniversalSegmentationOutput as EomtForUniversalSegmentationOutput

_HOME = {
    "CheckpointError": "errors",
    "CheckpointWarning": "checkpoint",
    "ConfigError": "errors",
    "EomtConfig": "configuration",
    "EomtDinov3Config": "dinov3",
    "EomtDinov3ForUniversalSegmentation": "dinov3",
    "EomtError": "errors",
    "EomtForUniversalSegmentation": "modeling",
    "EomtForUniversalSegmentationOutput": "outputs",
    "EomtImageProcessor": "image_processing",
    "EomtImageProcessorPil": "image_processing",
    "EomtLoss": "loss",
    "HubOptions": "hub",
    "ImageInputError": "errors",
    "LabelMapError": "errors",
    "ProcessorError": "errors",
    "from_backbone": "backbones",
    "load_delta": "backbones",
    "load_model": "auto",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'eomt' has no attribute {name!r}")
    value = getattr(import_module(f"eomt.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
