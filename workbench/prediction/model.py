"""The prediction interface: images prepared in any thread, predicted a batch at a time on one device.

A forward pass always has the same number of inputs; a short one is filled up with zeros. A matrix product of another
shape may round differently (measured on a CPU: 1e-6 in the mask logits of a batch of one), and a resumed run must give
the rows of an undisturbed one.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import torch
from torch import Tensor

from eomt.errors import ImageInputError
from eomt.image_inputs import rgb_tensor
from eomt.image_processing import EomtImageProcessor
from eomt.modeling import EomtForUniversalSegmentation
from eomt.outputs import EomtForUniversalSegmentationOutput
from eomt.resizing import resized_size
from workbench.errors import ModelError
from workbench.prediction.classes import ClassMap
from workbench.prediction.encode import Failed, Prediction
from workbench.prediction.options import TaskOptions
from workbench.prediction.profiling import DECODE, MODEL, POST_PROCESS, PREPARE, Profile
from workbench.prediction.segments_of import segments
from workbench.storage import readable, shown

SEED = 0
"""Of everything random in a prediction."""

Note = Callable[[str], None]


@dataclass(frozen=True)
class Prepared:
    """An image as the model takes it."""

    pixel_values: Tensor
    """(crops, 3, height, width) float32, on the CPU; one crop where images are not split."""
    spans: tuple[tuple[int, int], ...]
    """(start, end) of each crop along the longer side; empty where images are not split."""
    size_hw: tuple[int, int]
    """Of the image's file."""


class Predictor:
    """A model on its device with the task's post-processing. `batch_size` halves itself where memory runs out."""

    def __init__(
        self,
        model: EomtForUniversalSegmentation,
        processor: EomtImageProcessor,
        options: TaskOptions,
        classes: ClassMap,
        *,
        batch_size: int,
        dtype: torch.dtype = torch.float32,
        note: Note = lambda text: None,
        profile: Profile | None = None,
    ) -> None:
        self.model, self.processor, self.options, self.batch_size = model, processor, options, batch_size
        self.dtype, self.note = dtype, note
        self._profile = profile or Profile()
        self._memory = Lock()
        """Held in a forward pass, and while images that ran out of memory are tried again one by one."""
        # Convolutions whose weights have their channels last give the same bits in 0.55 of the time on a CPU.
        model.upscale_block.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._draws_masks = bool(((model.attn_mask_probs > 0) & (model.attn_mask_probs < 1)).any())
        self._used = list(classes.used)
        self._all_used = len(self._used) == len(classes.of_class)
        self.categories = tuple(category for category in classes.of_class if category is not None)
        """The category of each class index in a prediction."""

    def prepare(self, path: Path) -> Prepared:
        """Read and preprocess an image; safe to call from several threads. Raises ImageInputError."""
        with self._profile.stage(DECODE):
            image = rgb_tensor(readable(path), where=shown(path))  # (3, h, w)
        self._check_not_too_thin((int(image.shape[1]), int(image.shape[2])), path)
        with self._profile.stage(PREPARE):
            batch = self.processor.preprocess([image], return_tensors="pt")
        self._check_fits(batch.pixel_values, path)
        spans = tuple((int(start), int(end)) for _, start, end in batch.patch_offsets)
        return Prepared(batch.pixel_values, spans, (int(image.shape[1]), int(image.shape[2])))

    def _check_not_too_thin(self, size_hw: tuple[int, int], path: Path) -> None:
        if self.processor.do_resize and min(resized_size(size_hw, self.processor.size)) == 0:
            raise ImageInputError(
                f"{path}: {size_hw[1]} x {size_hw[0]} pixels: its shorter side would be 0 pixels at the model's size. "
                "Crop it to another shape."
            )

    def _check_fits(self, pixel_values: Tensor, path: Path) -> None:
        """Refuse what fits no batch: the processor's settings make another size of this image."""
        made, taken = tuple(pixel_values.shape[-2:]), self.model.config.image_size_hw
        if made != taken:
            raise ImageInputError(
                f"{path}: the processor makes {made[1]}x{made[0]} pixels (width x height) of it, the model takes "
                f"{taken[1]}x{taken[0]}. Crop or resize it to another shape."
            )

    def predict(self, images: Sequence[Prepared]) -> list[Prediction | Failed]:
        """One prediction an image; Failed where memory runs out on that image's own size.

        Raises ModelError where a single input does not fit into memory.
        """
        return self.post_process(self.forward(images), images)

    @torch.inference_mode()
    def post_process(
        self, outputs: EomtForUniversalSegmentationOutput, images: Sequence[Prepared]
    ) -> list[Prediction | Failed]:
        """The second half of `predict`; another thread may meanwhile run the first half for the next images."""
        with self._profile.stage(POST_PROCESS):
            try:
                return [*self._segments(outputs, images)]
            except torch.OutOfMemoryError:
                pass  # outside the handler the exception no longer holds on to the memory
            with self._memory:
                return self._one_by_one(outputs, images)

    @torch.inference_mode()
    def forward(self, images: Sequence[Prepared]) -> EomtForUniversalSegmentationOutput:
        """The first half of `predict`: the outputs of all crops of the images, in passes of `batch_size` inputs.

        Raises ModelError where a single input does not fit into memory.
        """
        with self._profile.stage(MODEL):
            return self._forward(images)

    def _forward(self, images: Sequence[Prepared]) -> EomtForUniversalSegmentationOutput:
        inputs = torch.cat([image.pixel_values for image in images])  # (n, 3, h, w)
        while True:
            try:
                passes = [self._one_pass(part) for part in torch.split(inputs, self.batch_size)]
                break
            except torch.OutOfMemoryError as error:
                if self.batch_size == 1:
                    raise ModelError(
                        f"out of memory on {self.model.device} with a single input. Try --dtype bfloat16, "
                        "a smaller model, or --device cpu."
                    ) from error
            self._halve()
        class_logits = torch.cat([classes for _, classes in passes])
        return EomtForUniversalSegmentationOutput(
            masks_queries_logits=torch.cat([masks for masks, _ in passes]),
            class_queries_logits=class_logits if self._all_used else self._folded(class_logits),
        )

    def _one_pass(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Mask logits (n, Q, h, w) and class logits (n, Q, K+1) of n <= batch_size inputs."""
        device = self.model.device
        count = len(inputs)
        if count < self.batch_size:
            inputs = torch.cat([inputs, inputs.new_zeros(self.batch_size - count, *inputs.shape[1:])])
        autocast = torch.autocast(device.type, dtype=self.dtype, enabled=self.dtype != torch.float32)
        with self._memory, autocast, self._fixed_randomness():
            outputs = self.model(pixel_values=inputs.to(device))
        return outputs.masks_queries_logits[:count], outputs.class_queries_logits[:count]

    @contextmanager
    def _fixed_randomness(self) -> Iterator[None]:
        """Attention masks of a probability between 0 and 1 are drawn: let every session draw the same."""
        if not self._draws_masks:
            yield
            return
        device = self.model.device
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            torch.manual_seed(SEED)
            yield

    def _halve(self) -> None:
        torch.cuda.empty_cache()  # does nothing where there is no GPU
        self.note(f"Out of memory at batch size {self.batch_size}; going on with {self.batch_size // 2}.")
        self.batch_size //= 2

    def _folded(self, class_logits: Tensor) -> Tensor:
        """(n, Q, used + 1): classes without a category give their probability to "no object", others keep theirs."""
        class_logits = class_logits.float()
        rest = [index for index in range(class_logits.shape[-1]) if index not in self._used]
        return torch.cat([class_logits[..., self._used], class_logits[..., rest].logsumexp(-1, keepdim=True)], dim=-1)

    def _one_by_one(
        self, outputs: EomtForUniversalSegmentationOutput, images: Sequence[Prepared]
    ) -> list[Prediction | Failed]:
        """The predictions of a batch whose post-processing ran out of memory as a whole."""
        results: list[Prediction | Failed] = []
        start = 0
        for image in images:
            rows = slice(start, start + len(image.pixel_values))
            start = rows.stop
            torch.cuda.empty_cache()
            try:
                results += self._segments(_rows(outputs, rows), [image])
            except torch.OutOfMemoryError:
                height, width = image.size_hw
                results.append(Failed(f"out of memory: {height}x{width} pixels are too many for {self.model.device}"))
        return results

    def _segments(self, outputs: EomtForUniversalSegmentationOutput, images: Sequence[Prepared]) -> list[Prediction]:
        outputs.patch_offsets = _offsets(images)
        sizes = [image.size_hw for image in images]
        return segments(outputs, sizes, self.processor.size, self.options, self.categories)


def _rows(outputs: EomtForUniversalSegmentationOutput, rows: slice) -> EomtForUniversalSegmentationOutput:
    assert outputs.masks_queries_logits is not None and outputs.class_queries_logits is not None
    return EomtForUniversalSegmentationOutput(
        masks_queries_logits=outputs.masks_queries_logits[rows],
        class_queries_logits=outputs.class_queries_logits[rows],
    )


def _offsets(images: Sequence[Prepared]) -> list[Tensor]:
    """Rows (image, start, end), one a crop, as post-processing wants them; none where images are not split."""
    return [torch.tensor((i, start, end)) for i, image in enumerate(images) for start, end in image.spans]
