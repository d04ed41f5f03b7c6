"""Self-attention in which the leading tokens, the queries, may be kept from part of the patches.

B images, T tokens, D hidden size, H heads, Q queries, P patches.
"""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from eomt.configuration import EomtConfig
from eomt.onednn import linear

_MOST_WEIGHTS = 2**24  # of a layer, 32 MB in bfloat16

_ROWS_AT_ONCE = 512  # whose weights are 30 MB for EoMT-L; of fewer rows the products are slower

Rotation = tuple[Tensor, Tensor]  # cosine and sine of each patch's angles, (P, d) for heads of d channels


def rotate(heads: Tensor, rotation: Rotation) -> Tensor:
    """Turn the last P of (B, H, T, d) by a position's angles, channel i together with channel i + d/2."""
    cos, sin = rotation
    others, patches = heads[:, :, : -len(cos)], heads[:, :, -len(cos) :]
    first, second = patches.chunk(2, dim=-1)
    turned = patches * cos + torch.cat((-second, first), dim=-1) * sin
    return torch.cat((others, turned.to(others.dtype)), dim=2)


def attend_by_products(query: Tensor, key: Tensor, value: Tensor, dropout_p: float = 0.0) -> Tensor:
    """Attention as two matrix products, (B, H, T, d) each, which keeps the (B, H, T, T) weights for the backward pass.

    All of it in the dtype given, so bfloat16 scores are rounded to 8 bits, as in transformers' eager attention.
    """
    scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
    return F.dropout(scores.softmax(dim=-1), dropout_p) @ value


def products_are_faster(query: Tensor) -> bool:
    """Whether `attend_by_products` should take the place of torch's fused attention: on a CPU, to learn, in bfloat16.

    There, and backwards above all, torch 2.13's fused kernel is the slower one: with products a training step of a
    small EoMT (width 192, 8 images of 192 x 192) takes 0.72 of the time. Not where the weights would fill the memory.
    """
    learns = query.requires_grad and torch.is_grad_enabled()
    batch, heads, tokens, _ = query.shape
    return query.is_cpu and query.dtype is torch.bfloat16 and learns and batch * heads * tokens**2 <= _MOST_WEIGHTS


def attend_without_gradients(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attention in the dtype given, (B, H, T, d) each: torch's fused one, but for bfloat16 on a CPU.

    There torch 2.13's takes longer than in float32, and products 0.65 of that; scores are then rounded to 8 bits.
    """
    if not query.is_cpu or query.dtype is not torch.bfloat16 or torch.compiler.is_compiling():
        return F.scaled_dot_product_attention(query, key, value)
    parts = [attend_by_products(rows, key, value) for rows in torch.split(query, _ROWS_AT_ONCE, dim=2)]
    return torch.cat(parts, dim=2)


class Attention(nn.Module):
    """Multi-head self-attention in which the leading tokens, the queries, may be kept from part of the patches."""

    def __init__(self, config: EomtConfig) -> None:
        super().__init__()
        self.num_heads = config.num_attention_heads
        self.dropout = config.attention_dropout
        self._add_projections(config)

    def _add_projections(self, config: EomtConfig) -> None:
        self.q_proj = nn.Linear(config.hidden_size, config.hidden_size)
        self.k_proj = nn.Linear(config.hidden_size, config.hidden_size)
        self.v_proj = nn.Linear(config.hidden_size, config.hidden_size)
        self.out_proj = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(
        self,
        tokens: Tensor,
        query_mask: Tensor | None = None,
        need_weights: bool = False,
        rotation: Rotation | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Attend from (B, T, D) to itself.

        query_mask: (B, 1, Q, T) bool, true where the first Q tokens may look; the other tokens look everywhere.
        rotation: of the patches' queries and keys, where positions are rotary
        Returns (B, T, D) and, if asked for, the weights (B, H, T, T).
        """
        query, key, value = (
            linear(project, tokens).view(*tokens.shape[:2], self.num_heads, -1).transpose(1, 2)  # (B, H, T, D/H)
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        if rotation is not None:
            query, key = rotate(query, rotation), rotate(key, rotation)
        weights = None
        if need_weights:
            weights = self._weights(query, key, query_mask)
            mixed = F.dropout(weights, self.dropout, self.training) @ value
        else:
            mixed = self._mix(query, key, value, query_mask)
        return self._output(mixed.transpose(1, 2).flatten(2)), weights  # (B, T, D)

    def _output(self, mixed: Tensor) -> Tensor:
        return linear(self.out_proj, mixed)

    def _mix(self, query: Tensor, key: Tensor, value: Tensor, query_mask: Tensor | None) -> Tensor:
        attend = partial(
            F.scaled_dot_product_attention,
            key=key,
            value=value,
            dropout_p=self.dropout if self.training else 0.0,
        )
        attend_freely: Callable[..., Tensor] = attend
        if products_are_faster(query):
            attend_freely = partial(attend_by_products, **attend.keywords)
        elif not torch.is_grad_enabled() and not attend.keywords["dropout_p"]:
            attend_freely = partial(attend_without_gradients, key=key, value=value)
        if query_mask is None:
            return attend_freely(query)
        # Only the few query rows have a mask, so the rows are attended in two calls, and the others take the kernel
        # that knows none: 1.04 times the time of no mask at all, where one (B, 1, T, T) mask costs 1.2 (CPU, EoMT-L).
        num_queries = query_mask.shape[2]
        masked = attend(query[:, :, :num_queries], attn_mask=query_mask)
        return torch.cat((masked, attend_freely(query[:, :, num_queries:])), dim=2)

    def _weights(self, query: Tensor, key: Tensor, query_mask: Tensor | None) -> Tensor:
        scores: Tensor = (query @ key.transpose(-1, -2)) * query.shape[-1] ** -0.5  # (B, H, T, T)
        if query_mask is not None:
            num_queries = query_mask.shape[2]
            masked = scores[:, :, :num_queries].masked_fill(~query_mask, float("-inf"))
            scores = torch.cat((masked, scores[:, :, num_queries:]), dim=2)
        return scores.softmax(dim=-1, dtype=torch.float32).to(query.dtype)
