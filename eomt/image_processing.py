"""Image processors: images and label maps in, the model's tensors out, and the model's outputs back into segments.

`EomtImageProcessor` works on torch tensors and equals the torchvision backend of transformers bit for bit;
`EomtImageProcessorPil` resamples with Pillow. Names and arguments are those of the Hugging Face documentation.

An image becomes RGB (`image_inputs`), is resized, split into crops or padded or neither, and normalised. A label map
passes through the same geometry with its nearest pixels, then becomes masks and classes (`label_maps`).
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, ClassVar, TypeVar, Unpack

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from eomt import resizing
from eomt.batch_feature import BatchFeature
from eomt.documented_results import DocumentedResults
from eomt.errors import ImageInputError, ProcessorError
from eomt.image_inputs import ImageInput, label_array, list_images, rgb_tensor
from eomt.label_maps import masks_and_labels
from eomt.processor_settings import EomtImageProcessorKwargs, ProcessorSettings

InstanceClasses = Mapping[int, int] | Sequence[Mapping[int, int]]

_Pixels = TypeVar("_Pixels", Tensor, NDArray[np.int64])


class _ImageProcessor(DocumentedResults, ProcessorSettings, ABC):
    """What both processors share; they differ in how pixels are resampled and normalised."""

    _list_of_arrays: ClassVar[bool]
    """Whether `return_tensors=None` gives numpy arrays, as transformers' Pillow backend does."""

    def __call__(
        self,
        images: ImageInput,
        segmentation_maps: ImageInput | None = None,
        instance_id_to_semantic_id: InstanceClasses | None = None,
        **kwargs: Any,
    ) -> BatchFeature:
        """The same as `preprocess`."""
        return self.preprocess(images, segmentation_maps, instance_id_to_semantic_id, **kwargs)

    def preprocess(
        self,
        images: ImageInput,
        segmentation_maps: ImageInput | None = None,
        instance_id_to_semantic_id: InstanceClasses | None = None,
        *,
        return_tensors: str | None = None,
        input_data_format: str | None = None,
        device: str | torch.device | None = None,
        **overrides: Unpack[EomtImageProcessorKwargs],
    ) -> BatchFeature:
        """A batch for the model out of images and, for training, their label maps.

        Args:
            images: one image, a list, or a batch: PIL images, paths, arrays or tensors (h, w, 3) or (3, h, w).
            segmentation_maps: a label map (h, w) of integers for each image; `label_maps` says what they mean.
            instance_id_to_semantic_id: instance id to class, one dictionary for all images or a list, one an image.
            return_tensors: "pt" stacks `pixel_values` into a tensor, "np" into an array, None leaves a list.
            input_data_format: where arrays have their channels, "channels_first" or "channels_last"; None finds out.
            device: where the work is done and the pixels end up; None stays where the images are.
            overrides: settings of the processor for this call only.

        Returns:
            `pixel_values`: float32 (N, 3, h, w), where N counts crops when images are split.
            `patch_offsets`: one int64 tensor [image, start, end] a crop; empty when images are not split.
            `mask_labels`, `class_labels` (with label maps): for each of the N a float32 tensor (n, h, w) and an
            int64 tensor (n,).

        Raises:
            ImageInputError: an image or label map cannot be read, or they do not pair up.
            LabelMapError: an id in a label map has no class; the message names the id and the image.
            ProcessorError: a setting's value cannot be used.
            TypeError: there is no setting of that name.
        """
        call = self.with_overrides(overrides)
        pixels = [rgb_tensor(image, input_data_format, f"image {i}") for i, image in enumerate(list_images(images))]
        if not pixels:
            raise ImageInputError("there are no images: pass at least one.")
        batch = call._inputs(pixels, return_tensors, device)
        if segmentation_maps is not None:
            maps = [label_array(m, f"segmentation map {i}") for i, m in enumerate(list_images(segmentation_maps, 2))]
            _check_pairs(pixels, maps, instance_id_to_semantic_id)
            batch.update(call._targets(maps, instance_id_to_semantic_id))
        return batch

    def _inputs(
        self, images: list[Tensor], return_tensors: str | None, device: str | torch.device | None
    ) -> BatchFeature:
        """`pixel_values` and `patch_offsets`."""
        if device is not None:
            images = [image.to(device) for image in images]
        if self.do_resize:
            images = [self._resize(image, resizing.resized_size(_size_of(image), self.size)) for image in images]
        crops, offsets = self._split(images)
        pixel_values = self._normalised([self._padded(crop) for crop in crops])
        return BatchFeature(
            pixel_values=_packed(pixel_values, return_tensors, self._list_of_arrays),
            patch_offsets=[torch.tensor(row) for row in offsets] if self.do_split_image else [],
        )

    def _targets(
        self, maps: list[NDArray[np.int64]], instance_classes: InstanceClasses | None
    ) -> dict[str, list[Tensor]]:
        """`mask_labels` and `class_labels`, one of each a row of `pixel_values`."""
        if self.do_resize:
            maps = [self._resize_labels(m, resizing.resized_size(_size_of(m), self.size)) for m in maps]
        crops, offsets = self._split(maps)
        targets: dict[str, list[Tensor]] = {"mask_labels": [], "class_labels": []}
        for crop, (image, _, _) in zip(crops, offsets, strict=True):
            classes = instance_classes[image] if isinstance(instance_classes, Sequence) else instance_classes
            height, width = self._missing(_size_of(crop))
            crop = np.pad(crop, ((0, height), (0, width)))
            masks, labels = masks_and_labels(crop, classes, self.ignore_index, where=f"segmentation map {image}")
            targets["mask_labels"].append(torch.from_numpy(masks))
            targets["class_labels"].append(torch.from_numpy(labels))
        return targets

    def _split(self, images: list[_Pixels]) -> tuple[list[_Pixels], list[tuple[int, int, int]]]:
        """Crops of the images and a row (image, start, end) each; the images themselves where they are not split."""
        if not self.do_split_image:
            return images, [(i, 0, max(_size_of(image))) for i, image in enumerate(images)]
        crops, offsets = [], []
        for i, image in enumerate(images):
            height, width = _size_of(image)
            for start, end in crop_spans(max(height, width), resizing.canvas_size(self.size)[0]):
                crops.append(image[..., start:end, :] if height > width else image[..., start:end])
                offsets.append((i, start, end))
        return crops, offsets

    def _missing(self, image_size: tuple[int, int]) -> tuple[int, int]:
        """Rows and columns to add at the bottom and on the right."""
        if not self.do_pad:
            return 0, 0
        height, width = resizing.canvas_size(self.size)
        return max(0, height - image_size[0]), max(0, width - image_size[1])

    def _padded(self, image: Tensor) -> Tensor:
        height, width = self._missing(_size_of(image))
        return functional.pad(image, (0, width, 0, height)) if height or width else image

    def _normalised(self, images: list[Tensor]) -> Tensor | list[Tensor]:
        """Images (3, h, w) as float32, in one tensor where they are alike."""
        if len({(image.shape, image.dtype, image.device) for image in images}) == 1:
            return self._normalise(torch.stack(images))
        return [self._normalise(image) for image in images]

    @abstractmethod
    def _resize(self, image: Tensor, size: tuple[int, int]) -> Tensor:
        """(3, h, w) at `size`, of the same dtype."""

    @abstractmethod
    def _resize_labels(self, label_map: NDArray[np.int64], size: tuple[int, int]) -> NDArray[np.int64]:
        """(h, w) at `size`, nearest."""

    @abstractmethod
    def _normalise(self, images: Tensor) -> Tensor:
        """(..., 3, h, w) rescaled and normalised."""


class EomtImageProcessor(_ImageProcessor):
    """The default processor: torch tensors, on any device."""

    _list_of_arrays = False

    def _resize(self, image: Tensor, size: tuple[int, int]) -> Tensor:
        return resizing.resize_with_torch(image, size, self.resample)

    def _resize_labels(self, label_map: NDArray[np.int64], size: tuple[int, int]) -> NDArray[np.int64]:
        return resizing.resize_labels_like_torch(label_map, size)

    def _normalise(self, images: Tensor) -> Tensor:
        mean, std = _per_channel(self.image_mean, images), _per_channel(self.image_std, images)
        if self.do_rescale and self.do_normalize:
            # In one step: (x * factor - mean) / std is (x - mean / factor) / (std / factor).
            scale = 1.0 / self.rescale_factor
            return _shifted(images, mean * scale, std * scale)
        if self.do_normalize:
            return _shifted(images, mean, std)
        return images * self.rescale_factor if self.do_rescale else images


class EomtImageProcessorPil(_ImageProcessor):
    """The processor that resamples with Pillow, on the CPU; at most one grey level away from the default one."""

    _list_of_arrays = True

    def _resize(self, image: Tensor, size: tuple[int, int]) -> Tensor:
        return resizing.resize_with_pillow(image, size, self.resample)

    def _resize_labels(self, label_map: NDArray[np.int64], size: tuple[int, int]) -> NDArray[np.int64]:
        return resizing.resize_labels_like_pillow(label_map, size)

    def _normalise(self, images: Tensor) -> Tensor:
        if self.do_rescale:
            images = (images.double() * self.rescale_factor).float()
        if self.do_normalize:
            mean, std = _per_channel(self.image_mean, images), _per_channel(self.image_std, images)
            images = _shifted(images, mean, std)
        return images


def crop_spans(length: int, crop: int) -> list[tuple[int, int]]:
    """(start, end) along the longer side of an image for as few crops as cover it, evenly overlapping."""
    count = math.ceil(length / crop)
    overlap = (count * crop - length) / (count - 1) if count > 1 else 0.0
    starts = [int(i * (crop - overlap)) for i in range(count)]
    return [(start, start + crop) for start in starts]


def _size_of(pixels: Tensor | NDArray[Any]) -> tuple[int, int]:
    height, width = pixels.shape[-2:]
    return int(height), int(width)


def _per_channel(value: float | Sequence[float], like: Tensor) -> Tensor:
    """(1 or 3, 1, 1) float32."""
    numbers = (float(value),) if isinstance(value, int | float) else tuple(float(each) for each in value)
    return _on_device(numbers, like.device)[:, None, None]


@lru_cache(maxsize=64)
def _on_device(numbers: tuple[float, ...], device: torch.device) -> Tensor:
    """(n,) float32, kept: a GPU would be waited for each time that it is told numbers."""
    with torch.inference_mode(False):
        return torch.tensor(numbers, dtype=torch.float32, device=device)


def _shifted(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    floats = images.to(torch.float32, copy=True, memory_format=torch.contiguous_format)
    return floats.sub_(mean).div_(std)


def _check_pairs(images: list[Tensor], maps: list[NDArray[np.int64]], instance_classes: InstanceClasses | None) -> None:
    if len(maps) != len(images):
        raise ImageInputError(f"{len(images)} images but {len(maps)} segmentation_maps: give one label map an image.")
    if isinstance(instance_classes, Sequence) and len(instance_classes) != len(images):
        raise ImageInputError(
            f"{len(images)} images but {len(instance_classes)} dictionaries in instance_id_to_semantic_id: "
            "give one an image, or one dictionary for all."
        )
    for i, (image, label_map) in enumerate(zip(images, maps, strict=True)):
        if _size_of(image) != label_map.shape:
            raise ImageInputError(
                f"image {i} is {_size_of(image)} but segmentation map {i} is {label_map.shape}, (height, width): "
                "give the map of this very image."
            )


def _packed(
    images: Tensor | list[Tensor], return_tensors: str | None, as_arrays: bool
) -> Tensor | NDArray[Any] | list[Any]:
    """What `return_tensors` asks for; without it, a list of tensors or of arrays."""
    if return_tensors is None:
        return [image.numpy() for image in images] if as_arrays else list(images)
    if return_tensors not in ("pt", "np"):
        raise ProcessorError(f'return_tensors {return_tensors!r}: use "pt", "np" or None.')
    if isinstance(images, list):
        sizes = sorted({_size_of(image) for image in images})
        raise ImageInputError(
            f"images of different sizes, (height, width) {sizes[0]} and {sizes[-1]}, or of different types cannot be "
            "one batch: set do_pad=True or do_split_image=True, or leave return_tensors out."
        )
    return images if return_tensors == "pt" else images.cpu().numpy()
