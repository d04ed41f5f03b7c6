"""A model that costs nothing: real files are read, canned segments come out, everything behind it is the real thing.

The stand-in takes the place of `Predictor` in a session, so that `workbench.predict` runs as ever: dataset, run folder,
readers' threads, encoding, shards, progress, resume. The data set lists a few small JPEG files as many images.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import workbench
from eomt.outputs import EomtForUniversalSegmentationOutput
from workbench.prediction.defaults import BUNDLED_MODEL
from workbench.prediction.encode import Failed, PredictedMap, Prediction
from workbench.prediction.engines import work
from workbench.prediction.model import Predictor, Prepared
from workbench.prediction.progress import Progress
from workbench.runs import Run

FILES = 16
SIZE_HW = (48, 64)
SEGMENTS = 8
_CATEGORIES = Path(workbench.__file__).parent.parent / "datasets" / "scenes" / "annotations" / "panoptic_val.json"


def make_dataset(folder: Path, images: int) -> Path:
    """`FILES` JPEG files listed as `images` images, with the bundled categories and no annotations; its definition."""
    (folder / "images").mkdir(parents=True)
    for number in range(FILES):
        pixels = np.random.default_rng(number).integers(0, 256, (*SIZE_HW, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"{number:02}.jpg")
    height, width = SIZE_HW
    content = {
        "images": [
            {"id": number + 1, "file_name": f"{number % FILES:02}.jpg", "height": height, "width": width}
            for number in range(images)
        ],
        "annotations": [],
        "categories": json.loads(_CATEGORIES.read_text(encoding="utf-8"))["categories"],
    }
    (folder / "instances.json").write_text(json.dumps(content), encoding="utf-8")
    definition = folder / "simulated.toml"
    definition.write_text('format = "coco"\nroot = "."\nimages = "images"\ninstances = "instances.json"\n')
    return definition


class SimulatedPredictor(Predictor):
    """Prepares images as ever; what it says of them depends on their pixels alone."""

    def forward(self, images: Sequence[Prepared]) -> EomtForUniversalSegmentationOutput:
        """Nothing."""
        return EomtForUniversalSegmentationOutput()

    def post_process(
        self, outputs: EomtForUniversalSegmentationOutput, images: Sequence[Prepared]
    ) -> list[Prediction | Failed]:
        """`SEGMENTS` segments an image, none overlapping."""
        return [self._canned(image) for image in images]

    def _canned(self, image: Prepared) -> PredictedMap:
        rng = np.random.default_rng(int(abs(float(image.pixel_values.double().sum())) * 1000))
        classes = rng.choice(len(self.categories), SEGMENTS, replace=False)
        return PredictedMap(_regions(image.size_hw, rng), classes, rng.random(SEGMENTS, dtype=np.float32))


def _regions(size_hw: tuple[int, int], rng: np.random.Generator) -> NDArray[np.int64]:
    """The pixels nearest to each of `SEGMENTS` points, int64 of shape `size_hw`."""
    y, x = np.mgrid[: size_hw[0], : size_hw[1]]
    centres = rng.random((SEGMENTS, 2)) * size_hw
    return np.argmin([(y - cy) ** 2 + (x - cx) ** 2 for cy, cx in centres], axis=0)


@contextmanager
def simulated_model() -> Iterator[None]:
    """Sessions of this process predict with the stand-in meanwhile."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(work, "Predictor", SimulatedPredictor)
        yield


def predict(definition: Path, out: Path, progress: Progress, workers: int = 2) -> Run:
    """A panoptic run of the data set with the stand-in."""
    with simulated_model():
        return workbench.predict(
            definition, model=BUNDLED_MODEL, task="panoptic", out=out, workers=workers, batch_size=8, progress=progress
        )
