"""What an image processor is set to, and the published file that holds it, `preprocessor_config.json`."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from os import PathLike
from pathlib import Path
from typing import Any, Self, TypedDict

from PIL import Image

from eomt import resizing
from eomt.errors import ProcessorError
from eomt.hub import HubOptions, find_file, read_json

FILE_NAME = "preprocessor_config.json"


class EomtImageProcessorKwargs(TypedDict, total=False):
    """What a single call may override. None means the processor's own setting; `ignore_index=None` means none.

    The last ones are accepted because they are documented, and change nothing: images always become RGB, pixel values
    are always channels-first, and the rest is about speed.
    """

    do_resize: bool | None
    size: resizing.Size | None
    resample: int | None
    do_rescale: bool | None
    rescale_factor: float | None
    do_normalize: bool | None
    image_mean: float | Sequence[float] | None
    image_std: float | Sequence[float] | None
    do_split_image: bool | None
    do_pad: bool | None
    ignore_index: int | None
    do_convert_rgb: bool | None
    data_format: str | None
    disable_grouping: bool | None
    use_fast: bool | None


_WITHOUT_EFFECT = {"do_convert_rgb", "data_format", "disable_grouping", "use_fast"}


@dataclass(kw_only=True)
class ProcessorSettings:
    """The settings of an image processor. Names, meanings and defaults are those of the Hugging Face documentation."""

    do_resize: bool = True
    size: resizing.Size = field(default_factory=lambda: {"shortest_edge": 640, "longest_edge": 640})
    resample: int = Image.Resampling.BILINEAR
    do_rescale: bool = True
    rescale_factor: float = 1 / 255
    do_normalize: bool = True
    image_mean: float | Sequence[float] = (0.485, 0.456, 0.406)
    image_std: float | Sequence[float] = (0.229, 0.224, 0.225)
    do_split_image: bool = False
    do_pad: bool = False
    ignore_index: int | None = None
    extra_settings: dict[str, Any] = field(default_factory=dict, repr=False)
    """Entries of a published file that mean nothing to this processor; they are written back as they came."""

    def __post_init__(self) -> None:
        self.size = resizing.canonical_size(self.size)
        if self.resample not in list(Image.Resampling):
            known = ", ".join(f"{item.value} ({item.name})" for item in Image.Resampling)
            raise ProcessorError(f"resample is {self.resample!r}; it is one of Pillow's filters: {known}.")
        if self.rescale_factor <= 0:
            raise ProcessorError(f"rescale_factor is {self.rescale_factor}; it must be positive: 1/255 for 8 bits.")
        self.image_mean = _per_channel("image_mean", self.image_mean)
        self.image_std = _per_channel("image_std", self.image_std)

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any], **overrides: Any) -> Self:
        """A processor from the contents of a `preprocessor_config.json`; `overrides` replace single settings.

        Null entries mean the default. Entries that this processor does not know are kept in `extra_settings`. Raises
        TypeError for an unknown override.
        """
        known = _names(cls)
        given = {name: value for name, value in settings.items() if name in known and value is not None}
        extra = {name: value for name, value in settings.items() if name not in known | {"image_processor_type"}}
        return cls(**{**given, **_checked_names(cls, overrides)}, extra_settings=extra)

    def to_dict(self) -> dict[str, Any]:
        """The contents of a `preprocessor_config.json`, by name: JSON types only, entries that are None left out."""
        settings = {**self.extra_settings, **{name: getattr(self, name) for name in _names(type(self))}}
        settings["resample"] = int(self.resample)
        settings["size"] = {edge: length for edge, length in resizing.canonical_size(self.size).items() if length}
        # One file serves both processors, as in the published layout.
        settings["image_processor_type"] = type(self).__name__.removesuffix("Pil")
        return {name: _plain(value) for name, value in sorted(settings.items()) if value is not None}

    def to_json_string(self) -> str:
        """`to_dict` as JSON text, keys sorted."""
        return json.dumps(self.to_dict(), indent=2, sort_keys=True) + "\n"

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | PathLike[str],
        *,
        revision: str | None = None,
        cache_dir: str | PathLike[str] | None = None,
        token: str | bool | None = None,
        local_files_only: bool = False,
        **overrides: Any,
    ) -> Self:
        """The processor of a checkpoint: a folder, or the id of a repository on the hub.

        `overrides` replace single settings of the file. Raises CheckpointError where there is no such file, or it is
        not a JSON object, ProcessorError naming it where a setting is none.
        """
        options = HubOptions(revision, cache_dir, token, local_files_only)
        path = find_file(pretrained_model_name_or_path, FILE_NAME, options)
        settings = read_json(path)
        _checked_names(cls, overrides)
        try:
            return cls.from_dict(settings, **overrides)
        except (TypeError, ValueError, OverflowError) as error:
            raise ProcessorError(f"{path}: {error}") from error

    def save_pretrained(self, save_directory: str | PathLike[str]) -> list[str]:
        """Write `preprocessor_config.json` into a folder, made where there is none; returns its path in a list."""
        folder = Path(save_directory)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / FILE_NAME
        path.write_text(self.to_json_string(), encoding="utf-8")
        return [str(path)]

    def with_overrides(self, overrides: Mapping[str, Any]) -> Self:
        """A copy with some settings replaced; see `EomtImageProcessorKwargs`. Raises TypeError for an unknown name."""
        given = _checked_names(type(self), overrides)
        return replace(self, **{n: value for n, value in given.items() if value is not None or n == "ignore_index"})


def _names(cls: type[ProcessorSettings]) -> set[str]:
    return {item.name for item in fields(cls)} - {"extra_settings"}


def _checked_names(cls: type[ProcessorSettings], given: Mapping[str, Any]) -> Mapping[str, Any]:
    unknown = sorted(set(given) - _names(cls) - _WITHOUT_EFFECT)
    if unknown:
        raise TypeError(f"{cls.__name__} has no setting {unknown[0]!r}; it has {', '.join(sorted(_names(cls)))}.")
    return {name: value for name, value in given.items() if name not in _WITHOUT_EFFECT}


def _per_channel(name: str, value: float | Sequence[float]) -> float | tuple[float, ...]:
    numbers = (value,) if isinstance(value, int | float) else tuple(value)
    if len(numbers) not in (1, 3):
        raise ProcessorError(f"{name} is {value!r}; give one number, or three (red, green, blue).")
    if name == "image_std" and not all(numbers):
        raise ProcessorError(f"image_std is {value!r}; a standard deviation of 0 cannot be divided by.")
    return value if isinstance(value, int | float) else numbers


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
