"""Images on their way into the model: read by any thread, made into the model's inputs there or on the GPU.

For a GPU the reading threads only decode: the pixels travel as uint8, a quarter of the bytes or less, and are resized
and normalised there, to the same bits (`eomt.integer_resize`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from eomt.errors import ImageInputError
from eomt.host_copies import pinned
from eomt.image_inputs import rgb_tensor
from eomt.image_processing import EomtImageProcessor, crop_spans
from eomt.resizing import canvas_size, resized_size
from workbench.prediction.profiling import DECODE, PREPARE, Profile
from workbench.storage import readable, shown

LARGEST_ON_DEVICE = 1 << 24
"""Pixels of an image that a GPU resizes; larger ones, which could fill its memory, are left to the readers."""

SizeHw = tuple[int, int]


@dataclass(frozen=True)
class Prepared:
    """An image as the model takes it, or nearly."""

    pixel_values: Tensor
    """(crops, 3, height, width) float32, on the CPU; one crop where images are not split. Or uint8 (3, height, width),
    the image itself, where the device does the rest."""
    spans: tuple[tuple[int, int], ...]
    """(start, end) of each crop along the longer side; empty where images are not split."""
    size_hw: SizeHw
    """Of the image's file."""

    @property
    def crops(self) -> int:
        """Inputs of the model that it makes."""
        return max(1, len(self.spans))

    @property
    def is_finished(self) -> bool:
        """Whether nothing is left to the device."""
        return self.pixel_values.dtype != torch.uint8


class Inputs:
    """Prepares images, and makes batches of them on the model's device."""

    def __init__(
        self,
        processor: EomtImageProcessor,
        input_hw: SizeHw,
        device: torch.device,
        *,
        resize_on_device: bool,
        profile: Profile,
    ) -> None:
        self._processor, self._input_hw, self._device = processor, input_hw, device
        self._resize_on_device = resize_on_device and processor.resample == Image.Resampling.BILINEAR
        self._profile = profile

    def prepare(self, path: Path) -> Prepared:
        """Read an image and do what the device does not do; safe to call from several threads.

        Raises ImageInputError.
        """
        with self._profile.stage(DECODE):
            image = rgb_tensor(readable(path), where=shown(path))  # (3, h, w)
        size_hw = int(image.shape[1]), int(image.shape[2])
        self._check_not_too_thin(size_hw, path)
        if self._resize_on_device and image.dtype == torch.uint8 and size_hw[0] * size_hw[1] <= LARGEST_ON_DEVICE:
            spans, made = self.planned(size_hw)
            self._check_fits(made, path)
            with self._profile.stage(PREPARE):
                return Prepared(pinned(image, self._device), spans, size_hw)
        with self._profile.stage(PREPARE):
            batch = self._processor.preprocess([image], return_tensors="pt")
        height, width = batch.pixel_values.shape[-2:]
        self._check_fits((height, width), path)
        spans = tuple((int(start), int(end)) for _, start, end in batch.patch_offsets)
        return Prepared(pinned(batch.pixel_values, self._device), spans, size_hw)

    def on_device(self, images: Sequence[Prepared]) -> Tensor:
        """(n, 3, height, width) float32: all crops of the images, on the device."""
        parts = [image.pixel_values.to(self._device, non_blocking=True) for image in images]
        # Each by itself: it is not to matter which images come together.
        return torch.cat(
            [part if image.is_finished else self._processed(part) for image, part in zip(images, parts, strict=True)]
        )

    def _processed(self, image: Tensor) -> Tensor:
        pixel_values: Tensor = self._processor.preprocess(
            [image], return_tensors="pt", input_data_format="channels_first"
        ).pixel_values
        return pixel_values

    def planned(self, size_hw: SizeHw) -> tuple[tuple[tuple[int, int], ...], SizeHw]:
        """The crops that the processor makes of an image of that size, none without splitting, and the inputs' size."""
        processor = self._processor
        size = resized_size(size_hw, processor.size) if processor.do_resize else size_hw
        canvas = canvas_size(processor.size)
        spans: tuple[tuple[int, int], ...] = ()
        if processor.do_split_image:
            longer = 0 if size[0] > size[1] else 1
            spans = tuple(crop_spans(size[longer], canvas[0]))
            cut = min(spans[0][1], size[longer]) - spans[0][0]
            size = (cut, size[1]) if longer == 0 else (size[0], cut)
        if processor.do_pad:
            size = max(size[0], canvas[0]), max(size[1], canvas[1])
        return spans, size

    def _check_not_too_thin(self, size_hw: SizeHw, path: Path) -> None:
        if self._processor.do_resize and min(resized_size(size_hw, self._processor.size)) == 0:
            raise ImageInputError(
                f"{shown(path)}: {size_hw[1]} x {size_hw[0]} pixels: its shorter side would be 0 pixels at the model's "
                "size. Crop it to another shape."
            )

    def _check_fits(self, made: SizeHw, path: Path) -> None:
        """Refuse what fits no batch: the processor's settings make another size of this image."""
        taken = self._input_hw
        if made != taken:
            raise ImageInputError(
                f"{shown(path)}: the processor makes {made[1]}x{made[0]} pixels (width x height) of it, the model "
                f"takes {taken[1]}x{taken[0]}. Crop or resize it to another shape."
            )
