"""What a training begins from: a checkpoint, a pre-trained backbone, or random weights."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

import eomt
from eomt.auto import config_from_json
from eomt.backbones import resize_positions
from eomt.configuration import EomtConfig
from eomt.dinov3 import EomtDinov3Config, EomtDinov3ForUniversalSegmentation
from eomt.errors import ConfigError
from eomt.hub import read_json, try_find_file
from eomt.image_processing import EomtImageProcessor
from eomt.modeling import EomtForUniversalSegmentation
from workbench.errors import ModelError, OptionError
from workbench.formats.base import Category, Task
from workbench.prediction.checkpoint import Checkpoint, open_checkpoint, place_of
from workbench.training.classes import ClassHead, class_head

_BACKBONES = ("dinov2_with_registers", "dinov3_vit")
_BACKBONE_IMAGE_SIZE = 640
_POSITIONS = "embeddings.position_embeddings.weight"

Kind = Literal["checkpoint", "backbone", "scratch"]


@dataclass(frozen=True)
class StartOptions:
    """How the user says it; at most one of the first three is given."""

    checkpoint: str | None = None
    """A checkpoint or a backbone: hub id, folder, or bundled name."""
    size: str | None = None
    """A published architecture with random weights: "small", "base", "large", "giant" or their first letters."""
    config: str | None = None
    """The path of a `config.json`, with random weights."""
    image_size: int | tuple[int, int] | None = None
    """Of the input in pixels, where it is not the checkpoint's own: edge of a square, or (height, width)."""
    points: int | None = None
    """At how many points masks are compared, where it is not the checkpoint's own number (12,544)."""


@dataclass(frozen=True)
class Start:
    """The model to be: everything but its weights."""

    kind: Kind
    name: str
    """For texts and file names."""
    config: EomtConfig | None
    """With the new classes and sizes; None for a backbone, whose own file decides the rest of it."""
    settings: dict[str, Any]
    """What the options decide, for any configuration."""
    processor: EomtImageProcessor
    head: ClassHead
    source: str | None = None
    """The hub id or folder that holds the weights."""
    checkpoint: Checkpoint | None = None

    @property
    def image_size_hw(self) -> tuple[int, int]:
        """(height, width) of the model's input in pixels."""
        if self.config is not None:
            return self.config.image_size_hw
        return _pair(self.settings["image_size"])

    def identity(self) -> dict[str, Any]:
        """What decides the weights at the beginning, as JSON values."""
        config = json.dumps(self.config.to_dict() if self.config else self.settings, sort_keys=True, default=str)
        return {
            "start": self.kind,
            "weights": self.checkpoint.weights_sha256() if self.checkpoint else self.source,
            "config_sha256": hashlib.sha256(config.encode()).hexdigest(),
            "processor": self.processor.to_dict(),
        }

    def model(self) -> EomtForUniversalSegmentation:
        """The model in float32 on the CPU. What is new in it is drawn from torch's random numbers."""
        if self.kind == "backbone":
            assert self.source is not None
            return eomt.from_backbone(self.source, **self.settings)
        assert self.config is not None
        if self.kind == "scratch":
            return random_model(self.config)
        assert self.source is not None
        return adapted(eomt.load_model(self.source, dtype=torch.float32), self.config, self.head)


def choose_start(options: StartOptions, categories: Sequence[Category], task: Task) -> Start:
    """The start that the options name, for a dataset's categories.

    Raises OptionError where they contradict each other, CheckpointError, ConfigError or ModelError where files cannot
    be used.
    """
    given = [flag for flag, value in _sources(options) if value is not None]
    if len(given) != 1:
        raise OptionError(
            f"{' and '.join(given) or 'nothing'} says where to start: give one of --from (a checkpoint or backbone to "
            "fine-tune), --size (s, b, l or g, random weights) or --config (a config.json, random weights)."
        )
    if options.checkpoint is None:
        return _from_scratch(options, categories, task)
    place = place_of(options.checkpoint)
    config_file = try_find_file(place, "config.json")
    if config_file is not None and read_json(config_file).get("model_type") in _BACKBONES:
        return _from_backbone(options, place, categories, task)
    return _from_checkpoint(options, categories, task)


def _sources(options: StartOptions) -> list[tuple[str, str | None]]:
    return [("--from", options.checkpoint), ("--size", options.size), ("--config", options.config)]


def _given(options: StartOptions) -> dict[str, Any]:
    given = {"image_size": options.image_size, "train_num_points": options.points}
    return {name: value for name, value in given.items() if value is not None}


def _from_checkpoint(options: StartOptions, categories: Sequence[Category], task: Task) -> Start:
    assert options.checkpoint is not None
    checkpoint = open_checkpoint(options.checkpoint)
    head = class_head(categories, task, checkpoint.config.id2label)
    config = replace(checkpoint.config, **_given(options)).with_labels(head.id2label)
    processor = checkpoint.processor
    if config.image_size_hw != checkpoint.config.image_size_hw or (processor.do_split_image and task != "semantic"):
        height, width = config.image_size_hw
        split = processor.do_split_image and task == "semantic" and height == width
        processor = _resized_processor(processor, config.image_size_hw, split)
    return Start(
        "checkpoint", checkpoint.short_name, config, _given(options), processor, head, checkpoint.place, checkpoint
    )


def _from_backbone(options: StartOptions, place: str, categories: Sequence[Category], task: Task) -> Start:
    head = class_head(categories, task)
    settings = {"image_size": _BACKBONE_IMAGE_SIZE, **_given(options), "id2label": head.id2label}
    processor = _new_processor(_pair(settings["image_size"]), task)
    name = Path(place).name if Path(place).is_dir() else place.rpartition("/")[2]
    return Start("backbone", name, None, settings, processor, head, place)


def _from_scratch(options: StartOptions, categories: Sequence[Category], task: Task) -> Start:
    head = class_head(categories, task)
    if options.size is not None:
        config, name = EomtConfig.from_size(options.size), f"eomt_{options.size}"
    else:
        assert options.config is not None
        path = Path(options.config).expanduser()
        config, name = config_from_json(path), path.stem if path.stem != "config" else path.resolve().parent.name
    config = replace(config, **_given(options)).with_labels(head.id2label)
    processor = _new_processor(config.image_size_hw, task)
    return Start("scratch", name, config, _given(options), processor, head)


def _new_processor(size_hw: tuple[int, int], task: Task) -> EomtImageProcessor:
    """As the published models have it: crops for semantic segmentation, padding for the rest and where not square."""
    return _resized_processor(EomtImageProcessor(), size_hw, task == "semantic" and size_hw[0] == size_hw[1])


def _pair(size: int | tuple[int, int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else size


def _resized_processor(processor: EomtImageProcessor, size_hw: tuple[int, int], split: bool) -> EomtImageProcessor:
    """The processor for another input: crops along the longer side where `split`, else padding.

    Raises OptionError for an input that is higher than wide, which no processor makes.
    """
    height, width = size_hw
    if height > width:
        raise OptionError(
            f"image_size is {height}x{width} (height x width): the image processor makes square or landscape inputs. "
            "Choose a height of at most the width."
        )
    size = {"shortest_edge": height, "longest_edge": None if split else width}
    return replace(processor, size=size, do_resize=True, do_split_image=split, do_pad=not split)


def random_model(config: EomtConfig) -> EomtForUniversalSegmentation:
    """A model of random weights whose patches know their place from the start.

    Position embeddings begin as sines and cosines of row and column (Vaswani et al. 2017, section 3.5): without a
    pre-trained backbone, learning them from noise takes most of a short training.
    """
    if isinstance(config, EomtDinov3Config):  # whose positions are rotary: nothing to learn
        return EomtDinov3ForUniversalSegmentation(config)
    model = EomtForUniversalSegmentation(config)
    quarter = config.hidden_size // 4
    rates = 100.0 ** -(torch.arange(quarter) / max(1, quarter))
    rows, columns = (torch.arange(length)[:, None] * rates for length in config.grid_size)  # (length, D/4)
    shape = (*config.grid_size, quarter)
    waves = [rows.sin(), rows.cos()], [columns.sin(), columns.cos()]
    grids = [wave[:, None].expand(shape) for wave in waves[0]] + [wave[None].expand(shape) for wave in waves[1]]
    with torch.no_grad():
        model.get_parameter(_POSITIONS)[:, : 4 * quarter] = torch.cat(grids, dim=2).flatten(0, 1) / 2
        model.query.weight.mul_(0.5)
    return model


def adapted(model: EomtForUniversalSegmentation, config: EomtConfig, head: ClassHead) -> EomtForUniversalSegmentation:
    """A model of `config` with the weights of `model`: its classes replaced by name, its positions resized.

    All attention is masked again, as at the start of every training. Raises ModelError where positions cannot be
    resized.
    """
    new = type(model)(config)
    old, fresh = model.state_dict(), new.state_dict()
    state: dict[str, Tensor] = {**old, **head.transplant(old, fresh)}
    for name in ("criterion.empty_weight", "attn_mask_probs"):
        state[name] = fresh[name]
    if _POSITIONS in old and config.grid_size != model.config.grid_size:
        rows, columns = model.config.grid_size
        if rows != columns:
            raise ModelError(
                f"the checkpoint's input is {model.config.image_size_hw}, (height, width): only square ones can be "
                "brought to another --image-size."
            )
        state[_POSITIONS] = resize_positions(old[_POSITIONS], config.grid_size)
    try:
        new.load_state_dict(state)
    except RuntimeError as error:  # of sizes that `_given` cannot change today
        raise ConfigError(f"the checkpoint's weights do not fit the new configuration: {error}") from error
    return new
