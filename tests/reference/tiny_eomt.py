"""A model of 32 x 32 pixels and a batch that it learns in seconds."""

import torch

from eomt.configuration import EomtConfig
from eomt.modeling import EomtForUniversalSegmentation
from eomt.training import Batch


def tiny_model(seed: int = 0, **changes: object) -> EomtForUniversalSegmentation:
    """Four layers of width 16 on 32 x 32 pixels; the queries pass through the last two."""
    settings: dict[str, object] = {
        "hidden_size": 16,
        "num_hidden_layers": 4,
        "num_attention_heads": 2,
        "image_size": 32,
        "patch_size": 8,
        "num_queries": 5,
        "num_blocks": 2,
        "num_upscale_blocks": 1,
        "num_labels": 3,
        "train_num_points": 64,
    }
    torch.manual_seed(seed)
    return EomtForUniversalSegmentation(EomtConfig(**(settings | changes)))  # type: ignore[arg-type]


def two_halves() -> Batch:
    """Two images, each a bright and a dark half; the halves are the targets."""
    masks = torch.zeros(2, 2, 32, 32)
    masks[0, 0, :, :16], masks[0, 1, :, 16:] = 1, 1
    masks[1, 0, :20], masks[1, 1, 20:] = 1, 1
    pixels = (2 * masks[:, :1] - 1).expand(-1, 3, -1, -1).clone()
    return Batch(pixels, list(masks), [torch.tensor([0, 2]), torch.tensor([0, 2])])
