"""Boundary PQ against the official tool, or where it is not installed against its rules, written down once more."""

import contextlib
import io
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from workbench.bench.drawn_dataset import comparison
from workbench.bench.measuring import Case, measure, times
from workbench.bench.panoptic_scenes import CATEGORIES, PanopticScenes
from workbench.bench.reporting import Section
from workbench.evaluation.boundary import DILATION_RATIO
from workbench.evaluation.boundary_passes import score_panoptic
from workbench.evaluation.passes import Keeping
from workbench.runs import Run

Json = dict[str, Any]


def section(
    scenes: PanopticScenes,
    run: Run,
    official: tuple[list[tuple[Json, Json]], Path, Path],
    rounds: int,
    tell: Callable[[str], None],
) -> Section:
    """The first of the scenes: the peer takes some tenths of a second for each."""

    def ours() -> dict[int, tuple[int, int, int, float]]:
        result = score_panoptic(comparison(scenes, run), Keeping(*[lambda rows: None] * 3))
        counts = (result.tp.tolist(), result.fp.tolist(), result.fn.tolist(), result.iou_sum.tolist())
        return dict(zip(result.category_ids.tolist(), zip(*counts, strict=True), strict=True))

    installed = find_spec("boundary_iou") is not None
    peer = "boundary-iou-api, one core" if installed else "boundary-iou-api's steps with OpenCV, one core"
    case = Case(
        f"Boundary PQ, {scenes.distinct} images",
        ours,
        (lambda: _official(*official)) if installed else (lambda: _steps(*official)),
        peer,
        agreement="TP, FP, FN and sum of IoU of every class, bit for bit",
        goals=[times(10)],
        clock="cpu",
    )
    return Section("Boundary quality", [measure(case, rounds, tell)], [] if installed else [_NOT_INSTALLED])


_NOT_INSTALLED = (
    "boundary-iou-api was not installed: the peer here is written after its rules, with OpenCV's erosion of every "
    "segment as there. The tests compare our numbers with golden ones that the tool itself made."
)


def _official(pairs: list[tuple[Json, Json]], gt_folder: Path, pred_folder: Path) -> dict[int, Any]:
    from boundary_iou.coco_panoptic_api.evaluation import (  # type: ignore[import-not-found, unused-ignore]
        pq_compute_single_core,
    )

    categories: dict[int, Json] = {each.category_id: {} for each in CATEGORIES}
    with contextlib.redirect_stdout(io.StringIO()):
        stat = pq_compute_single_core(
            0, pairs, str(gt_folder), str(pred_folder), categories, "boundary", DILATION_RATIO
        )
    return {key: (stat[key].tp, stat[key].fp, stat[key].fn, float(stat[key].iou)) for key in categories}


def _steps(pairs: list[tuple[Json, Json]], gt_folder: Path, pred_folder: Path) -> dict[int, Any]:
    stat = {each.category_id: [0, 0, 0, 0.0] for each in CATEGORIES}
    for truth, guess in pairs:
        _score_image(_ids(gt_folder / truth["file_name"]), truth, _ids(pred_folder / guess["file_name"]), guess, stat)
    return {key: tuple(counts) for key, counts in stat.items()}


def _ids(path: Path) -> NDArray[np.uint32]:
    with Image.open(path) as image:
        rgb = np.array(image, dtype=np.uint32)
    return np.asarray(rgb[..., 0] + 256 * rgb[..., 1] + 256**2 * rgb[..., 2])


def _outlines(ids: NDArray[np.uint32], infos: list[Json]) -> NDArray[np.uint32]:
    """Each segment's mask without its erosion, in one map."""
    edges = np.zeros_like(ids)
    for key in [info["id"] for info in infos]:
        mask = (ids == key).astype(np.uint8)
        edges += _outline(mask).astype(np.uint32) * np.uint32(key)
    return edges


def _outline(mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    import cv2

    height, width = mask.shape
    d = max(round(DILATION_RATIO * np.sqrt(height**2 + width**2)), 1)
    padded = cv2.copyMakeBorder(mask, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    eroded = cv2.erode(padded, np.ones((3, 3), dtype=np.uint8), iterations=int(d))
    return np.asarray(mask - eroded[1 : height + 1, 1 : width + 1])


def _pairs(first: NDArray[np.uint32], second: NDArray[np.uint32]) -> dict[tuple[int, int], int]:
    """Pixels of every pair of ids."""
    combined = first.astype(np.uint64) * 256**3 + second.astype(np.uint64)
    keys, counts = np.unique(combined, return_counts=True)
    return {(int(k) // 256**3, int(k) % 256**3): int(n) for k, n in zip(keys, counts, strict=True)}


def _areas(ids: NDArray[np.uint32]) -> dict[int, int]:
    keys, counts = np.unique(ids, return_counts=True)
    return dict(zip(keys.tolist(), counts.tolist(), strict=True))


def _score_image(
    gt: NDArray[np.uint32], truth: Json, pred: NDArray[np.uint32], guess: Json, stat: dict[int, list[Any]]
) -> None:
    gt_infos, pred_infos = ({info["id"]: info for info in side["segments_info"]} for side in (truth, guess))
    gt_edges, pred_edges = _outlines(gt, truth["segments_info"]), _outlines(pred, guess["segments_info"])
    shared, shared_edges = _pairs(gt, pred), _pairs(gt_edges, pred_edges)
    pred_areas, gt_edge_areas, pred_edge_areas = _areas(pred), _areas(gt_edges), _areas(pred_edges)
    on_void_edges = _areas(pred_edges[gt == 0])
    gt_matched, pred_matched = set[int](), set[int]()
    for (a, b), pixels in shared.items():
        if a not in gt_infos or b not in pred_infos or gt_infos[a]["iscrowd"]:
            continue
        if gt_infos[a]["category_id"] != pred_infos[b]["category_id"]:
            continue
        iou = pixels / (pred_areas[b] + gt_infos[a]["area"] - pixels - shared.get((0, b), 0))
        edge = shared_edges.get((a, b), 0)
        edge_iou = edge / (gt_edge_areas[a] + pred_edge_areas[b] - edge - on_void_edges.get(b, 0))
        if min(iou, edge_iou) > 0.5:
            counts = stat[gt_infos[a]["category_id"]]
            counts[0] += 1
            counts[3] += min(iou, edge_iou)
            gt_matched.add(a)
            pred_matched.add(b)
    crowds: dict[int, int] = {}
    for key, info in gt_infos.items():
        if key in gt_matched:
            continue
        if info["iscrowd"]:
            crowds[info["category_id"]] = key
        else:
            stat[info["category_id"]][2] += 1
    for key, info in pred_infos.items():
        if key in pred_matched:
            continue
        harmless = shared.get((0, key), 0) + shared.get((crowds.get(info["category_id"], -1), key), 0)
        if harmless / pred_areas[key] <= 0.5:
            stat[info["category_id"]][1] += 1
