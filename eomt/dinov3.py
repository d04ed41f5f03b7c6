"""EoMT on a DINOv3 backbone: rotary positions instead of learned ones, everything after the backbone the same.

Attribute names are those of the published `eomt_dinov3` checkpoints. Shapes as in `eomt.modeling`.
"""

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from eomt.attention import Attention, Rotation
from eomt.configuration import EomtConfig
from eomt.errors import ConfigError
from eomt.layers import ACTIVATION_FUNCTIONS, Layer, check_image_shape
from eomt.modeling import EomtForUniversalSegmentation
from eomt.onednn import activated, linear


@dataclass(frozen=True, kw_only=True)
class EomtDinov3Config(EomtConfig):
    """The documented configuration of `eomt_dinov3`; `mlp_ratio` and `use_swiglu_ffn` of its parent mean nothing.

    `pos_embed_shift`, `pos_embed_jitter` and `pos_embed_rescale` move, stretch and scale all positions at random in
    training; None leaves them out.
    """

    model_type: ClassVar[str] = "eomt_dinov3"

    intermediate_size: int = 4096
    use_gated_mlp: bool = False
    query_bias: bool = True
    key_bias: bool = False
    value_bias: bool = True
    proj_bias: bool = True
    mlp_bias: bool = True
    rope_parameters: dict[str, Any] = field(default_factory=dict)  # filled in on construction
    pos_embed_shift: float | None = None
    pos_embed_jitter: float | None = None
    pos_embed_rescale: float | None = 2.0

    def __post_init__(self) -> None:
        super().__post_init__()
        rope = {"rope_type": "default", "rope_theta": 100.0, **(self.rope_parameters or {})}
        object.__setattr__(self, "rope_parameters", rope)
        if rope["rope_type"] != "default":
            raise ConfigError(f"rope_type {rope['rope_type']!r} is unknown; EoMT with DINOv3 has only 'default'.")
        if self.hidden_size // self.num_attention_heads % 4:
            raise ConfigError(
                f"hidden_size {self.hidden_size} / num_attention_heads {self.num_attention_heads} must be divisible by"
                " 4: sine and cosine for rows and for columns."
            )

    @property
    def mlp_size(self) -> int:
        """Hidden width of the feed-forward part."""
        return self.intermediate_size

    @classmethod
    def from_size(cls, size: str, **overrides: Any) -> Self:
        """The published architecture of a size: "small", "base" or "large" (or its first letter)."""
        plain = EomtConfig.from_size(size)
        if plain.use_swiglu_ffn:
            raise ConfigError(f"size {size!r} has no DINOv3 version; choose one of small, base, large.")
        architecture = {
            "hidden_size": plain.hidden_size,
            "num_hidden_layers": plain.num_hidden_layers,
            "num_attention_heads": plain.num_attention_heads,
            "num_blocks": plain.num_blocks,
            "intermediate_size": 4 * plain.hidden_size,
        }
        return cls(**{**architecture, **overrides})

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """As `EomtConfig.from_dict`; older files give `rope_theta` by itself."""
        values = dict(values)
        if "rope_theta" in values:
            theta = values.pop("rope_theta")
            values["rope_parameters"] = {"rope_theta": theta, **(values.get("rope_parameters") or {})}
        return super().from_dict(values)

    def to_dict(self) -> dict[str, Any]:
        """The contents of a `config.json`, in the form that transformers reads too."""
        values = super().to_dict()
        del values["mlp_ratio"], values["use_swiglu_ffn"]
        return values


class Dinov3Embeddings(nn.Module):
    """Class token, registers and patches without positions: (B, channels, height, width) -> (B, 1+R+P, D)."""

    def __init__(self, config: EomtConfig) -> None:
        super().__init__()
        patch = config.patch_size_hw
        self.input_shape = (config.num_channels, *config.image_size_hw)
        self.cls_token = nn.Parameter(torch.empty(1, 1, config.hidden_size))
        self.register_tokens = nn.Parameter(torch.zeros(1, config.num_register_tokens, config.hidden_size))
        self.patch_embeddings = nn.Conv2d(config.num_channels, config.hidden_size, kernel_size=patch, stride=patch)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        nn.init.trunc_normal_(self.cls_token, std=config.initializer_range)

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Tokens of a batch of images, which are first cast to the weights' dtype."""
        check_image_shape(pixel_values, self.input_shape)
        patches = self.patch_embeddings(pixel_values.to(self.patch_embeddings.weight.dtype))
        patches = patches.flatten(2).transpose(1, 2)  # (B, P, D)
        prefix = torch.cat((self.cls_token, self.register_tokens), dim=1).expand(len(patches), -1, -1)
        tokens: Tensor = self.dropout(torch.cat((prefix, patches), dim=1))
        return tokens


class Dinov3Attention(Attention):
    """The attention with DINOv3's names and biases."""

    def _add_projections(self, config: EomtConfig) -> None:
        config = _dinov3(config)
        self.q_proj = nn.Linear(config.hidden_size, config.hidden_size, bias=config.query_bias)
        self.k_proj = nn.Linear(config.hidden_size, config.hidden_size, bias=config.key_bias)
        self.v_proj = nn.Linear(config.hidden_size, config.hidden_size, bias=config.value_bias)
        self.o_proj = nn.Linear(config.hidden_size, config.hidden_size, bias=config.proj_bias)

    def _output(self, mixed: Tensor) -> Tensor:
        return linear(self.o_proj, mixed)


class Dinov3Mlp(nn.Module):
    """The feed-forward part, gated or not: (B, T, D) -> (B, T, D)."""

    def __init__(self, config: EomtDinov3Config) -> None:
        super().__init__()
        self.activation = ACTIVATION_FUNCTIONS[config.hidden_act]
        if config.use_gated_mlp:
            self.gate_proj = nn.Linear(config.hidden_size, config.mlp_size, bias=config.mlp_bias)
        self.up_proj = nn.Linear(config.hidden_size, config.mlp_size, bias=config.mlp_bias)
        self.down_proj = nn.Linear(config.mlp_size, config.hidden_size, bias=config.mlp_bias)
        self.is_gated = config.use_gated_mlp

    def forward(self, tokens: Tensor) -> Tensor:
        """Widen, activate, narrow; with a gate, that is what is activated."""
        if self.is_gated:
            wide = activated(self.gate_proj, tokens, self.activation) * linear(self.up_proj, tokens)
        else:
            wide = activated(self.up_proj, tokens, self.activation)
        return linear(self.down_proj, wide)


class Dinov3Layer(Layer):
    """A pre-norm ViT layer made of the parts above."""

    def _make_attention(self, config: EomtConfig) -> Attention:
        return Dinov3Attention(config)

    def _make_mlp(self, config: EomtConfig) -> nn.Module:
        return Dinov3Mlp(_dinov3(config))


class EomtDinov3ForUniversalSegmentation(EomtForUniversalSegmentation):
    """EoMT for semantic, instance and panoptic segmentation on a DINOv3 backbone; used as its parent is."""

    config_class: ClassVar[type[EomtConfig]] = EomtDinov3Config
    config: EomtDinov3Config

    def __init__(self, config: EomtDinov3Config) -> None:
        super().__init__(config)
        self.apply(self._initialise)

    def _make_embeddings(self, config: EomtConfig) -> nn.Module:
        return Dinov3Embeddings(config)

    def _make_layer(self, config: EomtConfig) -> Layer:
        return Dinov3Layer(config)

    def _rotation(self, tokens: Tensor) -> Rotation:
        """Cosine and sine (P, d) of each patch's angles: its row's, then its column's, at d/4 frequencies, twice."""
        config = self.config
        centres = patch_centres(config.grid_size, tokens.device)  # (P, 2)
        if self.training:
            centres = _augment(centres, config)
        head_size = config.hidden_size // config.num_attention_heads
        exponents = torch.arange(0, 1, 4 / head_size, dtype=torch.float32, device=tokens.device)  # (d/4,)
        frequencies = 1 / config.rope_parameters["rope_theta"] ** exponents
        angles = (2 * math.pi * centres[:, :, None] * frequencies).flatten(1).tile(2)  # (P, d)
        return angles.cos().to(tokens.dtype), angles.sin().to(tokens.dtype)

    def _initialise(self, module: nn.Module) -> None:
        if isinstance(module, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d, nn.Embedding)):
            if module.weight.is_meta:  # see LearnedVectors
                return
            nn.init.normal_(module.weight, std=self.config.initializer_range)
            if not isinstance(module, nn.Embedding) and module.bias is not None:
                nn.init.zeros_(module.bias)


def patch_centres(grid_size: tuple[int, int], device: torch.device | None = None) -> Tensor:
    """Centres (P, 2) of the patches, row by row, as (y, x) in -1..1 of height and width."""
    sides = [2 * torch.arange(0.5, side, device=device) / side - 1 for side in grid_size]
    return torch.cartesian_prod(*sides)


def _augment(centres: Tensor, config: EomtDinov3Config) -> Tensor:
    """Shift, stretch and scale all centres by random amounts, the latter two log-uniformly in 1/factor..factor."""
    if config.pos_embed_shift is not None:
        centres = centres + centres.new_empty(1, 2).uniform_(-config.pos_embed_shift, config.pos_embed_shift)
    for factor, shape in ((config.pos_embed_jitter, (1, 2)), (config.pos_embed_rescale, (1,))):
        if factor is not None:
            centres = centres * centres.new_empty(shape).uniform_(-math.log(factor), math.log(factor)).exp()
    return centres


def _dinov3(config: EomtConfig) -> EomtDinov3Config:
    if not isinstance(config, EomtDinov3Config):
        raise TypeError(f"EoMT with DINOv3 takes an EomtDinov3Config, not {type(config).__name__}.")
    return config
