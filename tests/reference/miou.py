"""mIoU by looking at every pixel: slow and obvious."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tests.reference.scenes import PanopticImage

UNLABELLED = -1


def class_map(image: PanopticImage) -> NDArray[np.int64]:
    """The category of each pixel, -1 where it belongs to no listed segment; shape (height, width)."""
    category = {entry.id: entry.category_id for entry in image.listed}
    return np.vectorize(lambda i: category.get(i, UNLABELLED), otypes=[np.int64])(image.label_map)


def iou_by_pixels(
    gt: Sequence[PanopticImage], pred: Sequence[PanopticImage], categories: Sequence[int]
) -> dict[int, tuple[int, int, int]]:
    """Category -> (intersection, union, pixels of the ground truth), unlabelled ground truth left out."""
    counts = {category: [0, 0, 0] for category in categories}
    for truth, guess in zip(gt, pred, strict=True):
        for true, guessed in zip(class_map(truth).flat, class_map(guess).flat, strict=True):
            if true == UNLABELLED:
                continue
            counts[true][2] += 1
            counts[true][1] += 1
            if guessed == true:
                counts[true][0] += 1
            elif guessed != UNLABELLED:
                counts[guessed][1] += 1
    return {category: (a, b, c) for category, (a, b, c) in counts.items()}
