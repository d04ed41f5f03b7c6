"""What a run came to, in a few numbers."""

from typing import Any

import pyarrow.compute as pc

from workbench.prediction.encode import FAILED
from workbench.runs import Run


def summary(run: Run) -> dict[str, Any]:
    """JSON values: path, status, task, images, failed, segments, and errors (image id and reason of each)."""
    images = run.images()
    failed = images.filter(pc.equal(images["status"], FAILED))
    return {
        "path": run.place,
        "status": run.manifest["status"],
        "task": run.task,
        "images": images.num_rows,
        "failed": failed.num_rows,
        "segments": run.store.count_segments(),
        "errors": [
            {"image_id": image_id, "error": error}
            for image_id, error in zip(failed["image_id"].to_pylist(), failed["error"].to_pylist(), strict=True)
        ],
    }
