"""Training samples: sample number n is the same picture whoever asks for it, in whichever process and session.

Samples are numbered from the start of the training. Epoch and place in it follow from the number; which image is there,
and how it is varied, from the seed, the epoch and the image. So neither the number of workers nor a resume changes
what is learned from.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from eomt.image_inputs import rgb_tensor
from eomt.image_processing import EomtImageProcessor
from eomt.label_maps import read_label_map
from eomt.training import Batch
from workbench.errors import DatasetError
from workbench.formats.base import ImageRecord
from workbench.storage import readable, shown
from workbench.training.annotations import Annotations
from workbench.training.augmentation import Augmentation, augment

_ORDER, _LOOKS = 0, 1  # streams of random numbers: the order of an epoch, the looks of an image
_NO_SEGMENT = -1  # what the rule of label maps makes of void: outside the ids, which are 0..n-1


@dataclass(frozen=True)
class Sample:
    """One image as it is learned from. The masks are kept as label maps, a fraction of their size."""

    pixels: Tensor
    """(3, H, W) uint8."""
    values: NDArray[np.int32]
    """(L, H, W) label maps after `eomt.label_maps`; -1 belongs to no segment."""
    segments: NDArray[np.int64]
    """(n, 3): label map, value and class index of each segment."""


class TrainingSamples(Dataset[Sample]):
    """Samples by their number, 0, 1, 2, ... without end."""

    def __init__(
        self, annotations: Annotations, size_hw: tuple[int, int], augmentation: Augmentation, seed: int
    ) -> None:
        self.annotations, self.size_hw, self.augmentation, self.seed = annotations, size_hw, augmentation, seed

    def __getitem__(self, number: int) -> Sample:
        """The sample of that number. Raises DatasetError for an image that cannot be read or has another size."""
        epoch, place = divmod(number, len(self.annotations))
        index = int(_order(self.seed, epoch, len(self.annotations))[place])
        record, truth = self.annotations.images[index], self.annotations.label_maps(index)
        image = _read(record, truth.maps.shape[1:])
        random = np.random.default_rng([_LOOKS, self.seed, epoch, index])
        pixels, maps = augment(image, truth.maps, self.size_hw, self.augmentation, random)
        return _sample(pixels, maps, truth.classes, record)


@lru_cache(maxsize=2)
def _order(seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    return np.random.default_rng([_ORDER, seed, epoch]).permutation(count)


def _read(record: ImageRecord, declared_hw: tuple[int, ...]) -> Tensor:
    try:
        image = rgb_tensor(readable(record.path), where=shown(record.path))
    except Exception as error:  # a decoder that meets arbitrary bytes raises what it likes
        raise DatasetError(
            f"{shown(record.path)}: cannot be read as an image ({type(error).__name__}: {error}). Replace it, or take "
            "it out of the annotations."
        ) from error
    if tuple(image.shape[1:]) != declared_hw:
        raise DatasetError(
            f"{shown(record.path)}: the file has {image.shape[1]}x{image.shape[2]} pixels (height x width), the "
            f"annotations declare {declared_hw[0]}x{declared_hw[1]}. Replace the file, or correct the annotations."
        )
    return image


def _sample(pixels: Tensor, maps: NDArray[np.int32], classes: Sequence[int], record: ImageRecord) -> Sample:
    """Targets by the processor's own rule, `eomt.label_maps`, with 0 as background."""
    class_of_id = {number: class_index + 1 for number, class_index in enumerate(classes, start=1)}
    read = [read_label_map(one, class_of_id, _NO_SEGMENT, where=str(record.path)) for one in maps]
    segments = [
        (position, value, class_index)
        for position, label_map in enumerate(read)
        for value, class_index in zip(label_map.ids, label_map.class_labels, strict=True)
    ]
    values = np.stack([label_map.values for label_map in read]).astype(np.int32)
    return Sample(pixels, values, np.array(segments, dtype=np.int64).reshape(-1, 3))


@dataclass(frozen=True)
class SampleBatch:
    """B samples in four tensors, whatever their number of segments: few handles to pass between processes."""

    pixels: Tensor
    """(B, 3, H, W) uint8."""
    values: Tensor
    """(sum of L, H, W) int32."""
    segments: Tensor
    """(sum of n, 3) int64: label map (counted over the batch), value, class index."""
    counts: Tensor
    """(B,) int64: segments of each image."""

    def pin_memory(self) -> "SampleBatch":
        """The same in page-locked memory, for the data loader."""
        return SampleBatch(*(part.pin_memory() for part in (self.pixels, self.values, self.segments, self.counts)))

    def on(self, device: torch.device, processor: EomtImageProcessor) -> Batch:
        """What the model learns from: pixels normalised by its own processor, and one mask a segment."""
        pixels, values, segments = (
            part.to(device, non_blocking=True) for part in (self.pixels, self.values, self.segments)
        )
        inputs = processor.preprocess(
            list(pixels), return_tensors="pt", do_resize=False, do_pad=False, do_split_image=False
        )
        masks, classes = [], []
        for own in torch.split(segments, self.counts.tolist()):
            masks.append((values[own[:, 0]] == own[:, 1, None, None]).to(torch.uint8))  # (n, H, W)
            classes.append(own[:, 2])
        return Batch(inputs.pixel_values, masks, classes)


def collate(samples: Sequence[Sample]) -> SampleBatch:
    """Samples as a batch."""
    first_map = np.cumsum([0, *(len(sample.values) for sample in samples)])
    segments = [
        sample.segments + np.array([start, 0, 0]) for sample, start in zip(samples, first_map[:-1], strict=True)
    ]
    return SampleBatch(
        torch.stack([sample.pixels for sample in samples]),
        torch.from_numpy(np.concatenate([sample.values for sample in samples])),
        torch.from_numpy(np.concatenate(segments)),
        torch.tensor([len(sample.segments) for sample in samples]),
    )


def sample_numbers(
    step: int, total_steps: int, batch_size: int, accumulate: int, rank: int = 0, processes: int = 1
) -> list[list[int]]:
    """The sample numbers of each forward pass of one process, from `step` to the end.

    A step takes the next `batch_size * accumulate * processes` samples; its micro-batch i takes as many in a row from
    each process in turn, so that a step's samples do not depend on how they are shared out.
    """
    wide = batch_size * processes
    passes = range(step * accumulate, total_steps * accumulate)
    return [list(range(start := one * wide + rank * batch_size, start + batch_size)) for one in passes]
