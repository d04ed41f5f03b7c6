"""Predict and evaluate real photographs with random weights: all is scored, and of the right sizes and ids."""

from pathlib import Path
from typing import Any

import pytest
import torch

import workbench
from eomt import EomtConfig, EomtForUniversalSegmentation, EomtImageProcessor
from tests.conftest import REPOSITORY
from workbench import catalog
from workbench.evaluation.evaluation import evaluate
from workbench.formats import open_dataset

DEFINITIONS = REPOSITORY / "tests" / "definitions"
TINY = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "num_blocks": 2,
    "num_queries": 20,
}
CASES = [
    ("coco_panoptic_sample", "panoptic", {"threshold": 0.0, "overlap_threshold": 0.0}),
    ("coco_panoptic_sample", "instance", {}),
    ("coco_panoptic_sample", "semantic", {}),
    ("coco_tiny_instances_val", "instance", {"limit": 4}),
    ("fruits_nuts_val", "instance", {}),
    ("ade20k_sample", "semantic", {}),
    ("camvid_val", "semantic", {"limit": 4}),
]


def save_random_checkpoint(folder: Path, definition: Path, task: str, image_size: int, **architecture: Any) -> Path:
    """An EoMT with random weights and the dataset's classes; semantic ones cut images into crops, as published."""
    names = [category.name for category in open_dataset(catalog.read(definition)).categories]
    torch.manual_seed(0)
    model = EomtForUniversalSegmentation(
        EomtConfig(image_size=image_size, id2label=dict(enumerate(names)), **architecture)
    )
    torch.nn.init.normal_(model.class_predictor.weight)
    torch.nn.init.constant_(model.class_predictor.bias[-1:], -100.0)  # never "no object"
    model.attn_mask_probs.zero_()
    model.save_pretrained(folder)
    split = task == "semantic"
    size = {"shortest_edge": image_size, "longest_edge": None if split else image_size}
    EomtImageProcessor(size=size, do_split_image=split, do_pad=not split).save_pretrained(folder)
    return folder


def predict_and_evaluate(definition: Path, task: str, checkpoint: Path, folder: Path, **options: Any) -> None:
    run = workbench.predict(definition, model=checkpoint, task=task, out=folder / "run", progress=False, **options)
    images, frame = run.images(), run.segments().to_pandas()
    assert images["status"].to_pylist() == ["ok"] * images.num_rows
    sizes = dict(
        zip(
            images["image_id"].to_pylist(),
            zip(images["height"].to_pylist(), images["width"].to_pylist(), strict=True),
            strict=True,
        )
    )
    declared = {image.image_id: image.size_hw for image in open_dataset(catalog.read(definition)).images()}
    assert all(declared[image_id] in (None, size) for image_id, size in sizes.items())
    assert len(frame) > 0
    assert set(frame["category_id"]) <= {category.category_id for category in run.categories}
    metrics = evaluate(run.path).metrics
    assert metrics[task] is not None


@pytest.mark.parametrize(("name", "task", "options"), CASES)
def test_a_tiny_model_over_real_photographs(
    shared_data: Path, tmp_path: Path, name: str, task: str, options: dict[str, Any]
) -> None:
    definition = DEFINITIONS / f"{name}.toml"
    checkpoint = save_random_checkpoint(tmp_path / "model", definition, task, 128, **TINY)
    predict_and_evaluate(definition, task, checkpoint, tmp_path, **options)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "task", "image_size", "options"),
    [
        ("coco_panoptic_sample", "panoptic", 640, {"threshold": 0.0, "overlap_threshold": 0.0}),
        ("coco_tiny_instances_val", "instance", 640, {"limit": 2}),
        ("ade20k_sample", "semantic", 512, {}),
        ("camvid_val", "semantic", 512, {"limit": 2}),
    ],
)
def test_a_full_size_large_model_over_real_photographs(
    shared_data: Path, tmp_path: Path, name: str, task: str, image_size: int, options: dict[str, Any]
) -> None:
    definition = DEFINITIONS / f"{name}.toml"
    checkpoint = save_random_checkpoint(
        tmp_path / "model", definition, task, image_size, hidden_size=1024, num_hidden_layers=24, num_attention_heads=16
    )
    predict_and_evaluate(definition, task, checkpoint, tmp_path, **options)
    for file in (tmp_path / "model").iterdir():  # a gigabyte that pytest would keep
        file.unlink()
