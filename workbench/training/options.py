"""What a training is asked to be, checked before anything is read, with the recipe that follows from it."""

from dataclasses import dataclass, field, replace
from math import ceil
from typing import Any, Literal, get_args

import torch

from eomt.recipe import Recipe, dinov3_recipe, scratch_recipe
from workbench.errors import OptionError, did_you_mean
from workbench.formats.base import Task
from workbench.training.augmentation import NONE, Augmentation, original_augmentation
from workbench.training.start import Kind, StartOptions

Variation = Literal["original", "none"]
VARIATIONS: tuple[Variation, ...] = get_args(Variation)

_EPOCHS = 12.0  # of the original on COCO
_BATCH = 16  # of the original, over all processes
_FULL_LENGTH = 20_000  # steps from which on warm-ups are the original's; shorter trainings shorten them in proportion
_DTYPES = {"float32": None, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class TrainOptions:
    """The options of `workbench train`; None means the default, which may depend on data, model and machine.

    Their meaning is told in `workbench.train`. Raises OptionError for values that make no training.
    """

    start: StartOptions = field(default_factory=StartOptions)
    task: str | None = None
    steps: int | None = None
    epochs: float | None = None
    batch_size: int | None = None
    accumulate: int = 1
    lr: float | None = None
    weight_decay: float | None = None
    layer_decay: float | None = None
    clip_norm: float | None = None
    lr_end: float | None = None
    betas: tuple[float, float] | None = None
    annealing: tuple[float, float] | None = None
    dense_weight: float | None = None
    dense_until: float | None = None
    warmup: int | None = None
    ema: float | None = None
    augmentation: str = "original"
    scale: tuple[float, float] | None = None
    dtype: str = "auto"
    gradient_checkpointing: bool = False
    seed: int = 0
    eval_every: int | None = None
    eval_limit: int | None = None
    save_every: int | None = None
    log_every: int | None = None

    def __post_init__(self) -> None:
        if self.steps is not None and self.epochs is not None:
            raise OptionError(f"--steps {self.steps} and --epochs {self.epochs:g} both say how long: give one.")
        for name in ("steps", "epochs", "batch_size", "accumulate", "lr", "clip_norm", "eval_every", "eval_limit"):
            _check_positive(name, getattr(self, name))
        for name in ("save_every", "log_every"):
            _check_positive(name, getattr(self, name))
        for name in ("weight_decay", "warmup", "seed", "dense_weight"):
            _check_not_negative(name, getattr(self, name))
        for name in ("lr_end", "annealing", "betas"):
            _check_shares(name, getattr(self, name))
        if self.annealing is not None and self.annealing[0] > self.annealing[1]:
            raise OptionError(f"--annealing is {_pair(self.annealing)}; give START END, with START <= END.")
        if self.betas is not None and max(self.betas) == 1:
            raise OptionError(f"--betas is {_pair(self.betas)}; each must be below 1.")
        for name in ("ema", "layer_decay", "dense_until"):
            value = getattr(self, name)
            if value is not None and not 0 < value <= 1:
                raise OptionError(f"{_flag(name)} is {value}; it must be above 0 and at most 1.")
        if self.augmentation not in VARIATIONS:
            raise OptionError(f"no augmentation {self.augmentation!r}. {did_you_mean(self.augmentation, VARIATIONS)}")
        if self.scale is not None and not 0 < self.scale[0] <= self.scale[1]:
            raise OptionError(f"--scale is {self.scale[0]:g} {self.scale[1]:g}; give LOW HIGH, with 0 < LOW <= HIGH.")

    def augmentation_for(self, task: Task) -> Augmentation:
        """How images of that task are varied."""
        how = original_augmentation(task) if self.augmentation == "original" else NONE
        return how if self.scale is None else replace(how, scale=self.scale)

    def batch(self, processes: int) -> int:
        """Images of a forward pass of one process; by default the original's 16 shared out."""
        return self.batch_size or max(1, _BATCH // (processes * self.accumulate))

    def total_steps(self, images: int, images_a_step: int) -> int:
        """Updates of the weights, for a dataset of that many images; 12 epochs where nothing is said."""
        if self.steps is not None:
            return self.steps
        return max(1, ceil((self.epochs or _EPOCHS) * images / images_a_step))

    def recipe(self, kind: Kind, dinov3: bool, total_steps: int, dtype: str) -> Recipe:
        """The numbers of the training: the original's, or our own for random weights, with what was given."""
        make: Any = scratch_recipe if kind == "scratch" else dinov3_recipe if dinov3 else Recipe
        given = {
            "learning_rate": self.lr,
            "weight_decay": self.weight_decay,
            "layer_decay": self.layer_decay,
            "clip_norm": self.clip_norm,
            "end_share": self.lr_end,
            "betas": self.betas,
            "annealing_span": self.annealing,
            "dense_weight": self.dense_weight,
            "dense_until": self.dense_until,
            "average_decay": self.ema,
        }
        changes = {name: value for name, value in given.items() if value is not None}
        recipe: Recipe = make(total_steps, autocast_dtype=_DTYPES[dtype], **changes)
        return self._with_warmups(recipe, kind)

    def _with_warmups(self, recipe: Recipe, kind: Kind) -> Recipe:
        if self.warmup is not None:
            share = self.warmup / max(1, recipe.head_warmup)
        else:  # the recipe for random weights knows its length already
            share = 1.0 if kind == "scratch" else min(1.0, recipe.total_steps / _FULL_LENGTH)
        return replace(
            recipe,
            head_warmup=round(share * recipe.head_warmup),
            backbone_hold=round(share * recipe.backbone_hold),
            backbone_warmup=round(share * recipe.backbone_warmup),
        )


def _check_positive(name: str, value: float | None) -> None:
    if value is not None and not value > 0:
        raise OptionError(f"{_flag(name)} is {value}; it must be above 0.")


def _check_not_negative(name: str, value: float | None) -> None:
    if value is not None and not value >= 0:
        raise OptionError(f"{_flag(name)} is {value}; it must be at least 0.")


def _check_shares(name: str, given: float | tuple[float, float] | None) -> None:
    shares = given if isinstance(given, tuple) else () if given is None else (given,)
    if not all(0 <= share <= 1 for share in shares):
        raise OptionError(f"{_flag(name)} is {_pair(shares)}; it must be at least 0 and at most 1.")


def _pair(numbers: tuple[float, ...]) -> str:
    return " ".join(f"{number:g}" for number in numbers)


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
