"""Planted label errors: a copy of a COCO panoptic dataset in which a known part of the labels is wrong.

Four kinds, in equal numbers:

missing      a thing is taken out; its pixels become void, or (half of the time) the stuff around it
spurious     the outline of a thing of some image is put where no thing is, as a thing of its class
wrong_class  a segment gets another class of its kind; stuff one that the image does not have
outline      a thing is moved by a quarter to a half of its box to one side: IoU with the true mask at most 0.7

Nothing covers a thing or a crowd, no label is touched twice, and the images stay as they are: a run over the dataset
is a run over its copy.
"""

import json
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from workbench import rle
from workbench.auditing.kinds import KINDS
from workbench.catalog import read
from workbench.errors import OptionError
from workbench.formats.pictures import read_panoptic_png

Json = dict[str, Any]
_LARGEST_KEPT_IOU = 0.7  # of a moved object with itself: from there on the label would pass for right
_LEAST_VISIBLE = 0.8  # of a spurious object's outline
_PLACES_TRIED = 40
_VOID = 0


@dataclass(frozen=True)
class Planted:
    """One label that was made wrong."""

    kind: str
    """Of `KINDS`."""
    image_id: str
    source_id: int | None
    """The label's id in the copy; None where it was taken out."""
    category_id: int
    """In the copy; where the label was taken out, the one that it had."""
    true_category_id: int | None
    """None where nothing is there."""
    size_hw: tuple[int, int]
    counts: str
    """RLE of what the label ought to be; of a spurious one what it is."""


@dataclass(frozen=True)
class WornCopy:
    """Where the copy's definition is, and what is wrong in it."""

    definition: Path
    planted: tuple[Planted, ...]
    objects: int
    """Labels that are no crowd, before planting."""


@dataclass
class _Annotated:
    """One image's annotations while they are changed."""

    entry: Json
    ids: NDArray[np.int32]
    """(height, width), 0 for void."""
    free: NDArray[np.bool_]
    """Where labels may be put: neither a thing nor a crowd was or is there."""


def plant(source: Path, folder: Path, rate: float, seed: int, kinds: Iterable[str] = KINDS) -> WornCopy:
    """Write a copy of the COCO panoptic dataset of the definition `source` into `folder`, `rate` of its labels wrong.

    `folder` gets worn.toml, panoptic.json with its PNGs, planted.json, and a link to the images. Same seed, same copy.
    Raises OptionError for a rate outside 0..1, a dataset without panoptic annotations, and where no place is left for
    an error; FileExistsError where `folder` holds a copy already.
    """
    if not 0 < rate <= 1:
        raise OptionError(f"the rate is {rate:g}: give the share of the labels to make wrong, above 0 and at most 1.")
    definition = read(source)
    if definition.panoptic is None:
        raise OptionError(f"{source}: errors are planted into panoptic annotations, and it names none.")
    file = definition.resolve(definition.panoptic)
    pngs = definition.resolve(definition.panoptic_png) if definition.panoptic_png else file.with_suffix("")
    content: Json = json.loads(file.read_text(encoding="utf-8"))
    wear = _Wear(content, pngs, np.random.default_rng(seed))
    wear.plant(_shares(round(rate * wear.objects), tuple(kinds)))
    shutil.copytree(pngs, folder / "panoptic")
    for image in wear.changed.values():
        _write_png(folder / "panoptic" / image.entry["file_name"], image.ids)
    (folder / "panoptic.json").write_text(json.dumps(content), encoding="utf-8")
    (folder / "planted.json").write_text(json.dumps([asdict(each) for each in wear.planted]), encoding="utf-8")
    (folder / "images").symlink_to(definition.resolve(definition.images or "."), target_is_directory=True)
    keys = {"format": "coco", "root": ".", "images": "images", "panoptic": "panoptic.json"}
    toml = folder / "worn.toml"
    toml.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in keys.items()), encoding="utf-8")
    return WornCopy(toml, tuple(wear.planted), wear.objects)


class _Wear:
    """Draws what becomes wrong and changes the annotations."""

    def __init__(self, content: Json, pngs: Path, rng: np.random.Generator) -> None:
        self.rng, self._pngs = rng, pngs
        self.isthing = {each["id"]: bool(each["isthing"]) for each in content["categories"]}
        self._entries: Mapping[str, Json] = {str(each["image_id"]): each for each in content["annotations"]}
        self._labels = [
            (image_id, info["id"])
            for image_id, entry in self._entries.items()
            for info in entry["segments_info"]
            if not info.get("iscrowd")
        ]
        self.objects = len(self._labels)
        self.changed = dict[str, _Annotated]()
        self.planted = list[Planted]()
        self._touched = set[tuple[str, int]]()

    def plant(self, counts: Mapping[str, int]) -> None:
        """So many of each kind."""
        ways: dict[str, Callable[[str, int], Planted | None]] = {
            "missing": self._take_out,
            "spurious": self._make_up,
            "wrong_class": self._relabel,
            "outline": self._move,
        }
        for kind, count in counts.items():
            for label in self.rng.permutation(len(self._labels)).tolist():
                if not count:
                    break
                image_id, source_id = self._labels[label]
                if (image_id, source_id) in self._touched:
                    continue
                if (done := ways[kind](image_id, source_id)) is not None:
                    self.planted.append(done)
                    count -= 1
            if count:
                raise OptionError(f"no place is left for {count} more errors of the kind {kind}. Lower the rate.")

    def _take_out(self, image_id: str, source_id: int) -> Planted | None:
        image, info = self._open(image_id), self._info(image_id, source_id)
        mask = image.ids == source_id
        if not self.isthing[info["category_id"]] or not mask.any():
            return None
        image.ids[mask] = self._around(image, mask) if self.rng.random() < 0.5 else _VOID
        image.entry["segments_info"].remove(info)
        return self._done("missing", image, info, mask, None)

    def _make_up(self, image_id: str, source_id: int) -> Planted | None:
        """The outline is that of the label; the image is another one, drawn at random."""
        like = self._info(image_id, source_id)
        outline = _cut(self._open(image_id).ids == source_id)
        place = str(self.rng.choice(list(self._entries)))
        image = self._open(place)
        height, width = outline.shape
        rows, columns = image.ids.shape[0] - height, image.ids.shape[1] - width
        if not self.isthing[like["category_id"]] or not outline.any() or min(rows, columns) < 0:
            return None
        for _ in range(_PLACES_TRIED):
            y, x = int(self.rng.integers(rows + 1)), int(self.rng.integers(columns + 1))
            mask = np.zeros(image.ids.shape, dtype=np.bool_)
            mask[y : y + height, x : x + width] = outline
            visible = mask & image.free
            if visible.sum() >= _LEAST_VISIBLE * mask.sum():
                info = {"id": self._new_id(image), "category_id": like["category_id"], "iscrowd": 0}
                image.entry["segments_info"].append(info)
                image.ids[visible] = info["id"]
                return self._done("spurious", image, info, visible, None)
        return None

    def _relabel(self, image_id: str, source_id: int) -> Planted | None:
        image, info = self._open(image_id), self._info(image_id, source_id)
        true, isthing = info["category_id"], self.isthing[info["category_id"]]
        taken = {true} if isthing else {each["category_id"] for each in image.entry["segments_info"]}
        others = [i for i, thing in self.isthing.items() if thing == isthing and i not in taken]
        mask = image.ids == source_id
        if not others or not mask.any():
            return None
        info["category_id"] = int(self.rng.choice(others))
        return self._done("wrong_class", image, info, mask, true)

    def _move(self, image_id: str, source_id: int) -> Planted | None:
        image, info = self._open(image_id), self._info(image_id, source_id)
        true = image.ids == source_id
        if not self.isthing[info["category_id"]] or not true.any():
            return None
        axis, sign = int(self.rng.integers(2)), int(self.rng.choice([-1, 1]))
        distance = max(1, round(float(self.rng.uniform(0.25, 0.5)) * _cut(true).shape[axis]))
        moved = _shifted(true, axis, sign * distance) & (image.free | true)
        union = (moved | true).sum()
        if 2 * moved.sum() < true.sum() or (moved & true).sum() > _LARGEST_KEPT_IOU * union:
            return None
        image.ids[true] = self._around(image, true)
        image.ids[moved] = source_id
        return self._done("outline", image, info, true, info["category_id"])

    def _done(self, kind: str, image: _Annotated, info: Json, mask: NDArray[np.bool_], true: int | None) -> Planted:
        image_id = str(image.entry["image_id"])
        source_id = info["id"] if info in image.entry["segments_info"] else None
        self._touched.add((image_id, info["id"]))
        image.free &= ~(mask | (image.ids == info["id"]))
        _count_again(image)
        true = info["category_id"] if kind == "missing" else true
        counts = rle.encode(mask).decode()
        height, width = mask.shape
        return Planted(kind, image_id, source_id, info["category_id"], true, (height, width), counts)

    def _open(self, image_id: str) -> _Annotated:
        if image_id not in self.changed:
            entry = self._entries[image_id]
            ids = read_panoptic_png(self._pngs / entry["file_name"], f"image {image_id}")
            taken = [i["id"] for i in entry["segments_info"] if self.isthing[i["category_id"]] or i.get("iscrowd")]
            self.changed[image_id] = _Annotated(entry, ids, ~np.isin(ids, taken))
        return self.changed[image_id]

    def _info(self, image_id: str, source_id: int) -> Json:
        infos = self._entries[image_id]["segments_info"]
        info: Json = next(each for each in infos if each["id"] == source_id)
        return info

    def _around(self, image: _Annotated, mask: NDArray[np.bool_]) -> int:
        """The stuff with most pixels beside the mask; void where there is none."""
        stuff = [i["id"] for i in image.entry["segments_info"] if not self.isthing[i["category_id"]]]
        beside = _grown(mask) & ~mask & np.isin(image.ids, stuff)
        found, count = np.unique(image.ids[beside], return_counts=True)
        return int(found[np.argmax(count)]) if len(found) else _VOID

    def _new_id(self, image: _Annotated) -> int:
        taken = {info["id"] for info in image.entry["segments_info"]}
        return next(i for i in iter(lambda: int(self.rng.integers(1, 256**3)), None) if i not in taken)


def _shares(total: int, kinds: tuple[str, ...]) -> dict[str, int]:
    """Equal numbers; the first kinds get what is left over."""
    return {kind: (total + len(kinds) - 1 - i) // len(kinds) for i, kind in enumerate(kinds)}


def _count_again(image: _Annotated) -> None:
    """The boxes and areas that the file declares; labels that lost their last pixel go."""
    infos = image.entry["segments_info"]
    infos[:] = [info for info in infos if (image.ids == info["id"]).any()]
    for info in infos:
        mask = image.ids == info["id"]
        (top, left), (bottom, right) = np.argwhere(mask).min(axis=0), np.argwhere(mask).max(axis=0)
        info["area"] = int(mask.sum())
        info["bbox"] = [int(left), int(top), int(right - left + 1), int(bottom - top + 1)]


def _cut(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The part inside the mask's box."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return mask[:0, :0]
    return mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _shifted(mask: NDArray[np.bool_], axis: int, distance: int) -> NDArray[np.bool_]:
    """Moved along an axis; what leaves the image is lost."""
    moved = np.roll(mask, distance, axis=axis)
    lost = slice(0, distance) if distance > 0 else slice(distance, None)
    moved[(lost, slice(None)) if axis == 0 else (slice(None), lost)] = False
    return moved


def _grown(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """With two more pixels on every side."""
    for _ in range(2):
        padded = np.pad(mask, 1)
        mask = padded[1:-1, 1:-1] | padded[:-2, 1:-1] | padded[2:, 1:-1] | padded[1:-1, :-2] | padded[1:-1, 2:]
    return mask


def _write_png(path: Path, ids: NDArray[np.int32]) -> None:
    pixels = np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=-1).astype(np.uint8)
    Image.fromarray(pixels).save(path)
