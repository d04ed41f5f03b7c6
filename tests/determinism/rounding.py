"""How far the rows of two runs of the same images lie apart, where they should differ by rounding alone.

    python -m tests.determinism.rounding [--images 100]

measures what other batch sizes change, for each task, with the bundled checkpoint and with random weights of ViT-S's
width; docs/predict.md has the numbers.
"""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch

import workbench
from eomt import EomtConfig, EomtForUniversalSegmentation, EomtImageProcessor
from tests.reference.few_scenes import coco_scenes
from workbench import catalog, rle
from workbench.formats import open_dataset
from workbench.prediction.defaults import BUNDLED_MODEL
from workbench.runs import Run

TASKS = ("panoptic", "instance", "semantic")
BATCH_SIZES = (1, 2, 3, 5, 8)
MOST_PIXELS = 1e-4
"""Of all: how many another batch size may put into another segment. See docs/predict.md."""
MOST_SCORE = 1e-4
"""How far it may move a score."""


@dataclass(frozen=True)
class Difference:
    """Between two runs of the same images."""

    rows: int
    """Of the first."""
    rows_changed: int
    """Rows of either that the other has not, with that class and these very pixels."""
    pixels: int
    """Of all images."""
    pixels_changed: int
    """Pixels that are in a row of the one and not in the row of that place in the other, summed over rows."""
    score: float
    """The largest difference of two rows of one place and class."""

    @property
    def share(self) -> float:
        """Pixels changed of all."""
        return self.pixels_changed / self.pixels

    def __str__(self) -> str:
        return (
            f"{self.rows_changed} of {self.rows} rows, {self.pixels_changed} of {self.pixels} pixels "
            f"({self.share:.1e}), scores by up to {self.score:.1e}"
        )


def difference(first: Run, second: Run) -> Difference:
    """How far apart they are. Raises AssertionError where they do not have the same images."""
    assert first.images().equals(second.images())
    images = first.images().to_pandas()
    rows, changed, pixels_changed, score = 0, 0, 0, 0.0
    for one, other in _by_image(first, second):
        rows += len(one)
        known = [{(row.category_id, row.counts) for row in side} for side in (one, other)]
        changed += len(known[0] ^ known[1])
        for a, b in zip(one, other, strict=False):
            if a.category_id == b.category_id and a.score == a.score:
                score = max(score, abs(a.score - b.score))
            if a.counts != b.counts:
                pixels_changed += int((_mask(a) ^ _mask(b)).sum())
        pixels_changed += sum(int(row.area) for row in (*one[len(other) :], *other[len(one) :]))
    return Difference(rows, changed, int((images["height"] * images["width"]).sum()), pixels_changed, float(score))


def _by_image(first: Run, second: Run) -> Iterator[tuple[list[Any], list[Any]]]:
    frames = [dict(list(run.segments().to_pandas().groupby("image_id"))) for run in (first, second)]
    for image_id in first.images()["image_id"].to_pylist():
        one, other = (list(frame[image_id].itertuples()) if image_id in frame else [] for frame in frames)
        yield one, other


def _mask(row: Any) -> np.ndarray:
    return rle.decode(row.counts, row.height, row.width)


def random_checkpoint(folder: Path, definition: Path, hidden_size: int = 384, layers: int = 6) -> Path:
    """Random weights of ViT-S's width with the data set's classes; every query says some class, none is sure."""
    names = [category.name for category in open_dataset(catalog.read(definition)).categories]
    torch.manual_seed(0)
    heads = hidden_size // 64 or 1
    architecture = {"hidden_size": hidden_size, "num_hidden_layers": layers, "num_attention_heads": heads}
    model = EomtForUniversalSegmentation(
        EomtConfig(image_size=128, num_blocks=2, num_queries=50, id2label=dict(enumerate(names)), **architecture)
    )
    torch.nn.init.normal_(model.class_predictor.weight)
    torch.nn.init.constant_(model.class_predictor.bias[-1:], -100.0)  # never "no object"
    model.attn_mask_probs.zero_()
    model.save_pretrained(folder)
    EomtImageProcessor(size={"shortest_edge": 128, "longest_edge": 128}, do_pad=True).save_pretrained(folder)
    return folder


def predict(dataset: Path, out: Path, task: str, model: str | Path = BUNDLED_MODEL, **options: Any) -> Run:
    """A run without progress; random weights of panoptic segmentation keep all that they say."""
    if task == "panoptic" and model != BUNDLED_MODEL:
        options |= {"threshold": 0.0, "overlap_threshold": 0.0}
    return workbench.predict(dataset, **{"model": model, "task": task, "out": out, "progress": False, **options})


@click.command()
@click.option("--images", default=100, show_default=True)
def main(images: int) -> None:
    """Measure what the batch size changes."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        dataset = coco_scenes(folder / "data", images)
        models = {"bundled": BUNDLED_MODEL, "random ViT-S": random_checkpoint(folder / "random", dataset)}
        for title, model in models.items():
            for task in TASKS:
                runs = {
                    size: predict(dataset, folder / f"{title} {task} {size}", task, model, batch_size=size)
                    for size in BATCH_SIZES
                }
                for size in BATCH_SIZES:
                    if size != 2:
                        print(
                            f"{title}, {task}, batch size {size} against 2: {difference(runs[2], runs[size])}",
                            flush=True,
                        )


if __name__ == "__main__":
    main()
