"""What a processor returns: a dictionary that can be read by attributes and moved to a device as a whole."""

from typing import Any, Self

import torch
from torch import Tensor


class BatchFeature(dict[str, Any]):
    """`batch["pixel_values"]`, `batch.pixel_values`, `model(**batch)` and `batch.to("cuda")` all work."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"the batch has no {name!r}; it has {', '.join(self) or 'nothing'}.") from None

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """Move every tensor, in lists too, as `Tensor.to` does; a dtype applies to floating tensors. Returns itself."""
        for key, value in self.items():
            self[key] = _moved(value, args, kwargs)
        return self


def _moved(value: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if isinstance(value, list):
        return [_moved(item, args, kwargs) for item in value]
    if not isinstance(value, Tensor):
        return value
    if value.is_floating_point():
        return value.to(*args, **kwargs)
    whole = {name: option for name, option in kwargs.items() if name != "dtype"}
    return value.to(*(arg for arg in args if not isinstance(arg, torch.dtype)), **whole)
