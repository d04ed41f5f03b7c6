"""A loaded EoMT made ready for inference alone in bfloat16 or float16: what it computes is the same, for less work.

Weights are cast once, where autocast casts them in each pass. Query, key and value are one product, layer scale is part
of the weights behind it, the patch projection and the up-convolutions are products too, and no layout is turned on the
way. Precision is kept where it is cheap: the residual stream, its norms and the class predictions stay in float32, the
sums within a product and the softmax of the attention are float32 in torch's kernels.
"""

from collections.abc import Callable
from types import FunctionType

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from eomt.inference_layers import FastLayer, FastUpscaling, Norm, Product, patch_projection
from eomt.layers import check_image_shape
from eomt.modeling import EomtForUniversalSegmentation

CompileFunction = Callable[[Callable[..., Tensor]], Callable[..., Tensor]]


class FastEomt(nn.Module):
    """A copy of a model's weights, for batches of images on its device; the model itself may be deleted."""

    prefix: Tensor
    positions: Tensor | None
    query: Tensor
    cos: Tensor | None
    sin: Tensor | None

    @torch.inference_mode()
    def __init__(self, model: EomtForUniversalSegmentation, dtype: torch.dtype) -> None:
        super().__init__()
        self.config, self.dtype = model.config, dtype
        embeddings = model.embeddings
        patches = embeddings.patch_embeddings
        projection = getattr(patches, "projection", patches)
        assert isinstance(projection, nn.Conv2d)
        self.project = Product([patch_projection(projection)], dtype)
        positions = getattr(embeddings, "position_embeddings", None)
        prefix = torch.cat((embeddings.cls_token, embeddings.register_tokens), dim=1)  # type: ignore[arg-type]
        rotation = model.eval()._rotation(prefix.detach().float())
        cos, sin = (None, None) if rotation is None else rotation
        for name, values in (
            ("prefix", prefix),
            ("positions", None if positions is None else positions.weight),
            ("query", model.query.weight),
            ("cos", cos),
            ("sin", sin),
        ):
            self.register_buffer(name, None if values is None else values.detach().float().clone())
        self.layers = nn.ModuleList(FastLayer(layer, dtype) for layer in model.layers)
        self.norm = Norm(model.layernorm, torch.float32, torch.float32)
        self.class_predictor = Product([model.class_predictor], torch.float32)
        head = model.mask_head
        self.mask_head = nn.ModuleList(Product([layer], dtype) for layer in (head.fc1, head.fc2, head.fc3))
        self.upscaling = nn.ModuleList(FastUpscaling(step, dtype) for step in model.upscale_block.block)  # type: ignore[arg-type]
        self._activation = head.activation
        self._probabilities: list[float] = model.attn_mask_probs.tolist()
        self._run_layer: Callable[..., Tensor] = _run
        self._run_mask_logits: Callable[..., Tensor] = _mask_logits

    def compile_parts(self, compiled: CompileFunction) -> None:
        """Let a compiler have a layer and the mask head.

        All layers are the same code, so that one of them is compiled, for the two or three shapes that there are, and
        not the whole model at each of its depths: seconds in the place of minutes. Called again it begins anew.
        """
        self._run_layer, self._run_mask_logits = compiled(_anew(_run)), compiled(_anew(_mask_logits))

    def run_eagerly(self) -> None:
        """As it was before `compile_parts`."""
        self._run_layer, self._run_mask_logits = _run, _mask_logits

    @torch.inference_mode()
    def predict(self, pixel_values: Tensor) -> tuple[Tensor, Tensor]:
        """Mask logits (B, Q, h, w) in the reduced dtype and class logits (B, Q, K+1) in float32.

        pixel_values: (B, channels, height, width) as the image processor makes them, on the weights' device.
        """
        tokens = self._embedded(pixel_values)  # (B, 1+R+P, D)
        rotation = None if self.cos is None or self.sin is None else (self.cos, self.sin)
        first_block = len(self.layers) - self.config.num_blocks
        for index, layer in enumerate(self.layers):
            block, query_mask = index - first_block, None
            if block == 0:
                tokens = torch.cat((self.query.expand(len(tokens), -1, -1), tokens), dim=1)  # (B, T, D)
            if block >= 0 and self._probabilities[block] > 0:
                query_mask = self._query_mask(self._mask_logits(self.norm(tokens)), self._probabilities[block])
            tokens = self._run_layer(layer, tokens, query_mask, rotation)
        tokens = self.norm(tokens)
        class_logits = self.class_predictor(tokens[:, : self.config.num_queries])
        return self._mask_logits(tokens), class_logits

    def _embedded(self, pixel_values: Tensor) -> Tensor:
        config = self.config
        check_image_shape(pixel_values, (config.num_channels, *config.image_size_hw))
        (rows, columns), (height, width) = config.grid_size, config.patch_size_hw
        pixels = pixel_values.to(self.dtype).reshape(-1, config.num_channels, rows, height, columns, width)
        flat = pixels.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)  # (B, P, channels * height * width)
        patches = self.project(flat).float()
        if self.positions is not None:
            patches = patches + self.positions
        return torch.cat((self.prefix.expand(len(patches), -1, -1), patches), dim=1)

    def _mask_logits(self, tokens: Tensor) -> Tensor:
        """(B, Q, h, w) of normalised tokens (B, T, D)."""
        config = self.config
        reduced = tokens.to(self.dtype)
        queries, patches = reduced[:, : config.num_queries], reduced[:, config.num_queries + config.num_prefix_tokens :]
        return self._run_mask_logits(self, queries, patches)

    def _query_mask(self, mask_logits: Tensor, probability: float) -> Tensor:
        """(B, 1, Q, T), as `EomtForUniversalSegmentation` makes it."""
        on_grid = F.interpolate(mask_logits, size=self.config.grid_size, mode="bilinear")
        allowed = on_grid.flatten(2) > 0  # (B, Q, P)
        if probability < 1:
            allowed = allowed | (torch.rand(allowed.shape[:2], device=allowed.device) > probability)[..., None]
        others = self.config.num_queries + self.config.num_prefix_tokens
        return F.pad(allowed, (others, 0), value=True)[:, None]


def _anew(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A copy with code of its own: of one code torch compiles eight versions, of whatever models and batch sizes, and
    then goes on without compiling."""
    assert isinstance(function, FunctionType)
    return FunctionType(function.__code__.replace(), function.__globals__, function.__name__)


def _run(layer: nn.Module, *arguments: object) -> Tensor:
    result: Tensor = layer(*arguments)
    return result


def _mask_logits(model: FastEomt, queries: Tensor, patches: Tensor) -> Tensor:
    """(B, Q, h, w) of queries (B, Q, D) and patches (B, P, D)."""
    features = patches.reshape(len(patches), *model.config.grid_size, -1)  # (B, rows, columns, D)
    for step in model.upscaling:
        features = step(features)
    first, second, third = model.mask_head
    embedded: Tensor = third(model._activation(second(model._activation(first(queries)))))
    logits = embedded @ features.flatten(1, 2).transpose(1, 2)  # (B, Q, h*w)
    return logits.view(*logits.shape[:2], *features.shape[1:3])
