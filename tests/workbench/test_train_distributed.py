"""Two processes that train together do what one does with the double batch, and one of them writes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from tests.reference.tiny_training import tiny_config
from tests.reference.training_processes import train_in
from workbench.training.history import read_entries

SIDE = 32


def stripes(folder: Path, count: int = 8) -> Path:
    """A semantic dataset whose every image has both classes in every crop, so that all batches have as many targets.

    The class loss is a weighted mean over the queries of a process: with other numbers of targets in each process it
    is not the mean over all of them (nor is it in the original).
    """
    for kind in ("images", "labels"):
        (folder / kind).mkdir()
    random = np.random.default_rng(0)
    for number in range(count):
        labels = np.zeros((SIDE, SIDE), np.uint8)
        labels[:, :: 2 + number % 3] = 1
        picture = np.clip(labels[..., None] * 120 + random.integers(0, 60, (SIDE, SIDE, 3)), 0, 255)
        Image.fromarray(labels).save(folder / "labels" / f"{number}.png")
        Image.fromarray(picture.astype(np.uint8)).save(folder / "images" / f"{number}.png")
    (folder / "classes.csv").write_text("category_id,name,isthing\n0,gap,0\n1,stripe,0\n")
    definition = folder / "stripes.toml"
    keys = ('format = "ade20k"', 'root = "."', 'images = "images"', 'annotations = "labels"', 'classes = "classes.csv"')
    definition.write_text("\n".join((*keys, "void = [255]")) + "\n")
    return definition


@pytest.mark.parametrize(("accumulate", "dense_weight"), [(1, 0.0), (2, 1.0)])
def test_two_processes_train_as_one_with_the_double_batch(tmp_path: Path, accumulate: int, dense_weight: float) -> None:
    dataset, config = stripes(tmp_path), tiny_config(tmp_path, image_size=SIDE)
    # Adam turns the rounding of a gradient near zero into a whole step, so the weights are compared after a few.
    common: dict[str, Any] = {"config": str(config), "steps": 4, "log_every": 1, "scale": (1.0, 2.0)}
    common |= {"accumulate": accumulate, "dense_weight": dense_weight, "dense_until": 0.7}
    train_in(1, tmp_path, str(dataset), out="one", batch_size=4, **common)
    train_in(2, tmp_path, str(dataset), out="two", batch_size=2, val=str(dataset), eval_every=2, **common)
    one, two = (read_entries(tmp_path / out / "history.jsonl") for out in ("one", "two"))
    alone, together = ([line for line in lines if "loss" in line] for lines in (one, two))
    assert [line["step"] for line in together] == [1, 2, 3, 4]
    for a, b in zip(alone, together, strict=True):
        for name in ("loss", "loss_mask", "loss_dice", "loss_cross_entropy", "gradient_norm"):
            assert b[name] == pytest.approx(a[name], rel=2e-4), name
        assert ("loss_dense" in b) == bool(dense_weight)
        assert b.get("loss_dense", 0) == pytest.approx(a.get("loss_dense", 0), rel=2e-4)
    assert len([line for line in two if "metric" in line]) == 2
    before, after = (load_file(tmp_path / out / "last" / "model.safetensors") for out in ("one", "two"))
    moved = max(float((before[key] - after[key]).abs().max()) for key in before)
    assert moved < 2e-4  # a step moves a weight by up to 5e-4
    assert torch.equal(before["attn_mask_probs"], after["attn_mask_probs"])
