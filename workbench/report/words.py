"""The words of a report: labels of numbers, and error types in a sentence each."""

from collections.abc import Mapping

_LABELS: Mapping[str, str] = {
    "miou": "mIoU",
    "aacc": "Pixel accuracy",
    "macc": "Mean accuracy",
    "miou_all_classes": "mIoU, all classes",
    "miou_in_gt": "mIoU, classes in the ground truth",
    "iou": "IoU",
    "acc": "Accuracy",
    "tp": "TP",
    "fp": "FP",
    "fn": "FN",
    "gt": "Objects",
    "gt_pixels": "Pixels",
}
_GEOMETRIES = {"bbox": "boxes", "boundary": "outlines"}


def label(name: str) -> str:
    """What tables call a headline number or a column: `pq_things` is "PQ things", `bbox_AP50` "AP50 boxes"."""
    geometry, rest = next(
        ((each, name[len(each) + 1 :]) for each in _GEOMETRIES if name.startswith(f"{each}_")), ("", name)
    )
    if rest.startswith("A"):
        return f"{rest} {_GEOMETRIES.get(geometry, 'masks')}"
    quality, _, part = rest.partition("_")
    known = _LABELS.get(rest) or f"{quality.upper()} {part}".rstrip()
    return f"{geometry.capitalize()} {known}".lstrip()


ERROR_TYPES: Mapping[str, tuple[str, str]] = {
    "wrong_class": ("Wrong class", "the outline fits a segment of another category"),
    "poor_outline": ("Poor outline", "the right category in the right place, but IoU is at most 0.5"),
    "split": ("Split", "one object was found in several pieces"),
    "merged": ("Merged", "one prediction covers several objects"),
    "duplicate": ("Duplicate", "the object is already found by another prediction"),
    "background": ("Background", "nothing of that category is there"),
    "missed": ("Missed", "no prediction comes near the object"),
    "cls": ("Wrong class", "the outline fits an object of another category"),
    "loc": ("Poor localisation", "the right category, IoU between 0.1 and 0.5"),
    "both": ("Class and place", "wrong category and poorly placed"),
    "dupe": ("Duplicate", "the object is already found by a better detection"),
    "bkg": ("Background", "no object is there"),
    "miss": ("Missed", "no detection comes near the object"),
}
"""Type: its label, and what it means. In the order in which reports show them."""

PROBABLE_LABEL_ERRORS = ("background", "bkg", "wrong_class", "cls")
"""Predictions with high scores among these are worth a look at the label."""
