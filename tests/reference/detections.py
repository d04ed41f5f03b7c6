"""Tiny instance data sets drawn at random: as segment tables, and scored by pycocotools."""

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from tests.reference.scenes import box_of
from workbench import rle
from workbench.segments import SEGMENT_SCHEMA, segment_table

CATEGORIES = (1, 3, 7)
IMAGES = (100, 9, 12)
"""In the order of the file: neither ascending nor, as strings, ascending with the numbers."""


@dataclass(frozen=True)
class Instance:
    """One annotation (`score` None) or detection; `area` and `bbox` are what the file declares."""

    image_id: int
    category_id: int
    mask: NDArray[np.bool_]
    id: int
    score: float | None = None
    iscrowd: bool = False
    area: float | None = None
    bbox: tuple[float, float, float, float] | None = None


def table_of(instances: Sequence[Instance]) -> pa.Table:
    """The instances, in the order of the file, as a segment table."""
    columns: dict[str, list[Any]] = {name: [] for name in SEGMENT_SCHEMA.names}
    for image_id in dict.fromkeys(instance.image_id for instance in instances):
        listed = list(enumerate(instance for instance in instances if instance.image_id == image_id))
        for number, (ordinal, instance) in enumerate(sorted(listed, key=lambda pair: pair[1].id), start=1):
            row = (
                str(image_id),
                number,
                ordinal,
                instance.category_id,
                True,
                instance.iscrowd,
                instance.score,
                int(instance.mask.sum()),
                instance.area,
                instance.bbox or box_of(instance.mask),
                *instance.mask.shape,
                rle.encode(instance.mask),
                instance.id if instance.score is None else None,
            )
            for name, value in zip(columns, row, strict=True):
                columns[name].append(value)
    return segment_table(columns)


def pycocotools_scores(
    gt: Sequence[Instance], dets: Sequence[Instance], geometry: str, coco: Any = COCO, evaluator: Any = COCOeval
) -> Any:
    """What pycocotools (or a fork's classes) makes of them, summarized: a COCOeval.

    Detections give their box to it where all of them declare one.
    """
    with contextlib.redirect_stdout(io.StringIO()):
        truth = _index(coco(), [_annotation(instance) for instance in gt])
        results = [_result(instance) for instance in dets]
        found = truth.loadRes(results) if results else _index(coco(), [])
        scored = evaluator(truth, found, geometry)
        scored.evaluate()
        scored.accumulate()
        scored.summarize()
    return scored


def _index(coco: Any, annotations: list[dict[str, Any]]) -> Any:
    coco.dataset = {
        "images": [{"id": image} for image in IMAGES],
        "categories": [{"id": category} for category in CATEGORIES],
        "annotations": annotations,
        "info": {},
    }
    for image in coco.dataset["images"]:
        image["height"], image["width"] = 1, 1  # read for polygons only
    coco.createIndex()
    return coco


def _annotation(instance: Instance) -> dict[str, Any]:
    declared = instance.mask.sum() if instance.area is None else instance.area
    return {
        "id": instance.id,
        "area": float(declared),
        "bbox": list(instance.bbox or box_of(instance.mask)),
        **_common(instance),
        "iscrowd": int(instance.iscrowd),
    }


def _result(instance: Instance) -> dict[str, Any]:
    box = {} if instance.bbox is None else {"bbox": list(instance.bbox)}
    return {**_common(instance), "score": instance.score, **box}


def _common(instance: Instance) -> dict[str, Any]:
    segmentation = {"size": list(instance.mask.shape), "counts": rle.encode(instance.mask)}
    return {"image_id": instance.image_id, "category_id": instance.category_id, "segmentation": segmentation}


@st.composite
def instance_pairs(draw: st.DrawFn) -> tuple[list[Instance], list[Instance]]:
    """Ground truth and detections in file order: crowds, id 0, ties, false areas, empty images, masks that overlap.

    Detections declare boxes either all (and then, as pycocotools does, the box area as theirs) or not at all.
    """
    shapes = {image: (draw(st.integers(1, 6)), draw(st.integers(1, 6))) for image in IMAGES}
    ids = iter(draw(st.permutations(range(13))))
    gt = [_draw_annotation(draw, shapes, next(ids)) for _ in range(draw(st.integers(0, 12)))]
    with_boxes = draw(st.booleans())
    dets = [_draw_detection(draw, shapes, gt, number, with_boxes) for number in range(draw(st.integers(0, 12)))]
    return gt, dets


def _draw_annotation(draw: st.DrawFn, shapes: dict[int, tuple[int, int]], annotation_id: int) -> Instance:
    image = draw(st.sampled_from(IMAGES))
    return Instance(
        image_id=image,
        category_id=draw(st.sampled_from((1, 1, 1, 3, 7))),
        mask=draw(_masks(shapes[image])),
        id=annotation_id,
        iscrowd=not draw(st.integers(0, 4)),
        area=draw(st.sampled_from((None, None, 1.5, 1024.0, 5000.0, 9216.0, 20_000.0))),
    )


def _draw_detection(
    draw: st.DrawFn, shapes: dict[int, tuple[int, int]], gt: list[Instance], number: int, with_boxes: bool
) -> Instance:
    if gt and draw(st.integers(0, 4)):
        model = draw(st.sampled_from(gt))
        image, category, mask = model.image_id, model.category_id, model.mask.copy()
        if draw(st.booleans()):
            mask ^= draw(arrays.arrays(np.bool_, mask.shape, fill=st.just(False)))
    else:
        image, category = draw(st.sampled_from(IMAGES)), draw(st.sampled_from(CATEGORIES))
        mask = draw(_masks(shapes[image]))
    box = None
    if with_boxes:
        x, y, w, h = box_of(mask)
        stretch = draw(st.sampled_from((1.0, 1.0, 1.25, 40.0)))
        box = (x, y + draw(st.sampled_from((0.0, 0.5))), w * stretch, h * stretch)
    return Instance(
        image_id=image,
        category_id=category,
        mask=mask,
        id=number,
        score=draw(st.sampled_from((0.1, 0.5, 0.5, 0.9))),
        area=None if box is None else box[2] * box[3],
        bbox=box,
    )


def _masks(shape: tuple[int, int]) -> st.SearchStrategy[NDArray[np.bool_]]:
    return arrays.arrays(np.bool_, shape, fill=st.booleans())
