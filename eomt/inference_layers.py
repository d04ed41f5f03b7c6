"""The parts of an EoMT with their weights laid out for inference: fewer and larger products, channels last.

Made once from a loaded model; `eomt.inference` says in which precision what is done. B images, T tokens, D hidden
size, H heads of d channels, R x C patches.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from eomt.attention import Rotation, rotate
from eomt.layers import UpscaleStep

Affine = tuple[Tensor, Tensor]
"""Weight (outputs, inputs) and bias (outputs,), in float32."""


class Product(nn.Module):
    """(..., D) -> (..., sum of outputs): one linear layer in the place of several that share their input."""

    weight: Tensor
    bias: Tensor | None

    def __init__(self, layers: Sequence[nn.Linear | Affine], dtype: torch.dtype, scale: Tensor | None = None) -> None:
        super().__init__()
        parts = [_affine(layer) if isinstance(layer, nn.Linear) else layer for layer in layers]
        weight, bias = torch.cat([weight for weight, _ in parts]), torch.cat([bias for _, bias in parts])
        if scale is not None:
            weight, bias = weight * scale[:, None], bias * scale
        self.register_buffer("weight", weight.to(dtype))
        self.register_buffer("bias", bias.to(dtype))

    def forward(self, inputs: Tensor) -> Tensor:
        """The outputs of all layers side by side."""
        return F.linear(inputs, self.weight, self.bias)


class Norm(nn.Module):
    """LayerNorm over the last axis, in float32 where its weights are; the result in `dtype`."""

    weight: Tensor
    bias: Tensor

    def __init__(self, norm: nn.LayerNorm, weights_dtype: torch.dtype, dtype: torch.dtype) -> None:
        super().__init__()
        self._shape, self._eps, self._dtype = norm.normalized_shape, norm.eps, dtype
        self.register_buffer("weight", norm.weight.detach().to(weights_dtype, copy=True))
        self.register_buffer("bias", norm.bias.detach().to(weights_dtype, copy=True))

    def forward(self, inputs: Tensor) -> Tensor:
        """Normalise each position."""
        return F.layer_norm(inputs, self._shape, self.weight, self.bias, self._eps).to(self._dtype)


class FastLayer(nn.Module):
    """A ViT layer: (B, T, D) -> (B, T, D), a float32 stream to which reduced branches are added."""

    scale1: Tensor | None
    scale2: Tensor | None

    def __init__(self, layer: Any, dtype: torch.dtype) -> None:
        """Of a `layers.Layer` of either backbone; their parts have different names."""
        super().__init__()
        attention, mlp = layer.attention, layer.mlp
        # float16 has no room for a small scale times a small weight: there it stays a factor of its own.
        folded = dtype != torch.float16
        scales = [layer.layer_scale1.lambda1.detach(), layer.layer_scale2.lambda1.detach()]
        for name, scale in zip(("scale1", "scale2"), scales, strict=True):
            self.register_buffer(name, None if folded else scale.float())
        last = [mlp.fc2 if hasattr(mlp, "fc2") else mlp.down_proj]
        first = [mlp.fc1] if hasattr(mlp, "fc1") else [mlp.up_proj]
        self._is_gated = hasattr(mlp, "gate_proj")
        self.norm1, self.norm2 = (Norm(norm, torch.float32, dtype) for norm in (layer.norm1, layer.norm2))
        self.qkv = Product([attention.q_proj, attention.k_proj, attention.v_proj], dtype)
        out = attention.out_proj if hasattr(attention, "out_proj") else attention.o_proj
        self.out = Product([out], dtype, scales[0] if folded else None)
        self.widen = Product([mlp.gate_proj, *first] if self._is_gated else first, dtype)
        self.narrow = Product(last, dtype, scales[1] if folded else None)
        self._heads: int = attention.num_heads
        self._activation: Callable[[Tensor], Tensor] = getattr(mlp, "activation", F.silu)

    def forward(self, tokens: Tensor, query_mask: Tensor | None, rotation: Rotation | None) -> Tensor:
        """As `layers.Layer`, at inference."""
        attended: Tensor = self.out(self._attended(self.norm1(tokens), query_mask, rotation))
        tokens = tokens + (attended if self.scale1 is None else attended * self.scale1)
        wide: Tensor = self.widen(self.norm2(tokens))
        if self._is_gated:
            gate, up = wide.chunk(2, dim=-1)
            wide = self._activation(gate) * up
        else:
            wide = self._activation(wide)
        narrow: Tensor = self.narrow(wide)
        return tokens + (narrow if self.scale2 is None else narrow * self.scale2)

    def _attended(self, tokens: Tensor, query_mask: Tensor | None, rotation: Rotation | None) -> Tensor:
        qkv: Tensor = self.qkv(tokens)
        qkv = qkv.view(*qkv.shape[:2], 3, self._heads, -1)  # (B, T, 3, H, d)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # (B, H, T, d)
        if rotation is not None:
            query, key = rotate(query, rotation), rotate(key, rotation)
        if query_mask is None:
            mixed = F.scaled_dot_product_attention(query, key, value)
        else:  # two calls, as in `attention`: only the rows of queries have a mask
            count = query_mask.shape[2]
            masked = F.scaled_dot_product_attention(query[:, :, :count], key, value, attn_mask=query_mask)
            free = F.scaled_dot_product_attention(query[:, :, count:], key, value)
            mixed = torch.cat((masked, free), dim=2)
        attended: Tensor = mixed.transpose(1, 2).flatten(2)  # (B, T, D)
        return attended


class FastUpscaling(nn.Module):
    """Doubles the resolution with the channels last: (B, R, C, D) -> (B, 2R, 2C, D)."""

    smoothing: Tensor

    def __init__(self, step: UpscaleStep, dtype: torch.dtype) -> None:
        super().__init__()
        doubling, bias = step.conv1.weight.detach().float().contiguous(), step.conv1.bias  # (D in, D out, 2, 2)
        assert bias is not None
        weight = doubling.permute(2, 3, 1, 0).flatten(0, 2)  # (2 * 2 * D out, D in)
        self.widen = Product([(weight, bias.detach().float().repeat(4))], dtype)
        smoothing = step.conv2.weight.detach().to(dtype)  # (D, 1, 3, 3)
        self.register_buffer("smoothing", smoothing.contiguous(memory_format=torch.channels_last))
        self.norm = Norm(step.layernorm2d, dtype, dtype)
        self._activation = step.activation

    def forward(self, features: Tensor) -> Tensor:
        """Up-convolve as a product, activate, smooth each channel, normalise."""
        images, rows, columns, channels = features.shape
        wide = self._activation(self.widen(features)).view(images, rows, columns, 2, 2, channels)
        wide = wide.transpose(2, 3).reshape(images, 2 * rows, 2 * columns, channels)
        smooth = F.conv2d(wide.permute(0, 3, 1, 2), self.smoothing, padding=1, groups=channels)
        result: Tensor = self.norm(smooth.permute(0, 2, 3, 1))
        return result


def patch_projection(projection: nn.Conv2d) -> Affine:
    """What does on flattened patches what a convolution does whose stride is its size."""
    return _affine(projection)


def _affine(layer: nn.Linear | nn.Conv2d) -> Affine:
    """A layer without bias has zeros."""
    weight = layer.weight.detach().float().flatten(1)
    return weight, weight.new_zeros(len(weight)) if layer.bias is None else layer.bias.detach().float()
