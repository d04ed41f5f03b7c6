"""How an EoMT is trained: its parameters in groups, an average of its weights, and one optimizer step.

What changes from step to step, rates and mask probabilities, is in `eomt.recipe`.
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

from eomt.dense_supervision import DenseSupervision, dense_share
from eomt.loss import total_loss
from eomt.modeling import EomtForUniversalSegmentation
from eomt.outputs import EomtForUniversalSegmentationOutput
from eomt.recipe import Recipe, set_learning_rates, set_mask_probabilities

# Everything that the pre-trained ViT brings; the other parameters are the heads, which start from nothing.
BACKBONE = ("embeddings", "layers", "layernorm")


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
    return [_group(dict(named), part, rate, recipe) for (part, rate), named in members.items()]


def _group(named: dict[str, nn.Parameter], part: str, rate: float, recipe: Recipe) -> dict[str, Any]:
    return {
        "params": list(named.values()),
        "names": list(named),
        "part": part,
        "lr": rate,
        "base_lr": rate,
        "weight_decay": recipe.weight_decay,
    }


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
    `dense` is the helper of a recipe with a `dense_weight`, no part of the model.
    """

    model: EomtForUniversalSegmentation
    optimizer: torch.optim.Optimizer
    recipe: Recipe
    step: int = 0
    average: WeightAverage | None = None
    parallel: DistributedDataParallel | None = None
    dense: DenseSupervision | None = None

    @property
    def parameters(self) -> list[nn.Parameter]:
        """All that the optimizer changes or could: the model's parameters and those of the helper."""
        return [*self.model.parameters(), *(() if self.dense is None else self.dense.parameters())]

    def state_dict(self) -> dict[str, Any]:
        """All of it as tensors and numbers, torch's random state too, so that a resumed training goes on bit-equal."""
        device = self.model.device
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": None if self.average is None else self.average.model.state_dict(),
            "dense": None if self.dense is None else self.dense.state_dict(),
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
        if self.dense is not None:
            self.dense.load_state_dict(saved["dense"])
        self.step = saved["step"]
        torch.set_rng_state(saved["random"].cpu())
        if saved["device_random"] is not None:
            torch.cuda.set_rng_state(saved["device_random"].cpu(), self.model.device)


def start_training(model: EomtForUniversalSegmentation, recipe: Recipe) -> TrainingState:
    """A training of `model` that has taken no step: AdamW over `parameter_groups`, average and helper if wanted."""
    groups = parameter_groups(model, recipe)
    dense = DenseSupervision(model.config).to(model.device) if recipe.dense_weight else None
    if dense is not None:
        groups.append(_group(dict(dense.named_parameters(prefix="dense")), "heads", recipe.learning_rate, recipe))
    optimizer = torch.optim.AdamW(groups, betas=recipe.betas, fused=True)
    average = None if recipe.average_decay is None else WeightAverage(model, recipe.average_decay)
    return TrainingState(model, optimizer, recipe, average=average, dense=dense)


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
    if state.parallel is not None and state.dense is not None:
        state.dense.average_gradients()
    norm = nn.utils.clip_grad_norm_(state.parameters, recipe.clip_norm).item()
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
    targets = batch.mask_labels, batch.class_labels
    with alone:
        with torch.autocast(device, dtype, enabled=dtype is not None):
            output = network(batch.pixel_values, *targets, output_hidden_states=state.dense is not None)
            parts = output.loss_parts | _dense_part(state, output, batch)
        (total_loss(parts) * share).backward()  # type: ignore[no-untyped-call]  # of torch
    return {name: part.detach() * share for name, part in parts.items()}


def _dense_part(state: TrainingState, output: EomtForUniversalSegmentationOutput, batch: Batch) -> dict[str, Tensor]:
    """The helper's weighted loss, where the training has one; zero when its time is over."""
    if state.dense is None:
        return {}
    recipe = state.recipe
    weight = recipe.dense_weight * dense_share(state.step, recipe.total_steps, recipe.dense_until)
    if weight == 0:
        return {"loss_dense": torch.zeros((), device=batch.pixel_values.device)}
    return {"loss_dense": weight * state.dense(output, batch.mask_labels, batch.class_labels)}


def _report(state: TrainingState, totals: list[dict[str, Tensor]], norm: float, *, skipped: bool) -> StepReport:
    names = list(totals[0])
    values = torch.stack([torch.stack([parts[name] for parts in totals]).sum() for name in names]).tolist()
    rates: dict[str, float] = {}
    for group in state.optimizer.param_groups:
        rates[group["part"]] = max(group["lr"], rates.get(group["part"], 0.0))
    return StepReport(state.step, sum(values), dict(zip(names, values, strict=True)), norm, rates, skipped)
