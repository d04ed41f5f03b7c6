"""How an EoMT is trained: parameter groups, learning rates, mask annealing and one optimizer step.

The numbers are those of the original recipe: AdamW with layer-wise decay, heads warmed up before the backbone,
polynomial decay, gradients clipped to a small norm, masked attention phased out block by block. Source: Kerssies et al.
2025, section 4 and appendix; tue-mps/eomt, training/lightning_module.py and two_stage_warmup_poly_schedule.py.
"""

import copy
import math
from collections import defaultdict
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from eomt.modeling import EomtForUniversalSegmentation

# Everything that the pre-trained ViT brings; the other parameters are the heads, which start from nothing.
BACKBONE = ("embeddings", "layers", "layernorm")


@dataclass(frozen=True)
class Recipe:
    """The numbers of one training; the defaults are the original's for a DINOv2 backbone and batches of 16.

    A step is one update of the weights, whatever number of micro-batches it takes. The rate of the heads climbs for
    `head_warmup` steps; that of the backbone is zero for `backbone_hold` steps, then climbs for `backbone_warmup`;
    both then fall to zero at `total_steps` as (1 - progress) ** `power`. Raises ValueError for numbers that make no
    training.
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
    clip_norm: float = 0.01
    annealing: tuple[tuple[int, int], ...] | None = None  # (start, end) step per block; None: `annealing_windows`
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


def parameter_groups(model: EomtForUniversalSegmentation, recipe: Recipe) -> list[dict[str, Any]]:
    """Optimizer groups that hold every trainable parameter once, one group for each part and rate.

    Beside `params`, `lr` and `weight_decay` a group says its `names`, its `part` ("backbone" or "heads") and its
    `base_lr`, the rate that the schedule scales. Frozen parameters are left out.
    """
    members: defaultdict[tuple[str, float], list[tuple[str, nn.Parameter]]] = defaultdict(list)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            part = "backbone" if name.split(".")[0] in BACKBONE else "heads"
            rate = recipe.learning_rate * recipe.layer_decay ** _layers_above(name, model, recipe)
            members[part, rate].append((name, parameter))
    return [
        {
            "params": [parameter for _, parameter in named],
            "names": [name for name, _ in named],
            "part": part,
            "lr": rate,
            "base_lr": rate,
            "weight_decay": recipe.weight_decay,
        }
        for (part, rate), named in members.items()
    ]


def _layers_above(name: str, model: EomtForUniversalSegmentation, recipe: Recipe) -> int:
    """How many times a parameter's rate is decayed; the embeddings count as part of layer 0."""
    config = model.config
    part, _, rest = name.partition(".")
    if part not in ("embeddings", "layers"):
        return 0
    layer = int(rest.partition(".")[0]) if part == "layers" else 0
    if part == "layers" and not recipe.decay_query_blocks and layer >= config.num_hidden_layers - config.num_blocks:
        return 0
    return config.num_hidden_layers - 1 - layer


def rate_factor(step: int, total_steps: int, hold: int, warmup: int, power: float = 0.9) -> float:
    """The share of its base learning rate at which a part learns in `step` (counted from 0).

    0 for `hold` steps, then linearly from 0 to 1 in `warmup` steps, then (1 - progress) ** power down to 0 at the end.
    """
    if step < hold:
        return 0.0
    if step < hold + warmup:
        return (step - hold) / warmup
    progress = (step - hold - warmup) / max(1, total_steps - hold - warmup)
    return float((1 - min(progress, 1.0)) ** power)


def set_learning_rates(optimizer: torch.optim.Optimizer, step: int, recipe: Recipe) -> None:
    """Give every group of `parameter_groups` the rate that it has in `step`."""
    holds = {"heads": (0, recipe.head_warmup), "backbone": (recipe.backbone_hold, recipe.backbone_warmup)}
    for group in optimizer.param_groups:
        hold, warmup = holds[group["part"]]
        group["lr"] = group["base_lr"] * rate_factor(step, recipe.total_steps, hold, warmup, recipe.power)


def annealing_windows(total_steps: int, num_blocks: int) -> tuple[tuple[int, int], ...]:
    """(start, end) of each block's annealing in steps, first block first.

    A window lasts a sixth of the training; the first opens after one sixth, the last after four. This rule gives the
    steps written in the original's configurations (COCO large and Cityscapes base, for instance).
    """
    if num_blocks == 1:
        return ((5 * total_steps // 12, 7 * total_steps // 12),)
    gaps = num_blocks - 1
    return tuple(
        (total_steps * (gaps + 3 * block) // (6 * gaps), total_steps * (2 * gaps + 3 * block) // (6 * gaps))
        for block in range(num_blocks)
    )


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
    windows = recipe.annealing or annealing_windows(recipe.total_steps, num_blocks)
    if len(windows) != num_blocks:
        raise ValueError(f"annealing has {len(windows)} (start, end) windows for the model's {num_blocks} blocks")
    probabilities = [mask_probability(step, start, end, recipe.power) for start, end in windows]
    model.attn_mask_probs.copy_(torch.tensor(probabilities))


class WeightAverage:
    """An exponential moving average of a model's weights, as a model of its own that can predict and be saved."""

    def __init__(self, model: EomtForUniversalSegmentation, decay: float):
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, model: EomtForUniversalSegmentation, step: int) -> None:
        """Take in the weights after `step`; early on the average is shorter, so that the start is soon forgotten."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for mean, weight in zip(self.model.parameters(), model.parameters(), strict=True):
            mean.lerp_(weight, 1 - decay)
        for kept, buffer in zip(self.model.buffers(), model.buffers(), strict=True):
            kept.copy_(buffer)


@dataclass(frozen=True)
class Batch:
    """What one forward pass learns from: B images and their targets, on the model's device.

    `pixel_values` (B, C, H, W) float; `mask_labels` B tensors (n_i, h, w) of 0 and 1; `class_labels` B tensors (n_i,)
    int64. The image processor's output has these three under the same names.
    """

    pixel_values: Tensor
    mask_labels: list[Tensor]
    class_labels: list[Tensor]


@dataclass(frozen=True)
class StepReport:
    """What one step did. `loss` and `loss_parts` are means over its micro-batches, before the update.

    `gradient_norm` is taken before clipping. `skipped`: it was not finite, and the weights were left as they are.
    """

    step: int
    loss: float
    loss_parts: dict[str, float]
    gradient_norm: float
    learning_rates: dict[str, float]  # the highest of each part
    skipped: bool


@dataclass
class TrainingState:
    """All that changes in a training; `step` counts the steps taken.

    `parallel` wraps the model where several processes train together; it averages their gradients once a step.
    """

    model: EomtForUniversalSegmentation
    optimizer: torch.optim.Optimizer
    recipe: Recipe
    step: int = 0
    average: WeightAverage | None = None
    parallel: DistributedDataParallel | None = None

    def state_dict(self) -> dict[str, Any]:
        """All of it as tensors and numbers, torch's random state too, so that a resumed training goes on bit-equal."""
        device = self.model.device
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": None if self.average is None else self.average.model.state_dict(),
            "step": self.step,
            "random": torch.get_rng_state(),
            "device_random": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Go back to what `state_dict` returned; the model and the recipe must be those of that training."""
        self.model.load_state_dict(saved["model"])
        self.optimizer.load_state_dict(saved["optimizer"])
        if self.average is not None:
            self.average.model.load_state_dict(saved["average"])
        self.step = saved["step"]
        torch.set_rng_state(saved["random"].cpu())
        if saved["device_random"] is not None:
            torch.cuda.set_rng_state(saved["device_random"].cpu(), self.model.device)


def start_training(model: EomtForUniversalSegmentation, recipe: Recipe) -> TrainingState:
    """A training of `model` that has taken no step: AdamW over `parameter_groups`, an average if the recipe has one."""
    optimizer = torch.optim.AdamW(parameter_groups(model, recipe))
    average = None if recipe.average_decay is None else WeightAverage(model, recipe.average_decay)
    return TrainingState(model, optimizer, recipe, average=average)


def training_step(state: TrainingState, batches: Sequence[Batch]) -> StepReport:
    """Update the weights once from the mean loss of one or more micro-batches (gradient accumulation).

    Puts the model in training mode, and sets the rates and mask probabilities of the step first. Where the gradient is
    not finite the update is skipped: one bad batch must not end a training.
    """
    if not batches:
        raise ValueError("training_step was given no batches: give one, or as many as a step accumulates")
    model, recipe = state.model.train(), state.recipe
    set_learning_rates(state.optimizer, state.step, recipe)
    set_mask_probabilities(model, state.step, recipe)
    state.optimizer.zero_grad()
    share, last = 1 / len(batches), len(batches) - 1
    totals = [_backward(state, batch, share, last=number == last) for number, batch in enumerate(batches)]
    norm = nn.utils.clip_grad_norm_(model.parameters(), recipe.clip_norm).item()
    finite = math.isfinite(norm)
    if finite:
        state.optimizer.step()
    if state.average is not None:
        state.average.update(model, state.step)
    report = _report(state, totals, norm, skipped=not finite)
    state.step += 1
    return report


def _backward(state: TrainingState, batch: Batch, share: float, *, last: bool) -> dict[str, Tensor]:
    """Add `share` of a micro-batch's gradient; returns that share of its loss parts, detached.

    Processes exchange gradients with the `last` micro-batch of a step only.
    """
    device, dtype = batch.pixel_values.device.type, state.recipe.autocast_dtype
    network: nn.Module = state.model if state.parallel is None else state.parallel
    alone = nullcontext() if state.parallel is None or last else state.parallel.no_sync()
    with alone:
        with torch.autocast(device, dtype, enabled=dtype is not None):
            output = network(batch.pixel_values, batch.mask_labels, batch.class_labels)
        (output.loss * share).backward()
    return {name: part.detach() * share for name, part in output.loss_parts.items()}


def _report(state: TrainingState, totals: list[dict[str, Tensor]], norm: float, *, skipped: bool) -> StepReport:
    names = list(totals[0])
    values = torch.stack([torch.stack([parts[name] for parts in totals]).sum() for name in names]).tolist()
    rates: dict[str, float] = {}
    for group in state.optimizer.param_groups:
        rates[group["part"]] = max(group["lr"], rates.get(group["part"], 0.0))
    return StepReport(state.step, sum(values), dict(zip(names, values, strict=True)), norm, rates, skipped)
