"""`EomtForUniversalSegmentationOutput`: what the model returns, readable by name, by key or by position."""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any, overload

from torch import Tensor


@dataclass
class EomtForUniversalSegmentationOutput:
    """The documented output of `EomtForUniversalSegmentation`.

    As in transformers it is also a mapping and a tuple of the fields that are not None: `out["loss"]`, `out[0]`,
    `out.to_tuple()`, `dict(out.items())`.

    loss: scalar, when labels were given
    class_queries_logits: (B, Q, K+1), the last class meaning "no object"
    masks_queries_logits: (B, Q, h, w) before the sigmoid
    last_hidden_state: (B, Q+prefix+P, D), tokens in the order queries, class token, registers, patches
    hidden_states: the embeddings, then each layer's output, (B, T, D); T grows by Q where the queries join; the
        last is `last_hidden_state`
    attentions: each layer's weights, (B, heads, T, T)
    patch_offsets: as they were passed in
    loss_parts: the weighted scalars that `loss` is the sum of, by name, when labels were given (not in transformers)
    """

    loss: Tensor | None = None
    class_queries_logits: Tensor | None = None
    masks_queries_logits: Tensor | None = None
    last_hidden_state: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None
    patch_offsets: list[Tensor] | None = None
    loss_parts: dict[str, Tensor] | None = None

    def items(self) -> list[tuple[str, Any]]:
        """(name, value) of the fields that are not None, in order."""
        pairs = [(field.name, getattr(self, field.name)) for field in fields(self)]
        return [(name, value) for name, value in pairs if value is not None]

    def keys(self) -> list[str]:
        """Names of the fields that are not None, in order."""
        return [name for name, _ in self.items()]

    def values(self) -> list[Any]:
        """Values of the fields that are not None, in order."""
        return [value for _, value in self.items()]

    def to_tuple(self) -> tuple[Any, ...]:
        """The fields that are not None, in order."""
        return tuple(self.values())

    @overload
    def __getitem__(self, key: slice) -> tuple[Any, ...]: ...
    @overload
    def __getitem__(self, key: str | int) -> Any: ...
    def __getitem__(self, key: str | int | slice) -> Any:
        return dict(self.items())[key] if isinstance(key, str) else self.to_tuple()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __len__(self) -> int:
        return len(self.items())

    def __contains__(self, key: object) -> bool:
        return key in self.keys()
