"""Forward passes of a fixed number of inputs, which halves where memory runs out.

A pass always has the same number of inputs; a short one is filled up with zeros. A matrix product of another shape may
round differently (measured on a CPU: 1e-6 in the mask logits of a batch of one), and a resumed run must give the rows
of an undisturbed one.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from threading import Lock

import torch
from torch import Tensor

from eomt.inference import FastEomt
from eomt.modeling import EomtForUniversalSegmentation
from workbench.errors import ModelError
from workbench.prediction.device import exact_convolutions
from workbench.prediction.inputs import Inputs, Prepared
from workbench.prediction.profiling import MODEL, PREPARE_ON_GPU, Profile

SEED = 0
"""Of everything random in a prediction."""

Note = Callable[[str], None]


class Passes:
    """A model that takes batches of images; `batch_size` is that of the passes."""

    def __init__(
        self,
        model: EomtForUniversalSegmentation,
        inputs: Inputs,
        *,
        batch_size: int,
        dtype: torch.dtype,
        reworked: bool,
        compiled: bool,
        note: Note,
        profile: Profile,
    ) -> None:
        """`reworked`: below float32 the weights are cast and rearranged once (`eomt.inference`); `compiled`: these
        with torch's compiler."""
        self.model, self.batch_size, self.dtype = model, batch_size, dtype
        self.memory = Lock()
        """Held in a forward pass; hold it where all of the memory is needed."""
        self._inputs, self._note, self._profile = inputs, note, profile
        self._draws_masks = bool(((model.attn_mask_probs > 0) & (model.attn_mask_probs < 1)).any())
        # Convolutions whose weights have their channels last give the same bits in 0.55 of the time on a CPU.
        model.upscale_block.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._fast = FastEomt(model, dtype) if reworked and dtype != torch.float32 else None
        self._compiles = compiled and self._fast is not None
        if self._fast is not None and self._compiles:
            note("Compiling the model with the first batch.")
            try:
                self._fast.compile_parts(compiler())
            except Exception as error:  # for what torch's compiler is not made for: this Python, or an older torch
                self._stop_compiling(error)

    def run(self, images: Sequence[Prepared]) -> tuple[Tensor, Tensor]:
        """Mask logits (n, Q, h, w) and class logits (n, Q, K+1) of all crops of the images, on the device.

        Raises ModelError where a single input does not fit into memory.
        """
        while True:
            try:
                with self._profile.stage(PREPARE_ON_GPU):
                    inputs = self._inputs.on_device(images)
                with self._profile.stage(MODEL):
                    passes = [self._one_pass(part) for part in torch.split(inputs, self.batch_size)]
                return _joined([masks for masks, _ in passes]), _joined([classes for _, classes in passes])
            except torch.OutOfMemoryError as error:
                if self.batch_size == 1:
                    raise ModelError(
                        f"out of memory on {self.model.device} with a single input. Try --dtype bfloat16, "
                        "a smaller model, or --device cpu."
                    ) from error
            self._halve()

    def _one_pass(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Mask logits (n, Q, h, w) and class logits (n, Q, K+1) of n <= batch_size inputs."""
        count = len(inputs)
        if count < self.batch_size:
            inputs = torch.cat([inputs, inputs.new_zeros(self.batch_size - count, *inputs.shape[1:])])
        with self.memory, self._fixed_randomness():
            masks, classes = self._through_model(inputs) if self._fast is None else self._through_fast(inputs)
        return masks[:count], classes[:count]

    def _through_model(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        reduced = self.dtype != torch.float32
        precision = torch.autocast(self.model.device.type, dtype=self.dtype) if reduced else exact_convolutions()
        with precision:
            outputs = self.model(pixel_values=inputs)
        return outputs.masks_queries_logits, outputs.class_queries_logits

    def _through_fast(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        assert self._fast is not None
        try:
            return self._fast.predict(inputs)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            # A compiler that is missing or fails says so in many ways. What is not its fault happens again below.
            if not self._compiles:
                raise
            self._stop_compiling(error)
        return self._fast.predict(inputs)

    def _stop_compiling(self, error: Exception) -> None:
        assert self._fast is not None
        self._compiles = False
        self._fast.run_eagerly()
        reason = f"{type(error).__name__}: {error}".strip().splitlines()[0]
        self._note(f"Going on without torch.compile, which does not work here ({reason}).")

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
        self._note(f"Out of memory at batch size {self.batch_size}; going on with {self.batch_size // 2}.")
        self.batch_size //= 2
        if self._fast is not None and self._compiles:
            self._fast.compile_parts(compiler())  # what is compiled for the larger batches is of no use any more


def compiler() -> Callable[[Callable[..., Tensor]], Callable[..., Tensor]]:
    """torch.compile for fixed shapes, each compiled once, without choices by measurement, which could round otherwise
    the next time."""
    return partial(torch.compile, dynamic=False, options={"deterministic": True})


def _joined(parts: Sequence[Tensor]) -> Tensor:
    """Parts one after another along the first axis; one part is nothing to copy."""
    return parts[0] if len(parts) == 1 else torch.cat(list(parts))
