"""`EomtConfig`: every number that makes an EoMT, checked on construction, and the published sizes by name."""

import sys
from dataclasses import asdict, dataclass, field, fields, replace
from difflib import get_close_matches
from os import PathLike
from pathlib import Path
from typing import Any, ClassVar, Self

from eomt.errors import CheckpointError, ConfigError
from eomt.hub import HubOptions, find_file, read_json, write_json

ACTIVATIONS = ("gelu", "gelu_new", "gelu_pytorch_tanh", "relu", "silu", "swish")

# Kerssies et al. 2025: a plain ViT of each size; the larger, the more of its last layers see the queries.
_BACKBONES: dict[str, dict[str, Any]] = {
    "small": {"hidden_size": 384, "num_hidden_layers": 12, "num_attention_heads": 6, "num_blocks": 3},
    "base": {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "num_blocks": 3},
    "large": {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "num_blocks": 4},
    "giant": {
        "hidden_size": 1536,
        "num_hidden_layers": 40,
        "num_attention_heads": 24,
        "num_blocks": 5,
        "use_swiglu_ffn": True,
    },
}
_AT_LEAST = {
    "hidden_size": 1,
    "num_hidden_layers": 1,
    "num_attention_heads": 1,
    "num_channels": 1,
    "num_queries": 1,
    "num_blocks": 1,
    "num_register_tokens": 0,
    "num_upscale_blocks": 0,
    "train_num_points": 1,
}
# Far beyond any model: a damaged file is refused before memory or hours are spent on what it says.
_MOST, _MOST_LAYERS = 1 << 20, 256
_ABBREVIATIONS = {"s": "small", "b": "base", "l": "large", "g": "giant"}


@dataclass(frozen=True, kw_only=True)
class EomtConfig:
    """The architecture and the loss of one EoMT, with the documented argument names and defaults.

    Frozen: it is checked once and stays valid; `dataclasses.replace` makes a variant. Raises `ConfigError` for values
    that do not make a model.

    Labels: give `num_labels`, or `id2label` (class index -> name), or both if they agree; with neither there are
    two classes, as in transformers. Names default to `LABEL_<i>`.
    """

    model_type: ClassVar[str] = "eomt"

    # The plain ViT encoder.
    hidden_size: int = 1024
    num_hidden_layers: int = 24
    num_attention_heads: int = 16
    hidden_act: str = "gelu"
    hidden_dropout_prob: float = 0.0
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-6
    image_size: int | tuple[int, int] = 640  # fixed; a pair is (height, width)
    patch_size: int | tuple[int, int] = 16
    num_channels: int = 3
    mlp_ratio: int | float = 4
    layerscale_value: float = 1.0
    drop_path_rate: float = 0.0
    attention_dropout: float = 0.0
    use_swiglu_ffn: bool = False
    num_register_tokens: int = 4

    # What makes it a segmentation model.
    num_queries: int = 200
    num_blocks: int = 4  # the last layers, which the queries join
    num_upscale_blocks: int = 2  # each doubles the mask resolution

    # The loss.
    no_object_weight: float = 0.1
    class_weight: float = 2.0
    mask_weight: float = 5.0
    dice_weight: float = 5.0
    train_num_points: int = 12544
    oversample_ratio: float = 3.0
    importance_sample_ratio: float = 0.75

    # The classes; whichever is not given is filled in on construction.
    num_labels: int = -1
    id2label: dict[int, str] = field(default_factory=dict)
    label2id: dict[str, int] = field(default_factory=dict)

    # What `forward` returns unless its own arguments say otherwise.
    output_hidden_states: bool = False
    output_attentions: bool = False

    # Keys of a config.json that this class does not know: kept, and written back.
    extra: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("image_size", "patch_size"):
            object.__setattr__(self, name, _int_or_pair(name, getattr(self, name)))
        for number in fields(self):
            if number.type is float:  # transformers, which reads our files, takes no integer for it
                object.__setattr__(self, number.name, _number(number.name, getattr(self, number.name)))
        _resolve_labels(self)
        _check(self)

    @property
    def image_size_hw(self) -> tuple[int, int]:
        """(height, width) of the input in pixels."""
        return _pair(self.image_size)

    @property
    def patch_size_hw(self) -> tuple[int, int]:
        """(height, width) of a patch in pixels."""
        return _pair(self.patch_size)

    @property
    def grid_size(self) -> tuple[int, int]:
        """(rows, columns) of patches."""
        return (
            self.image_size_hw[0] // self.patch_size_hw[0],
            self.image_size_hw[1] // self.patch_size_hw[1],
        )

    @property
    def num_patches(self) -> int:
        """Patches of one image."""
        return self.grid_size[0] * self.grid_size[1]

    @property
    def num_prefix_tokens(self) -> int:
        """Tokens between the queries and the patches: class token and registers."""
        return 1 + self.num_register_tokens

    @property
    def mlp_size(self) -> int:
        """Hidden width of the feed-forward part; SwiGLU keeps two thirds of it, rounded up to a multiple of 8."""
        width = int(self.hidden_size * self.mlp_ratio)
        return (int(width * 2 / 3) + 7) // 8 * 8 if self.use_swiglu_ffn else width

    @classmethod
    def from_size(cls, size: str, **overrides: Any) -> Self:
        """The published architecture of a size: "small", "base", "large" or "giant" (or its first letter).

        Whatever else is wanted goes by name: `EomtConfig.from_size("large", image_size=1280, num_labels=133)`.
        """
        name = _ABBREVIATIONS.get(size.lower(), size.lower())
        if name not in _BACKBONES:
            raise ConfigError(f"size {size!r} is unknown; choose one of {', '.join(_BACKBONES)}.")
        return cls(**{**_BACKBONES[name], **overrides})

    def with_labels(self, id2label: dict[int, str]) -> Self:
        """The same architecture for other classes, class index -> name."""
        return replace(self, num_labels=-1, id2label=id2label, label2id={})

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """The configuration in a `config.json`'s contents; keys that are not ours go to `extra`.

        Raises `ConfigError` where `model_type` says that it is not an EoMT's.
        """
        given = dict(values)
        model_type = given.pop("model_type", cls.model_type)
        if model_type != cls.model_type:
            raise ConfigError(
                f"it describes a {model_type!r} model, not an {cls.model_type!r} one. (eomt.load_model takes the class"
                " that fits: EoMT, or EoMT with DINOv3.)"
            )
        known = {f.name for f in fields(cls)} - {"extra"}
        extra = {key: given.pop(key) for key in list(given) if key not in known}
        return cls(**given, extra=extra)

    def to_dict(self) -> dict[str, Any]:
        """The contents of a `config.json`, in the form that transformers reads too."""
        values = asdict(self)
        values.update(values.pop("extra"))
        del values["num_labels"]  # id2label says it
        for flag in ("output_hidden_states", "output_attentions"):
            if not values[flag]:
                del values[flag]
        values["id2label"] = {str(index): name for index, name in values["id2label"].items()}
        return {"model_type": self.model_type, **values}

    @classmethod
    def from_json(cls, path: Path) -> Self:
        """The configuration in a `config.json`; raises `CheckpointError` naming the file where it holds none."""
        try:
            return cls.from_dict(read_json(path))
        except ConfigError as error:
            raise CheckpointError(f"{path}: {error}") from error
        except (TypeError, ValueError, AttributeError, OverflowError) as error:  # a value of another type
            raise CheckpointError(f"{path}: its values describe no model ({error}).") from error

    @classmethod
    def from_pretrained(
        cls,
        id_or_folder: str | PathLike[str],
        *,
        revision: str | None = None,
        cache_dir: str | PathLike[str] | None = None,
        token: str | bool | None = None,
        local_files_only: bool = False,
    ) -> Self:
        """Read the `config.json` of a local folder or of a model on the Hugging Face hub.

        `revision`, `cache_dir`, `token` and `local_files_only` are as in huggingface_hub. Raises `CheckpointError`.
        """
        options = HubOptions(revision, cache_dir, token, local_files_only)
        return cls.from_json(find_file(id_or_folder, "config.json", options))

    def save_pretrained(self, folder: str | PathLike[str]) -> None:
        """Write `config.json` into a folder, which is made if need be."""
        Path(folder).mkdir(parents=True, exist_ok=True)
        write_json(Path(folder) / "config.json", self.to_dict())


def _pair(size: int | tuple[int, int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else size


def _int_or_pair(name: str, size: Any) -> int | tuple[int, int]:
    if isinstance(size, int):
        return size
    if isinstance(size, (list, tuple)) and len(size) == 2 and all(isinstance(side, int) for side in size):
        return size[0] if size[0] == size[1] else (size[0], size[1])  # transformers takes only the integer
    raise ConfigError(f"{name} is {size!r}; give one integer or a (height, width) pair of them.")


def _number(name: str, value: Any) -> float:
    if not isinstance(value, (int, float)) or not abs(value) <= sys.float_info.max:
        raise ConfigError(f"{name} is {value!r}; it must be a number, and finite.")
    return float(value)


def _resolve_labels(config: EomtConfig) -> None:
    """Fill in whichever of num_labels, id2label and label2id was not given; refuse what disagrees."""
    if type(config.num_labels) is not int or not -1 <= config.num_labels <= _MOST:
        raise ConfigError(f"num_labels is {config.num_labels!r}; give a whole number from 1 to {_MOST}.")
    try:
        names = {int(index): str(name) for index, name in (config.id2label or {}).items()}
        ids = {name: int(index) for name, index in (config.label2id or {}).items()}
    except (AttributeError, TypeError, ValueError, OverflowError) as error:
        raise ConfigError(f"id2label and label2id are maps of whole numbers to names and back ({error}).") from error
    if not names:
        names = {index: f"LABEL_{index}" for index in range(2 if config.num_labels == -1 else config.num_labels)}
    if config.num_labels not in (-1, len(names)):
        raise ConfigError(
            f"num_labels is {config.num_labels}, but id2label names {len(names)} classes; give one of them."
        )
    if not names or sorted(names) != list(range(len(names))):
        raise ConfigError(f"the classes must be numbered 0, 1, 2, ...; id2label has {sorted(names)[:12]}.")
    object.__setattr__(config, "num_labels", len(names))
    object.__setattr__(config, "id2label", names)
    object.__setattr__(config, "label2id", ids or {name: index for index, name in names.items()})


def _check(config: EomtConfig) -> None:
    """Refuse what would fail later, and less clearly, in the model."""
    for name, least in _AT_LEAST.items():
        value = getattr(config, name)
        most = _MOST_LAYERS if name.startswith("num_hidden") or name == "num_upscale_blocks" else _MOST
        if not isinstance(value, int) or not least <= value <= most:
            raise ConfigError(f"{name} is {value!r}; it must be a whole number of at least {least}, at most {most}.")
    if not 0 < _number("mlp_ratio", config.mlp_ratio) * config.hidden_size <= _MOST:
        raise ConfigError(f"mlp_ratio is {config.mlp_ratio!r}; times hidden_size, it must be at most {_MOST}.")
    for name in ("hidden_dropout_prob", "attention_dropout", "drop_path_rate"):
        if not 0 <= getattr(config, name) < 1:
            raise ConfigError(f"{name} is {getattr(config, name)!r}; it is a probability in [0, 1).")
    if config.hidden_size % config.num_attention_heads:
        raise ConfigError(
            f"hidden_size {config.hidden_size} is not divisible by num_attention_heads {config.num_attention_heads}."
        )
    for axis, side, patch in zip(("height", "width"), config.image_size_hw, config.patch_size_hw, strict=True):
        if not 1 <= patch <= side <= _MOST or side % patch:
            raise ConfigError(
                f"image_size {config.image_size}: its {axis} {side} is not a multiple of the patch's, {patch}."
            )
    if config.num_blocks > config.num_hidden_layers:
        raise ConfigError(
            f"num_blocks {config.num_blocks} exceeds num_hidden_layers {config.num_hidden_layers}; it counts the last"
            " of them."
        )
    if config.hidden_act not in ACTIVATIONS:
        near = get_close_matches(str(config.hidden_act), ACTIVATIONS, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ConfigError(f"hidden_act {config.hidden_act!r} is none of {', '.join(ACTIVATIONS)}.{hint}")
