"""The checkpoint that ships with the package is small, speaks the sample's classes and scores what its card says."""

import re
from pathlib import Path

import pytest
import torch

import workbench
from eomt.modeling import EomtForUniversalSegmentation
from workbench import catalog
from workbench.errors import ModelError
from workbench.formats import open_dataset
from workbench.prediction.checkpoint import BUNDLED_CHECKPOINTS, open_checkpoint
from workbench.prediction.defaults import BUNDLED_MODEL

FOLDER = BUNDLED_CHECKPOINTS / BUNDLED_MODEL
SCENES = catalog.built_in_folder() / "scenes_val.toml"


def test_the_bundled_checkpoint_takes_at_most_twelve_megabytes() -> None:
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) <= 12e6


def test_the_bundled_checkpoint_names_the_sample_sets_classes_things_first() -> None:
    model = EomtForUniversalSegmentation.from_pretrained(FOLDER, dtype=torch.float32)
    categories = open_dataset(catalog.read(SCENES)).categories
    things = [category.name for category in categories if category.isthing]
    stuff = [category.name for category in categories if not category.isthing]
    assert [model.config.id2label[index] for index in range(len(categories))] == things + stuff


def test_the_bundled_checkpoint_scores_what_its_card_says(tmp_path: Path) -> None:
    stated = re.search(r"PQ on `scenes_val` \| (\d\.\d{3}) \|", (FOLDER / "README.md").read_text(encoding="utf-8"))
    assert stated is not None
    run = workbench.predict(SCENES, out=tmp_path / "run", progress=False)
    measured = workbench.evaluate(run).metrics["panoptic"]["all"]["pq"]
    assert measured == pytest.approx(float(stated.group(1)), abs=0.003)  # one segment more or less moves it by 0.002
    assert measured >= 0.80


def test_a_misspelt_checkpoint_is_told_the_nearest_bundled_one() -> None:
    told = r"eomt_scenes is neither .* nor bundled\. Did you mean 'eomt_scenes_panoptic'\?.*models list"
    with pytest.raises(ModelError, match=told):
        open_checkpoint("eomt_scenes")
