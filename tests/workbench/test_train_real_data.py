"""Training works on real photographs: one batch is learned by heart, until its panoptic quality is nearly perfect."""

import json
import shutil
from pathlib import Path

import pytest

import workbench

pytestmark = pytest.mark.slow

IMAGES = (17914, 500044)  # of few, large segments: a person, a cat, beds, a laptop, a microwave, a door, ...
CONFIG = {
    "model_type": "eomt",
    "hidden_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 3,
    "image_size": 160,
    "patch_size": 8,
    "num_blocks": 2,
    "num_queries": 16,
    "num_upscale_blocks": 2,
    "num_register_tokens": 1,
    "train_num_points": 2048,
}


def two_photographs(source: Path, folder: Path) -> Path:
    """Two images of the COCO sample with their panoptic ground truth, and the categories that occur in it."""
    content = json.loads((source / "annotations" / "panoptic_train2017.json").read_text())
    content["images"] = [image for image in content["images"] if image["id"] in IMAGES]
    content["annotations"] = [entry for entry in content["annotations"] if entry["image_id"] in IMAGES]
    used = {segment["category_id"] for entry in content["annotations"] for segment in entry["segments_info"]}
    content["categories"] = [category for category in content["categories"] if category["id"] in used]
    (folder / "panoptic").mkdir(parents=True)
    (folder / "panoptic.json").write_text(json.dumps(content))
    for image, entry in zip(content["images"], content["annotations"], strict=True):
        shutil.copy(source / "train2017" / image["file_name"], folder)
        shutil.copy(source / "annotations" / "panoptic_train2017" / entry["file_name"], folder / "panoptic")
    definition = folder / "photographs.toml"
    definition.write_text('format = "coco"\nroot = "."\nimages = "."\npanoptic = "panoptic.json"\n')
    return definition


def test_one_batch_is_learned_by_heart(shared_data: Path, in_empty_folder: Path) -> None:
    dataset = two_photographs(shared_data / "coco_stuff_sample", in_empty_folder / "data")
    config = in_empty_folder / "small.json"
    config.write_text(json.dumps(CONFIG))
    training = workbench.train(
        dataset, val=dataset, config=config, augmentation="none", batch_size=2, lr=1e-3, steps=300, eval_every=300,
        log_every=10, progress=False,
    )  # fmt: skip
    losses = [line["loss"] for line in training.history if "loss" in line]
    assert losses[-1] < 0.1 * losses[0]
    metrics = workbench.evaluate(training.path / "validation").metrics["panoptic"]["all"]
    assert metrics["n"] == 8 and metrics["pq"] > 0.95
