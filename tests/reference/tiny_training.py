"""A training that takes a second: sixty scenes, a model of 32 x 32 pixels."""

import json
from pathlib import Path
from typing import Any

TINY = {
    "model_type": "eomt",
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 8,
    "num_blocks": 2,
    "num_queries": 12,
    "num_upscale_blocks": 1,
    "train_num_points": 64,
}


def tiny_config(folder: Path, **changes: Any) -> Path:
    """The path of a configuration file for `--config`."""
    path = folder / "tiny.json"
    path.write_text(json.dumps(TINY | changes))
    return path
