"""A model of a published size whose drawn weights segment: 20 queries that are sure of a class and share out the image.

With random weights alone no query is sure, so post-processing would have nothing to do. Here the positions are smooth,
the upscaling blocks keep them so, and the heads are fitted by least squares to a drawn picture. What the image shows
hardly matters, which is no loss where only time and agreement count.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from eomt.configuration import EomtConfig
from eomt.image_processing import EomtImageProcessor
from eomt.layers import UpscaleStep
from eomt.modeling import EomtForUniversalSegmentation
from workbench.bench.drawn_outputs import drawn_outputs

QUERIES, CLASSES, CONFIDENT = 200, 133, 20
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "s": {"hidden_size": 384, "num_hidden_layers": 12, "num_attention_heads": 6, "num_blocks": 3},
    "b": {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "num_blocks": 3},
    "l": {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "num_blocks": 4},
    "g": {
        "hidden_size": 1536,
        "num_hidden_layers": 40,
        "num_attention_heads": 24,
        "num_blocks": 5,
        "use_swiglu_ffn": True,
    },
}
"""The published small, base, large and giant."""
_WAVES = 12  # cells of the position's noise along a side
_RIDGE = 1e-3


def published_config(size: str, edge: int) -> EomtConfig:
    """The architecture of that size for inputs of edge x edge pixels."""
    return EomtConfig(image_size=edge, patch_size=16, num_queries=QUERIES, num_labels=CLASSES, **ARCHITECTURES[size])


def published_processor(task: str, edge: int) -> EomtImageProcessor:
    """Crops for semantic segmentation, else padding, as the published checkpoints have it."""
    if task == "semantic":
        return EomtImageProcessor(size={"shortest_edge": edge, "longest_edge": None}, do_split_image=True)
    return EomtImageProcessor(size={"shortest_edge": edge, "longest_edge": edge}, do_pad=True)


@torch.inference_mode()
def fitted_model(config: EomtConfig, seed: int, image: Tensor) -> EomtForUniversalSegmentation:
    """The model in eval mode, without attention masks; `image` (3, height, width), as the processor makes it, is what
    its heads are fitted on."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    model = EomtForUniversalSegmentation(config).eval()
    model.attn_mask_probs.zero_()
    _smooth(model, generator)
    tokens = model(pixel_values=image[None]).last_hidden_state
    assert tokens is not None
    edge = config.grid_size[0] * 2**config.num_upscale_blocks
    goal = drawn_outputs(seed, 1, config.num_queries, config.num_labels, edge, CONFIDENT)
    assert goal.masks_queries_logits is not None and goal.class_queries_logits is not None
    _fit_classes(model, tokens[0, : config.num_queries], goal.class_queries_logits[0])
    _fit_masks(model, tokens, goal.masks_queries_logits[0].flatten(1))
    return model


def _smooth(model: EomtForUniversalSegmentation, generator: torch.Generator) -> None:
    """Neighbouring patches get alike positions, and upscaling repeats and averages."""
    config = model.config
    noise = torch.randn(1, config.hidden_size, _WAVES, _WAVES, generator=generator)
    waves = functional.interpolate(noise, size=config.grid_size, mode="bicubic", align_corners=False)
    model.embeddings.position_embeddings.weight.copy_(waves[0].flatten(1).T)  # type: ignore[union-attr, operator]
    for step in model.upscale_block.block:
        assert isinstance(step, UpscaleStep)
        step.conv1.weight.copy_(step.conv1.weight[..., :1, :1].expand_as(step.conv1.weight))
        step.conv2.weight.fill_(1 / 9)


def _fit_classes(model: EomtForUniversalSegmentation, queries: Tensor, goal: Tensor) -> None:
    """`class_predictor` gives the class logits `goal` (Q, K+1) for `queries` (Q, D)."""
    bias = goal.mean(0)
    model.class_predictor.weight.copy_(_ridge(queries, goal - bias).T)
    model.class_predictor.bias.copy_(bias)


def _fit_masks(model: EomtForUniversalSegmentation, tokens: Tensor, goal: Tensor) -> None:
    """`mask_head.fc3` gives mask logits near `goal` (Q, h*w) for `tokens` (1, T, D)."""
    config, head = model.config, model.mask_head
    patches = tokens[:, config.num_queries + config.num_prefix_tokens :]
    grid = patches.transpose(1, 2).reshape(1, -1, *config.grid_size)
    features = model.upscale_block(grid)[0].flatten(1)  # (D, h*w)
    wanted = _ridge(features.T, goal.T).T  # (Q, D)
    hidden = head.activation(head.fc2(head.activation(head.fc1(tokens[0, : config.num_queries]))))
    head.fc3.weight.copy_(_ridge(hidden, wanted).T)
    head.fc3.bias.zero_()


def _ridge(inputs: Tensor, outputs: Tensor) -> Tensor:
    """(m, k): the weights with inputs (n, m) @ weights near outputs (n, k)."""
    inputs, outputs = inputs.double(), outputs.double()
    gram = inputs.T @ inputs
    gram.diagonal().add_(_RIDGE * gram.diagonal().mean())
    weights: Tensor = torch.linalg.solve(gram, inputs.T @ outputs)
    return weights.float()
