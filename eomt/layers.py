"""The layers of EoMT: patch embeddings, the ViT layer, and the two parts of the mask head.

Attribute names are those of the published checkpoints. B images, T tokens, D hidden size, Q queries, P patches, R
registers.
"""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from eomt.attention import Attention, Rotation
from eomt.configuration import EomtConfig
from eomt.onednn import activated, linear

ACTIVATION_FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_new": partial(F.gelu, approximate="tanh"),
    "gelu_pytorch_tanh": partial(F.gelu, approximate="tanh"),
    "relu": F.relu,
    "silu": F.silu,
    "swish": F.silu,
}


def check_image_shape(pixel_values: Tensor, expected: tuple[int, ...]) -> None:
    """Refuse images whose (channels, height, width) are not the configuration's."""
    if tuple(pixel_values.shape[1:]) != expected:
        raise ValueError(
            f"pixel_values is {tuple(pixel_values.shape)}, but the configuration fixes (batch, channels, height,"
            f" width) to (any, {', '.join(map(str, expected))}): resize or pad the images to it."
        )


class PatchEmbeddings(nn.Module):
    """Cuts the image into patches and projects each: (B, C, height, width) -> (B, P, D)."""

    def __init__(self, config: EomtConfig) -> None:
        super().__init__()
        patch = config.patch_size_hw
        self.input_shape = (config.num_channels, *config.image_size_hw)
        self.projection = nn.Conv2d(config.num_channels, config.hidden_size, kernel_size=patch, stride=patch)

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Project the patches, row by row; the image is first cast to the weights' dtype."""
        check_image_shape(pixel_values, self.input_shape)
        patches: Tensor = self.projection(pixel_values.to(self.projection.weight.dtype))
        return patches.flatten(2).transpose(1, 2)  # (B, P, D)


class LearnedVectors(nn.Embedding):
    """A table of parameters (n, D), drawn from a normal distribution."""

    def reset_parameters(self) -> None:
        """Draw them, unless they have no memory yet: torch would import its compiler for nothing, 1.6 seconds."""
        if not self.weight.is_meta:
            super().reset_parameters()


class Embeddings(nn.Module):
    """Class token, registers and patches, (B, 1+R+P, D); only the patches know where they are."""

    def __init__(self, config: EomtConfig) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.empty(1, 1, config.hidden_size))
        self.register_tokens = nn.Parameter(torch.zeros(1, config.num_register_tokens, config.hidden_size))
        self.patch_embeddings = PatchEmbeddings(config)
        self.position_embeddings = LearnedVectors(config.num_patches, config.hidden_size)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        nn.init.trunc_normal_(self.cls_token, std=config.initializer_range)

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Tokens of a batch of images."""
        patches = self.patch_embeddings(pixel_values) + self.position_embeddings.weight  # (B, P, D)
        prefix = torch.cat((self.cls_token, self.register_tokens), dim=1).expand(len(patches), -1, -1)
        tokens: Tensor = self.dropout(torch.cat((prefix, patches), dim=1))
        return tokens


class Mlp(nn.Module):
    """The feed-forward part of S, B and L: (B, T, D) -> (B, T, D)."""

    def __init__(self, config: EomtConfig) -> None:
        super().__init__()
        self.activation = ACTIVATION_FUNCTIONS[config.hidden_act]
        self.fc1 = nn.Linear(config.hidden_size, config.mlp_size)
        self.fc2 = nn.Linear(config.mlp_size, config.hidden_size)

    def forward(self, tokens: Tensor) -> Tensor:
        """Widen, activate, narrow."""
        return linear(self.fc2, activated(self.fc1, tokens, self.activation))


class SwiGlu(nn.Module):
    """The gated feed-forward part of the giant: (B, T, D) -> (B, T, D)."""

    def __init__(self, config: EomtConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.mlp_size)
        self.up_proj = nn.Linear(config.hidden_size, config.mlp_size)
        self.down_proj = nn.Linear(config.mlp_size, config.hidden_size)

    def forward(self, tokens: Tensor) -> Tensor:
        """Widen twice, gate one with the other, narrow."""
        return linear(self.down_proj, F.silu(linear(self.gate_proj, tokens)) * linear(self.up_proj, tokens))


class LayerScale(nn.Module):
    """A learned factor per channel on a residual branch."""

    def __init__(self, config: EomtConfig) -> None:
        super().__init__()
        self.lambda1 = nn.Parameter(torch.full((config.hidden_size,), config.layerscale_value))

    def forward(self, branch: Tensor, residual: Tensor) -> Tensor:
        """The residual stream plus the scaled branch, in one pass over memory."""
        return torch.addcmul(residual, branch, self.lambda1)


class Layer(nn.Module):
    """A pre-norm ViT layer: attention, then feed-forward, each scaled and added to the stream."""

    def __init__(self, config: EomtConfig) -> None:
        super().__init__()
        self.drop_path_rate = config.drop_path_rate
        self.norm1 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.attention = self._make_attention(config)
        self.layer_scale1 = LayerScale(config)
        self.norm2 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.mlp = self._make_mlp(config)
        self.layer_scale2 = LayerScale(config)

    def _make_attention(self, config: EomtConfig) -> Attention:
        return Attention(config)

    def _make_mlp(self, config: EomtConfig) -> nn.Module:
        return SwiGlu(config) if config.use_swiglu_ffn else Mlp(config)

    def forward(
        self,
        tokens: Tensor,
        query_mask: Tensor | None = None,
        need_weights: bool = False,
        rotation: Rotation | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """(B, T, D) -> (B, T, D), and the attention weights if asked for; arguments as in `Attention`."""
        attended, weights = self.attention(self.norm1(tokens), query_mask, need_weights, rotation)
        tokens = self.layer_scale1(self._drop_path(attended), tokens)
        tokens = self.layer_scale2(self._drop_path(self.mlp(self.norm2(tokens))), tokens)
        return tokens, weights

    def _drop_path(self, branch: Tensor) -> Tensor:
        """Stochastic depth: in training, leave the branch out for some images and scale the others up."""
        if not self.training or self.drop_path_rate == 0:
            return branch
        draws = torch.rand(len(branch), 1, 1, dtype=branch.dtype, device=branch.device)
        return branch * (draws >= self.drop_path_rate) / (1 - self.drop_path_rate)


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of (B, D, h, w)."""

    def forward(self, features: Tensor) -> Tensor:
        """Normalise each pixel; free of copies where the channels are the last in memory, as they are here."""
        return super().forward(features.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class UpscaleStep(nn.Module):
    """Doubles the resolution: (B, D, h, w) -> (B, D, 2h, 2w)."""

    def __init__(self, config: EomtConfig) -> None:
        super().__init__()
        size = config.hidden_size
        self.activation = ACTIVATION_FUNCTIONS[config.hidden_act]
        self.conv1 = nn.ConvTranspose2d(size, size, kernel_size=2, stride=2)
        self.conv2 = nn.Conv2d(size, size, kernel_size=3, padding=1, groups=size, bias=False)
        self.layernorm2d = ChannelNorm(size, eps=1e-6)

    def forward(self, features: Tensor) -> Tensor:
        """Up-convolve, activate, smooth each channel, normalise."""
        output: Tensor = self.layernorm2d(self.conv2(self.activation(self.conv1(features))))
        return output


class UpscaleBlock(nn.Module):
    """From the patch grid to the mask resolution: (B, D, rows, columns) -> (B, D, h, w)."""

    def __init__(self, config: EomtConfig) -> None:
        super().__init__()
        self.block = nn.ModuleList(UpscaleStep(config) for _ in range(config.num_upscale_blocks))

    def forward(self, features: Tensor) -> Tensor:
        """Double as often as the configuration says."""
        for step in self.block:
            features = step(features)
        return features


class MaskHead(nn.Module):
    """Turns each query into a mask embedding: (B, Q, D) -> (B, Q, D)."""

    def __init__(self, config: EomtConfig) -> None:
        super().__init__()
        self.activation = ACTIVATION_FUNCTIONS[config.hidden_act]
        self.fc1 = nn.Linear(config.hidden_size, config.hidden_size)
        self.fc2 = nn.Linear(config.hidden_size, config.hidden_size)
        self.fc3 = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, queries: Tensor) -> Tensor:
        """A perceptron of three layers."""
        output: Tensor = self.fc3(self.activation(self.fc2(self.activation(self.fc1(queries)))))
        return output
