"""One number an image from its stored counts, so that images can be sorted by what a run makes of them."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from workbench.evaluation.per_image import NO_CATEGORY


def qualities(rows: pa.Table, image_ids: Sequence[str]) -> NDArray[np.float64]:
    """The quality of each image, (images,) in 0..1, from one task's rows of `per_image.parquet`.

    Panoptic: PQ with all segments of the image as one class. Instance: mean IoU of the ground truth with its match at
    0.5, missed ones as 0; false detections do not count, as there is one at every low score. Semantic: mean IoU of the
    classes that occur in the image. NaN where there is nothing to measure.
    """
    position = pc.index_in(rows["image_id"], value_set=pa.array(image_ids, pa.string()))
    wanted = pc.and_(pc.is_valid(position), pc.not_equal(rows["category_id"], NO_CATEGORY))
    rows, image = rows.filter(wanted), position.filter(wanted).to_numpy()
    task = rows["task"][0].as_py() if len(rows) else "panoptic"
    if task == "semantic":
        intersection, gt, pred = (rows[name].to_numpy() for name in ("intersection", "gt_pixels", "pred_pixels"))
        union = gt + pred - intersection
        return _ratio(
            image, np.divide(intersection, union, out=np.zeros(len(union)), where=union > 0), union > 0, image_ids
        )
    tp, fp, fn = (rows[name].to_numpy() for name in ("tp", "fp", "fn"))
    weight = tp + fn if task == "instance" else tp + 0.5 * fp + 0.5 * fn
    return _ratio(image, rows["iou_sum"].to_numpy(), weight, image_ids)


def _ratio(
    image: NDArray[np.int64], part: NDArray[np.float64], whole: NDArray[np.generic], image_ids: Sequence[str]
) -> NDArray[np.float64]:
    n = len(image_ids)
    parts, wholes = (np.bincount(image, weights=values, minlength=n).astype(np.float64) for values in (part, whole))
    return np.asarray(np.divide(parts, wholes, out=np.full(n, np.nan), where=wholes > 0))
