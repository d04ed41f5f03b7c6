"""Trains the bundled checkpoint from scratch on fresh scenes: `python -m workbench.sample.train --out runs/scenes`."""

import json
import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import click
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader

from eomt.configuration import EomtConfig
from eomt.modeling import EomtForUniversalSegmentation
from workbench.sample.classes import CLASSES
from workbench.sample.samples import SceneStream, collate

LOG_EVERY = 50  # steps
POSITIONS = "embeddings.position_embeddings.weight"
TRAINING_SEED = 1  # the committed validation images are those of seed 0
CONFIG = EomtConfig(
    hidden_size=192, num_hidden_layers=8, num_attention_heads=3, image_size=128, patch_size=8,
    num_blocks=4, num_queries=32, num_upscale_blocks=1, train_num_points=784,
    id2label={index: scene_class.name for index, scene_class in enumerate(CLASSES)},
)  # fmt: skip


@dataclass(frozen=True)
class Recipe:
    """What one training run is made of; progress runs from 0 to 1 over `minutes` of training time."""

    minutes: float = 90.0
    batch_size: int = 8
    learning_rate: float = 8e-4
    weight_decay: float = 0.05
    warmup_steps: int = 300
    clip_norm: float = 20.0
    ema_decay: float = 0.999
    dense_weight: float = 10.0
    dense_until: float = 0.6  # the share of the training after which the dense loss is gone
    mask_until: float = 0.85  # the share after which no query's attention is masked any more
    small_until: float = 0.42  # the share that is learned from images of CONFIG's size, which costs half as much
    final_size: int = 160


class DenseHead(nn.Module):
    """A helper that is thrown away: it names the class of every patch quarter and points to its segment's centre.

    A backbone without pretraining learns what is where from it long before the queries are sorted out.
    """

    def __init__(self, config: EomtConfig) -> None:
        super().__init__()
        self.config = config
        self.project = nn.Linear(config.hidden_size, 4 * (config.num_labels + 1 + 2))

    def forward(self, patches: Tensor, masks: list[Tensor], classes: list[Tensor]) -> Tensor:
        """The loss of patch tokens (B, P, D) against the targets."""
        rows, columns = self.config.grid_size
        output = F.pixel_shuffle(self.project(patches).float().transpose(1, 2).unflatten(2, (rows, columns)), 2)
        logits, offsets = output[:, :-2], output[:, -2:]
        pairs = [self._targets(m, c, 2 * rows, 2 * columns) for m, c in zip(masks, classes, strict=True)]
        label, offset = (torch.stack(part) for part in zip(*pairs, strict=True))
        known = (label < self.config.num_labels)[:, None]
        distance = ((offsets - offset).abs() * known).sum() / known.sum().clamp(min=1)
        loss: Tensor = F.cross_entropy(logits, label) + distance
        return loss

    def _targets(self, masks: Tensor, classes: Tensor, rows: int, columns: int) -> tuple[Tensor, Tensor]:
        """Class (rows, columns), void last, and the way to the segment's centre (2, rows, columns), canvas = 2."""
        small = F.interpolate(masks[None].float(), size=(rows, columns), mode="area")[0]  # (n, rows, columns)
        share, owner = small.max(0)
        label = torch.where(share > 0.3, classes[owner], self.config.num_labels)
        grid = torch.stack(torch.meshgrid(torch.linspace(-1, 1, rows), torch.linspace(-1, 1, columns), indexing="ij"))
        weight = small.flatten(1)
        centres = weight @ grid.flatten(1).T / weight.sum(1, keepdim=True).clamp(min=1e-6)  # (n, 2)
        return label, centres[owner].permute(2, 0, 1) - grid


def new_model(config: EomtConfig) -> EomtForUniversalSegmentation:
    """A fresh model whose patches know their place from the start (sines, as in Vaswani et al. 2017, section 3.5)."""
    model = EomtForUniversalSegmentation(config)
    rows, columns = config.grid_size
    quarter = config.hidden_size // 4
    rates = 1 / (100 ** (torch.arange(quarter) / quarter))

    def waves(count: int) -> Tensor:
        angle = torch.arange(count)[:, None] * rates
        return torch.cat((angle.sin(), angle.cos()), dim=1)  # (count, D/2)

    y, x = waves(rows)[:, None].expand(-1, columns, -1), waves(columns)[None].expand(rows, -1, -1)
    with torch.no_grad():
        model.get_parameter(POSITIONS).copy_(torch.cat((y, x), dim=2).flatten(0, 1) * 0.5)
        model.query.weight.mul_(0.5)
    return model


def resized_positions(weight: Tensor, grid: tuple[int, int], new_grid: tuple[int, int]) -> Tensor:
    """Position embeddings (rows * columns, D), or what an optimizer keeps of them, stretched to another grid."""
    image = weight.T.reshape(1, -1, *grid)  # (1, D, rows, columns)
    return F.interpolate(image, size=new_grid, mode="bilinear", align_corners=False)[0].flatten(1).T.contiguous()


def learning_rate(recipe: Recipe, step: int, progress: float) -> float:
    """Linear warm-up by step, then half a cosine by progress."""
    return recipe.learning_rate * min(1, (step + 1) / recipe.warmup_steps) * 0.5 * (1 + math.cos(math.pi * progress))


def mask_probs(recipe: Recipe, blocks: int, progress: float) -> Tensor:
    """The share of masked queries in each block: the earlier the block, the sooner it falls to zero."""
    starts = torch.linspace(0, recipe.mask_until / 2, blocks)
    return (1 - (progress - starts) / (recipe.mask_until / 2)).clamp(0, 1) ** 0.9


@torch.no_grad()
def follow(average: nn.Module, model: nn.Module, decay: float) -> None:
    """Move the averaged weights towards the model's; other buffers are copied."""
    torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1 - decay)
    for mine, theirs in zip(average.buffers(), model.buffers(), strict=True):
        mine.copy_(theirs)


class Training:
    """The state of a run: everything that a resume needs."""

    def __init__(self, recipe: Recipe, config: EomtConfig, out: Path) -> None:
        torch.manual_seed(0)
        self.recipe, self.out, self.step, self.seconds = recipe, out, 0, 0.0
        self._build(config)
        self.average.load_state_dict(self.model.state_dict())

    def _build(self, config: EomtConfig) -> None:
        self.model, self.average, self.dense = new_model(config), new_model(config), DenseHead(config)
        self.weights = [*self.model.parameters(), *self.dense.parameters()]
        self.optimizer = torch.optim.AdamW(
            self.weights, betas=(0.9, 0.98), weight_decay=self.recipe.weight_decay, fused=True
        )

    def _states(self) -> dict[str, Any]:
        return {name: getattr(self, name).state_dict() for name in ("model", "average", "dense", "optimizer")}

    def _load(self, states: dict[str, Any]) -> None:
        for name in ("model", "average", "dense", "optimizer"):
            getattr(self, name).load_state_dict(states[name])

    @property
    def size(self) -> int:
        """Edge of the square input in pixels."""
        return self.model.config.image_size_hw[0]

    @property
    def progress(self) -> float:
        """Share of the training time that has passed."""
        return min(1.0, self.seconds / (self.recipe.minutes * 60))

    def grow(self, size: int) -> None:
        """Go on with larger images: everything learned stays, the position embeddings are stretched."""
        states = self._states()
        old, config = self.model.config, replace(self.model.config, image_size=size)
        self._build(config)
        number = [parameter for parameter, _ in self.model.named_parameters()].index(POSITIONS)
        moments = states["optimizer"]["state"].get(number, {})
        kept = [(states[part], POSITIONS) for part in ("model", "average")]
        for holder, key in [*kept, (moments, "exp_avg"), (moments, "exp_avg_sq")]:
            if key in holder:
                holder[key] = resized_positions(holder[key], old.grid_size, config.grid_size)
        self._load(states)

    def learn(self, pixels: Tensor, masks: list[Tensor], classes: list[Tensor]) -> dict[str, float]:
        """One step on one batch; returns its losses."""
        recipe, config = self.recipe, self.model.config
        rate = learning_rate(recipe, self.step, self.progress)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.model.attn_mask_probs.copy_(mask_probs(recipe, config.num_blocks, self.progress))
        with torch.autocast("cpu", torch.bfloat16):
            output = self.model(pixels, masks, classes, output_hidden_states=True)
            loss = output.loss
            dense_weight = recipe.dense_weight * max(0.0, 1 - self.progress / recipe.dense_until)
            if dense_weight:
                patches = output.hidden_states[config.num_hidden_layers - config.num_blocks]
                dense = self.dense(patches[:, config.num_prefix_tokens :], masks, classes)
                loss = loss + dense_weight * dense
        self.optimizer.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.weights, recipe.clip_norm)
        self.optimizer.step()
        self.step += 1
        follow(self.average, self.model, min(recipe.ema_decay, self.step / (self.step + 10)))
        return {
            "loss": output.loss.item(), "dense": dense.item() if dense_weight else 0.0,
            "norm": norm.item(), "rate": rate,
        }  # fmt: skip

    def log(self, losses: list[dict[str, float]]) -> None:
        """Add a line to the log: JSON with step, minutes and the means of what `learn` returned since the last line."""
        means = {name: sum(entry[name] for entry in losses) / len(losses) for name in losses[0]}
        line = {"step": self.step, "minutes": self.seconds / 60, "size": self.size, **means}
        with (self.out / "log.jsonl").open("a") as file:
            file.write(json.dumps({name: round(value, 6) for name, value in line.items()}) + "\n")

    def save(self) -> None:
        """The averaged model in the published layout, and the state to resume from."""
        self.average.save_pretrained(self.out / "checkpoint")
        content = {"size": self.size, "step": self.step, "seconds": self.seconds, **self._states()}
        torch.save(content, self.out / "state.pt.part")
        (self.out / "state.pt.part").replace(self.out / "state.pt")

    def resume(self) -> None:
        """Go on from the state in the output folder, if there is one."""
        if not (self.out / "state.pt").exists():
            return
        content = torch.load(self.out / "state.pt", weights_only=True)
        if content["size"] != self.size:
            self._build(replace(self.model.config, image_size=content["size"]))
        self._load(content)
        self.step, self.seconds = content["step"], content["seconds"]


def batches(training: Training) -> Iterator[tuple[Tensor, list[Tensor], list[Tensor]]]:
    """Endless fresh batches for the size that the model has now."""
    size, batch_size = training.size, training.recipe.batch_size
    stream = SceneStream(TRAINING_SEED, training.step * batch_size, size)
    loader = DataLoader(stream, batch_size, num_workers=1, collate_fn=collate, prefetch_factor=8)
    yield from loader


def run(training: Training, save_every: float = 180) -> None:
    """Learn until the time is up; a line of JSON every 50 steps, a checkpoint every `save_every` seconds."""
    recipe = training.recipe
    before = saved = time.monotonic()
    recent: list[dict[str, float]] = []
    while training.progress < 1:
        if training.size != recipe.final_size and training.progress >= recipe.small_until:
            training.grow(recipe.final_size)
        stage_end = recipe.small_until if training.size != recipe.final_size else 1.0
        for batch in batches(training):
            recent.append(training.learn(*batch))
            now = time.monotonic()
            training.seconds, before = training.seconds + now - before, now
            if training.step % LOG_EVERY == 0:
                training.log(recent)
                recent = []
            ended = training.progress >= stage_end
            if ended or now - saved > save_every:
                training.save()
                saved = now
            if ended:
                break


@click.command()
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder; an unfinished run there goes on.")
@click.option("--minutes", type=float, default=Recipe.minutes, show_default=True, help="Training time on one thread.")
def main(out: Path, minutes: float) -> None:
    """Train a small EoMT on generated scenes; the result is OUT/checkpoint."""
    torch.set_num_threads(1)
    out.mkdir(parents=True, exist_ok=True)
    training = Training(replace(Recipe(), minutes=minutes), CONFIG, out)
    training.resume()
    (out / "recipe.json").write_text(json.dumps(asdict(training.recipe), indent=2) + "\n")
    run(training)


if __name__ == "__main__":
    main()
