"""The pictures of a report: worst images whole, errors as crops, ground truth always beside the prediction.

Only the images shown are read, and of the segment tables only the shards that hold them.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from workbench import ground_truth
from workbench.formats.base import Dataset, Task
from workbench.report import overlays
from workbench.report.selection import ErrorExample, ErrorGroup, WorstImage, error_groups, worst_images
from workbench.report.words import ERROR_TYPES, PROBABLE_LABEL_ERRORS
from workbench.runs import Run
from workbench.segments import VOID_SEGMENT_ID
from workbench.store import SegmentStore

Rows = Mapping[str, list[dict[str, Any]]]
"""Rows of a segment table by image id."""

SHOWN_SCORE = 0.5
"""In pictures of whole images detections of lower scores are left out: an instance run keeps a hundred an image."""
_WHOLE, _CROP = 360, 264  # pixels of the longer side


@dataclass(frozen=True)
class Picture:
    """One drawing: where it comes from in words, and the WebP inside an address."""

    label: str
    alt: str
    width: int
    height: int
    uri: str = field(repr=False)


@dataclass(frozen=True)
class Tile:
    """Pictures side by side, what they show, and what about it."""

    image_id: str
    title: str
    details: tuple[str, ...]
    pictures: tuple[Picture, ...]


@dataclass(frozen=True)
class Gallery:
    """Some tiles out of `total` cases of one kind."""

    name: str
    title: str
    about: str
    total: int
    tiles: tuple[Tile, ...]


class Drawer:
    """Draws images of one dataset with the segments of its ground truth and of some runs."""

    def __init__(self, dataset: Dataset, task: Task, runs: Sequence[Run]) -> None:
        """`task` is the kind of ground truth that the runs are compared with."""
        self._runs, self.task = runs, task
        self._paths = {record.image_id: record.path for record in dataset.images()}
        self._position = {image_id: position for position, image_id in enumerate(self._paths)}
        self._truth = ground_truth.load(dataset, task)
        self._categories = {category.category_id: category for category in dataset.categories}

    def load(self, image_ids: Iterable[str]) -> list[Rows]:
        """The rows of those images: of the ground truth, then of each run."""
        ids = sorted(set(image_ids), key=self._position.__getitem__)
        return [_rows(store, ids) for store in (self._truth, *(run.store for run in self._runs))]

    def name(self, category_id: int) -> str:
        """Of a category."""
        known = self._categories.get(category_id)
        return known.name if known else f"category {category_id}"

    def whole(self, image_id: str, rows: Sequence[Rows], labels: Sequence[str]) -> tuple[Picture, ...]:
        """One picture of the whole image for each of `rows`."""
        shown = [[row for row in each.get(image_id, []) if _is_shown(row)] for each in rows]
        image = self._read(image_id, rows)
        return tuple(
            self._picture(image, segments, label, image_id, _WHOLE)
            for segments, label in zip(shown, labels, strict=True)
        )

    def crop(self, example: ErrorExample, truth: Rows, predictions: Rows) -> tuple[Picture, ...]:
        """Ground truth beside prediction around one segment and its counterpart; the rest is faint."""
        image_id = example.image_id
        sides = [[row for row in rows.get(image_id, []) if row["segment_id"]] for rows in (truth, predictions)]
        ids = [example.other_segment_id, example.segment_id]
        if example.kind == "ground_truth":
            ids.reverse()
        chosen = [[row for row in side if row["segment_id"] == i] for side, i in zip(sides, ids, strict=True)]
        image = self._read(image_id, (truth, predictions))
        masks = [overlays.mask_of(row) for side in chosen for row in side]
        window = overlays.window_around(masks, (image.height, image.width))
        context = [sides[0], chosen[1]] if self.task == "instance" else sides
        return tuple(
            self._picture(image, some, label, image_id, _CROP, {row["segment_id"] for row in focus}, window)
            for some, focus, label in zip(context, chosen, ("Ground truth", "Prediction"), strict=True)
        )

    def _read(self, image_id: str, rows: Sequence[Rows]) -> Image.Image:
        sizes = [(row["height"], row["width"]) for each in rows for row in each.get(image_id, [])[:1]]
        return overlays.read_image(self._paths[image_id], sizes[0] if sizes else None)

    def _picture(
        self,
        image: Image.Image,
        rows: Sequence[Mapping[str, Any]],
        label: str,
        image_id: str,
        side: int,
        focus: set[int] | None = None,
        window: overlays.Window | None = None,
    ) -> Picture:
        shapes = [
            overlays.Shape(
                overlays.mask_of(row), self._color(row["category_id"]), focus is None or row["segment_id"] in focus
            )
            for row in sorted(rows, key=lambda row: -row["area"])
        ]
        drawn = overlays.draw(image, shapes, side, window)
        named = [row for row in rows if focus is None or row["segment_id"] in focus]
        alt = f"{label}, image {image_id}: {_listed(self.name(row['category_id']) for row in named)}"
        return Picture(label, alt, drawn.width, drawn.height, overlays.data_uri(drawn))

    def _color(self, category_id: int) -> overlays.Color:
        known = self._categories.get(category_id)
        return known.color if known else (255, 255, 255)


def draw_galleries(run: Run, dataset: Dataset, task: Task, count: int) -> tuple[Gallery, ...]:
    """Galleries of the worst images and of each error type, of at most `count` tiles; `task` is what was matched."""
    if count == 0:
        return ()
    worst, groups = worst_images(run.path, task, count), error_groups(run.path, task, count)
    drawer = Drawer(dataset, task, [run])
    wanted = [image.image_id for image in worst]
    wanted += [example.image_id for group in groups for example in group.examples]
    truth, predictions = drawer.load(wanted)
    galleries = [_worst_gallery(worst, drawer, truth, predictions)] if worst else []
    return (*galleries, *(_error_gallery(group, drawer, truth, predictions) for group in groups))


def _worst_gallery(worst: Sequence[WorstImage], drawer: Drawer, truth: Rows, predictions: Rows) -> Gallery:
    quality = "PQ of the image" if drawer.task == "panoptic" else "Mean IoU"
    tiles = tuple(
        Tile(
            image.image_id,
            f"Image {image.image_id}",
            (f"{quality} {100 * image.quality:.1f}", *_counted(image)),
            drawer.whole(image.image_id, (truth, predictions), ("Ground truth", "Prediction")),
        )
        for image in worst
    )
    about = "Images on which prediction and ground truth agree least, the worst first."
    if drawer.task == "instance":
        about += f" Detections with a score below {SHOWN_SCORE:g} are not drawn."
    return Gallery("worst", "Worst images", about, len(drawer._paths), tiles)


def _counted(image: WorstImage) -> tuple[str, ...]:
    if image.tp is None:
        return ()
    return (f"{image.tp} found", f"{image.fn} not found", f"{image.fp} false")


def _error_gallery(group: ErrorGroup, drawer: Drawer, truth: Rows, predictions: Rows) -> Gallery:
    fallback = ("False positives", "predictions that match nothing") if group.kind == "prediction" else None
    title, meaning = ERROR_TYPES.get(group.name) or fallback or ("False negatives", "ground truth that nothing matches")
    order = "highest score first" if group.has_scores else "largest first"
    about = f"{meaning[0].upper()}{meaning[1:]}; {order}."
    if group.name in PROBABLE_LABEL_ERRORS and group.has_scores:
        about += " With a high score, look at the label too: the model may be right."
    tiles = tuple(
        Tile(
            example.image_id,
            drawer.name(example.category_id),
            _details(example, drawer, truth, predictions),
            drawer.crop(example, truth, predictions),
        )
        for example in group.examples
    )
    return Gallery(group.name, title, about, group.total, tiles)


def _details(example: ErrorExample, drawer: Drawer, truth: Rows, predictions: Rows) -> tuple[str, ...]:
    details = [f"image {example.image_id}"]
    others = (truth if example.kind == "prediction" else predictions).get(example.image_id, [])
    other = next((row for row in others if row["segment_id"] == example.other_segment_id), None)
    if other is not None and other["category_id"] != example.category_id:
        side = "labelled" if example.kind == "prediction" else "predicted as"
        details.append(f"{side} {drawer.name(other['category_id'])}")
    if example.score is not None:
        details.append(f"score {example.score:.2f}")
    if example.iou is not None:
        details.append(f"IoU {example.iou:.2f}")
    return (*details, f"{example.area:,} px".replace(",", " "))


def _rows(store: SegmentStore, ids: Sequence[str]) -> Rows:
    found: dict[str, list[dict[str, Any]]] = {}
    for image_id, table in zip(ids, store.chunks([[image_id] for image_id in ids]), strict=True):
        found[image_id] = table.to_pylist()
    return found


def _is_shown(row: Mapping[str, Any]) -> bool:
    return row["segment_id"] != VOID_SEGMENT_ID and (row["score"] is None or row["score"] >= SHOWN_SCORE)


def _listed(names: Iterable[str]) -> str:
    counts: dict[str, int] = {}
    for name in names:
        counts[name] = counts.get(name, 0) + 1
    return ", ".join(f"{count} {name}" if count > 1 else name for name, count in counts.items()) or "nothing"
