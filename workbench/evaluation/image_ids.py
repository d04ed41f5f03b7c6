"""The ids of the images that are scored: as light as Arrow keeps them, as there may be millions."""

from collections.abc import Iterator, Sequence
from typing import overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

_AT_A_TIME = 8192
_MOST_DIGITS = 18  # that surely fit an int64


class ImageIds(Sequence[str]):
    """A tuple of strings to whoever reads it, in 4 bytes an id and its characters, where a tuple takes some 65."""

    def __init__(self, ids: pa.StringArray) -> None:
        self.array = ids

    @classmethod
    def of(cls, ids: Sequence[str]) -> "ImageIds":
        """From any strings in order."""
        return ids if isinstance(ids, cls) else cls(pa.array(ids, pa.string()))

    def __len__(self) -> int:
        return len(self.array)

    @overload
    def __getitem__(self, place: int) -> str: ...

    @overload
    def __getitem__(self, place: slice) -> tuple[str, ...]: ...

    def __getitem__(self, place: int | slice) -> str | tuple[str, ...]:
        if isinstance(place, slice):
            return tuple(self.array[place].to_pylist())
        image_id: str = self.array[place].as_py()
        return image_id

    def __iter__(self) -> Iterator[str]:
        for start in range(0, len(self), _AT_A_TIME):
            yield from self.array.slice(start, _AT_A_TIME).to_pylist()


def ranks_of_ids(image_ids: Sequence[str]) -> NDArray[np.int64]:
    """Each image's position among ascending ids, as numbers where all are: pycocotools' order of images."""
    ids = ImageIds.of(image_ids).array
    ranks = np.empty(len(ids), dtype=np.int64)
    ranks[_ascending(ids)] = np.arange(len(ids))
    return ranks


def _ascending(ids: pa.StringArray) -> NDArray[np.int64] | list[int]:
    """Places of the ids in ascending order."""
    if pc.all(pc.match_substring_regex(ids, f"^[0-9]{{1,{_MOST_DIGITS}}}$")).as_py():
        return np.argsort(ids.cast(pa.int64()).to_numpy(), kind="stable")
    texts: list[str] = ids.to_pylist()
    numeric = all(text.isdecimal() for text in texts)
    keys = [int(text) for text in texts] if numeric else texts
    return sorted(range(len(texts)), key=keys.__getitem__)
