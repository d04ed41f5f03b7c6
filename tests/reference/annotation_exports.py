"""The pre-annotations that annotation_oracles.py has other people's packages read.

python -m tests.reference.annotation_exports FOLDER
"""

import sys
from pathlib import Path

import numpy as np

from tests.reference.labelled_pets import SIZE, Pets, write_pets_instances, write_run
from workbench import rle
from workbench.exports.annotation import AnnotationOptions
from workbench.exports.api import export
from workbench.transfer_formats import ANNOTATION_FORMATS

EXACT = AnnotationOptions(polygons=0.0)


def write(folder: Path) -> Pets:
    """Both formats, as masks and as polygons: objects that overlap, a crowd, a segment of two parts with a hole."""
    pets = write_pets_instances(folder / "pets", evaluated=False)
    rows = pets.run.segments().to_pylist()
    ring = np.ones((4, 5), dtype=np.bool_)
    ring[1:3, 2] = False
    mask = np.zeros(SIZE, dtype=np.bool_)
    mask[5:9, 6:11] = ring
    mask[0, 0] = True
    row = {
        **rows[0],
        "segment_id": 4,
        "ordinal": 3,
        "iscrowd": True,
        "counts": rle.encode(mask),
        "area": int(mask.sum()),
    }
    run = write_run(folder / "runs" / "oracles", pets.dataset, "instance", [*rows, row])
    for format_ in ANNOTATION_FORMATS:
        for kind, options in (("masks", None), ("polygons", EXACT)):
            export(run, format_, folder / f"{format_}-{kind}", options=options)
    return Pets(folder, pets.definition, pets.dataset, run)


if __name__ == "__main__":
    out = Path(sys.argv[1])
    write(out)
    for kind in ("masks", "polygons"):  # datumaro asks for the pictures
        (out / f"cvat-{kind}" / "images").symlink_to((out / "pets" / "images").resolve())
