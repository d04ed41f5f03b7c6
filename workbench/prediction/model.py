"""The prediction interface: images prepared in any thread, predicted a batch at a time on one device."""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from eomt.host_copies import HostCopies
from eomt.image_processing import EomtImageProcessor
from eomt.modeling import EomtForUniversalSegmentation
from eomt.outputs import EomtForUniversalSegmentationOutput
from workbench.prediction.classes import ClassMap
from workbench.prediction.encode import Failed, Prediction
from workbench.prediction.inputs import Inputs, Prepared
from workbench.prediction.options import TaskOptions
from workbench.prediction.passes import SEED, Note, Passes
from workbench.prediction.profiling import POST_PROCESS, POST_PROCESS_ON_GPU, WAIT_FOR_GPU, Profile
from workbench.prediction.segments_of import segments
from workbench.prediction.streams import SideQueue

__all__ = ["SEED", "Note", "PassOutputs", "Predictor", "Prepared"]


@dataclass
class PassOutputs(EomtForUniversalSegmentationOutput):
    """The outputs of a batch, which a GPU may still be working on."""

    ready: torch.cuda.Event | None = None
    """When it is done with them; None on a CPU."""


class Predictor:
    """A model on its device with the task's post-processing. `batch_size` halves itself where memory runs out.

    On a GPU images are resized there, a model below float32 has its weights rearranged, and a batch is post-processed
    as a whole beside the next forward pass. `like_a_gpu` asks for these ways, or not, whatever the device.
    """

    def __init__(
        self,
        model: EomtForUniversalSegmentation,
        processor: EomtImageProcessor,
        options: TaskOptions,
        classes: ClassMap,
        *,
        batch_size: int,
        dtype: torch.dtype = torch.float32,
        compiled: bool = False,
        note: Note = lambda text: None,
        profile: Profile | None = None,
        like_a_gpu: bool | None = None,
    ) -> None:
        self.model, self.processor, self.options = model, processor, options
        self._profile = profile or Profile()
        self._like_a_gpu = model.device.type == "cuda" if like_a_gpu is None else like_a_gpu
        self._inputs = Inputs(
            processor,
            model.config.image_size_hw,
            model.device,
            resize_on_device=self._like_a_gpu,
            profile=self._profile,
        )
        self._passes = Passes(
            model,
            self._inputs,
            batch_size=batch_size,
            dtype=dtype,
            reworked=self._like_a_gpu,
            compiled=compiled,
            note=note,
            profile=self._profile,
        )
        self._side = SideQueue(model.device)
        used = set(classes.used)
        count = len(classes.of_class)
        self._used = torch.tensor(sorted(used), device=model.device)
        self._rest = torch.tensor([i for i in range(count + 1) if i not in used], device=model.device)
        self._all_used = len(used) == count
        self.categories = tuple(category for category in classes.of_class if category is not None)
        """The category of each class index in a prediction."""

    @property
    def batch_size(self) -> int:
        """Inputs of a forward pass."""
        return self._passes.batch_size

    def prepare(self, path: Path) -> Prepared:
        """Read and preprocess an image; safe to call from several threads. Raises ImageInputError."""
        return self._inputs.prepare(path)

    def predict(self, images: Sequence[Prepared]) -> list[Prediction | Failed]:
        """One prediction an image; Failed where memory runs out on that image's own size.

        Raises ModelError where a single input does not fit into memory.
        """
        return self.post_process(self.forward(images), images)

    @torch.inference_mode()
    def forward(self, images: Sequence[Prepared]) -> PassOutputs:
        """The first half of `predict`: the outputs of all crops of the images, in passes of `batch_size` inputs.

        A GPU is given the work and not waited for. Raises ModelError where a single input does not fit into memory.
        """
        masks, classes = self._passes.run(images)
        return PassOutputs(
            masks_queries_logits=masks,
            class_queries_logits=classes if self._all_used else self._folded(classes),
            ready=self._side.mark(),
        )

    @torch.inference_mode()
    def post_process(
        self, outputs: EomtForUniversalSegmentationOutput, images: Sequence[Prepared]
    ) -> list[Prediction | Failed]:
        """The second half of `predict`; another thread may meanwhile run the first half for the next images."""
        with self._profile.stage(POST_PROCESS), self._side.after(getattr(outputs, "ready", None)):
            try:
                with self._profile.stage(POST_PROCESS_ON_GPU) if self._like_a_gpu else nullcontext():
                    return [*self._segments(outputs, images)]
            except torch.OutOfMemoryError:
                pass  # outside the handler the exception no longer holds on to the memory
            with self._passes.memory:
                return self._one_by_one(outputs, images)

    def _folded(self, class_logits: Tensor) -> Tensor:
        """(n, Q, used + 1): classes without a category give their probability to "no object", others keep theirs."""
        class_logits = class_logits.float()
        used, rest = (class_logits.index_select(-1, chosen) for chosen in (self._used, self._rest))
        return torch.cat([used, rest.logsumexp(-1, keepdim=True)], dim=-1)

    def _one_by_one(
        self, outputs: EomtForUniversalSegmentationOutput, images: Sequence[Prepared]
    ) -> list[Prediction | Failed]:
        """The predictions of a batch whose post-processing ran out of memory as a whole."""
        results: list[Prediction | Failed] = []
        start = 0
        for image in images:
            rows = slice(start, start + image.crops)
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
        copies = HostCopies(partial(self._profile.stage, WAIT_FOR_GPU)) if self._like_a_gpu else None
        return segments(outputs, sizes, self.processor.size, self.options, self.categories, copies)


def _rows(outputs: EomtForUniversalSegmentationOutput, rows: slice) -> EomtForUniversalSegmentationOutput:
    assert outputs.masks_queries_logits is not None and outputs.class_queries_logits is not None
    return EomtForUniversalSegmentationOutput(
        masks_queries_logits=outputs.masks_queries_logits[rows],
        class_queries_logits=outputs.class_queries_logits[rows],
    )


def _offsets(images: Sequence[Prepared]) -> list[Tensor]:
    """Rows (image, start, end), one a crop, as post-processing wants them; none where images are not split."""
    return [torch.tensor((i, start, end)) for i, image in enumerate(images) for start, end in image.spans]
