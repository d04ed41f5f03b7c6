"""The numbers of a training, and the rates and mask probabilities that they give for each step.

They are those of the original recipe: AdamW with layer-wise decay, heads warmed up before the backbone, polynomial
decay, gradients clipped to a small norm, masked attention phased out block by block. Source: Kerssies et al. 2025,
section 4 and appendix; tue-mps/eomt, training/lightning_module.py and two_stage_warmup_poly_schedule.py.
"""

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import torch

from eomt.modeling import EomtForUniversalSegmentation

# The share of the training at which the first block's masks begin to go, and that at which the last block's are gone.
ANNEALING_SPAN = (1 / 6, 5 / 6)


@dataclass(frozen=True)
class Recipe:
    """The numbers of one training; the defaults are the original's for a DINOv2 backbone and batches of 16.

    A step is one update of the weights, whatever number of micro-batches it takes. The rate of the heads climbs for
    `head_warmup` steps; that of the backbone is zero for `backbone_hold` steps, then climbs for `backbone_warmup`;
    both then fall to `end_share` at `total_steps` as (1 - progress) ** `power`. Raises ValueError for numbers that make
    no training.
    """

    total_steps: int
    learning_rate: float = 1e-4
    weight_decay: float = 0.05
    layer_decay: float = 0.8  # layer i of n learns at layer_decay ** (n - 1 - i) of the rate
    decay_query_blocks: bool = True  # or let the last layers, those that the queries pass through, learn at full rate
    head_warmup: int = 500
    backbone_hold: int = 500
    backbone_warmup: int = 1000
    power: float = 0.9
    end_share: float = 0.0  # of its rate that a part has at the end; above 0 where another training goes on from there
    betas: tuple[float, float] = (0.9, 0.999)  # of AdamW
    clip_norm: float = 0.01
    annealing: tuple[tuple[int, int], ...] | None = None  # (start, end) step per block; None: `annealing_windows`
    annealing_span: tuple[float, float] = ANNEALING_SPAN  # of those windows; (0, 0): attention is never masked
    dense_weight: float = 0.0  # of `DenseSupervision` at the start; 0: without it
    dense_until: float = 0.6  # the share of the training after which it is gone
    autocast_dtype: torch.dtype | None = None  # torch.bfloat16, or None for the weights' own precision
    average_decay: float | None = None  # of the moving average of the weights; None keeps no average

    def __post_init__(self) -> None:
        if self.total_steps < 1:
            raise ValueError(f"total_steps is {self.total_steps}: a training takes at least one step")
        if min(self.head_warmup, self.backbone_hold, self.backbone_warmup) < 0:
            raise ValueError(
                f"head_warmup, backbone_hold and backbone_warmup are {self.head_warmup}, {self.backbone_hold} and"
                f" {self.backbone_warmup}: give numbers of steps, 0 or more"
            )
        if any(not 0 <= start <= end for start, end in self.annealing or ()):
            raise ValueError(f"annealing is {self.annealing}: give (start, end) steps with 0 <= start <= end")
        if not 0 <= self.annealing_span[0] <= self.annealing_span[1] <= 1:
            raise ValueError(f"annealing_span is {self.annealing_span}: give shares with 0 <= start <= end <= 1")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas are {self.betas}: each must be at least 0 and below 1")
        if not 0 <= self.end_share <= 1:
            raise ValueError(f"end_share is {self.end_share}: give a share from 0 to 1")
        if self.dense_weight < 0 or not 0 <= self.dense_until <= 1:
            raise ValueError(
                f"dense_weight and dense_until are {self.dense_weight} and {self.dense_until}: give a weight of 0 or"
                " more and a share from 0 to 1"
            )
        if self.autocast_dtype not in (None, torch.bfloat16):
            raise ValueError(
                f"autocast_dtype is {self.autocast_dtype}: use torch.bfloat16 or None (float16 would need loss scaling)"
            )


def dinov3_recipe(total_steps: int, **changes: Any) -> Recipe:
    """The original's recipe for a DINOv3 backbone: twice the rate, a longer warm-up, no decay in the query blocks."""
    settings: dict[str, Any] = {
        "learning_rate": 2e-4,
        "decay_query_blocks": False,
        "head_warmup": 2000,
        "backbone_hold": 2000,
        "backbone_warmup": 3000,
    }
    return Recipe(total_steps, **(settings | changes))


def scratch_recipe(total_steps: int, **changes: Any) -> Recipe:
    """For random weights (ours, not the original's): all layers warm up together and learn at the same rate."""
    warmup = max(1, min(500, total_steps // 20))
    settings: dict[str, Any] = {
        "learning_rate": 5e-4,
        "layer_decay": 1.0,
        "head_warmup": warmup,
        "backbone_hold": 0,
        "backbone_warmup": warmup,
    }
    return Recipe(total_steps, **(settings | changes))


def rate_factor(
    step: int, total_steps: int, hold: int, warmup: int, power: float = 0.9, end_share: float = 0.0
) -> float:
    """The share of its base learning rate at which a part learns in `step` (counted from 0).

    0 for `hold` steps, then linearly from 0 to 1 in `warmup` steps, then as (1 - progress) ** power down to `end_share`
    at the end.
    """
    if step < hold:
        return 0.0
    if step < hold + warmup:
        return (step - hold) / warmup
    progress = (step - hold - warmup) / max(1, total_steps - hold - warmup)
    return float(end_share + (1 - end_share) * (1 - min(progress, 1.0)) ** power)


def set_learning_rates(optimizer: torch.optim.Optimizer, step: int, recipe: Recipe) -> None:
    """Give every group of `parameter_groups` the rate that it has in `step`."""
    holds = {"heads": (0, recipe.head_warmup), "backbone": (recipe.backbone_hold, recipe.backbone_warmup)}
    for group in optimizer.param_groups:
        hold, warmup = holds[group["part"]]
        factor = rate_factor(step, recipe.total_steps, hold, warmup, recipe.power, recipe.end_share)
        group["lr"] = group["base_lr"] * factor


def annealing_windows(
    total_steps: int, num_blocks: int, span: tuple[float, float] = ANNEALING_SPAN
) -> tuple[tuple[int, int], ...]:
    """(start, end) of each block's annealing in steps, first block first.

    A window lasts a quarter of the span; the first opens where the span begins, the last closes where it ends. By
    default windows last a sixth of the training, from one sixth to five: this gives the steps written in the original's
    configurations (COCO large and Cityscapes base, for instance).
    """
    first, end = (Fraction(share).limit_denominator(10_000) for share in span)  # exact, so that steps are those written
    length = (end - first) / 4
    gap = (end - length - first) / max(1, num_blocks - 1)
    if num_blocks == 1:
        first = (first + end - length) / 2
    starts = [first + block * gap for block in range(num_blocks)]
    return tuple((int(total_steps * start), int(total_steps * (start + length))) for start in starts)


def mask_probability(step: int, start: int, end: int, power: float = 0.9) -> float:
    """How likely a query's attention is masked: 1 before `start`, (1 - progress) ** power until `end`, then 0."""
    if step < start:
        return 1.0
    if step >= end:
        return 0.0
    return float((1 - (step - start) / (end - start)) ** power)


def set_mask_probabilities(model: EomtForUniversalSegmentation, step: int, recipe: Recipe) -> None:
    """Write each block's mask probability in `step` to `model.attn_mask_probs`; ValueError for too few windows."""
    num_blocks = model.config.num_blocks
    windows = recipe.annealing or annealing_windows(recipe.total_steps, num_blocks, recipe.annealing_span)
    if len(windows) != num_blocks:
        raise ValueError(f"annealing has {len(windows)} (start, end) windows for the model's {num_blocks} blocks")
    probabilities = [mask_probability(step, start, end, recipe.power) for start, end in windows]
    model.attn_mask_probs.copy_(torch.tensor(probabilities))
