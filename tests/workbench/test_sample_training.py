"""The training of the bundled checkpoint: its samples, its schedule, and that it can stop, go on and grow."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from eomt.configuration import EomtConfig
from eomt.image_processing import EomtImageProcessorPil
from eomt.modeling import EomtForUniversalSegmentation
from workbench.sample.publish import publish
from workbench.sample.samples import CLASS_INDEX, collate, sample
from workbench.sample.scenes import Scene, generate
from workbench.sample.train import (
    CONFIG,
    Recipe,
    Training,
    learning_rate,
    mask_probs,
    resized_positions,
    run,
)

TINY = replace(
    CONFIG, hidden_size=16, num_hidden_layers=3, num_attention_heads=2, image_size=32, num_blocks=2, num_queries=12,
    train_num_points=32,
)  # fmt: skip
RECIPE = Recipe(minutes=1, batch_size=2, warmup_steps=2, final_size=48)
Batch = tuple[Tensor, list[Tensor], list[Tensor]]


@pytest.fixture
def batch() -> Batch:
    return collate([sample(generate(21, index), 32) for index in range(2)])


def landscape_with(iscrowd: bool) -> Scene:
    for index in range(200):
        scene = generate(22, index)
        if scene.ids.shape == (144, 192) and any(segment.iscrowd for segment in scene.segments) == iscrowd:
            return scene
    raise LookupError("no such scene in the first 200")


def test_a_samples_pixels_are_those_of_the_checkpoints_processor() -> None:
    scene = landscape_with(iscrowd=False)
    processor = EomtImageProcessorPil(size={"shortest_edge": 128, "longest_edge": 128}, do_pad=True)
    expected = processor.preprocess([scene.image], return_tensors="pt")["pixel_values"][0]
    pixels, _, _ = sample(scene, 128)
    torch.testing.assert_close(pixels, expected, rtol=0, atol=1e-5)


def test_a_samples_targets_are_the_scenes_segments_without_crowds() -> None:
    scene = landscape_with(iscrowd=True)
    _, masks, classes = sample(scene, 192)
    wanted = [segment for segment in scene.segments if not segment.iscrowd]
    assert classes.tolist() == [CLASS_INDEX[segment.category_id] for segment in wanted]
    for mask, segment in zip(masks.numpy(), wanted, strict=True):
        assert np.array_equal(mask[:144] > 0, scene.ids == segment.id)
        assert not mask[144:].any()


def test_the_rate_warms_up_then_falls_to_zero() -> None:
    recipe = Recipe(warmup_steps=10, learning_rate=1.0)
    assert [learning_rate(recipe, step, 0.0) for step in (0, 4, 9, 50)] == pytest.approx([0.1, 0.5, 1, 1])
    assert learning_rate(recipe, 1000, 0.5) == pytest.approx(0.5)
    assert learning_rate(recipe, 1000, 1.0) == pytest.approx(0)


def test_attention_is_masked_at_first_and_never_at_the_end() -> None:
    recipe = Recipe()
    assert mask_probs(recipe, 4, 0.0).tolist() == [1, 1, 1, 1]
    halfway = mask_probs(recipe, 4, 0.5).tolist()
    assert halfway == sorted(halfway)
    assert halfway[0] < halfway[-1]
    assert mask_probs(recipe, 4, recipe.mask_until).max().item() < 1e-5
    assert mask_probs(recipe, 4, 1.0).tolist() == [0, 0, 0, 0]


def test_stretched_positions_keep_their_place() -> None:
    rows = torch.arange(4.0).repeat_interleave(6)[:, None]  # (4 * 6, 1): each position knows its row
    same = resized_positions(rows, (4, 6), (4, 6))
    assert torch.equal(same, rows)
    larger = resized_positions(rows, (4, 6), (8, 12)).reshape(8, 12)
    assert torch.equal(larger, larger[:, :1].expand(-1, 12))
    assert (larger[1:, 0] >= larger[:-1, 0]).all()
    assert larger[[0, -1], 0].tolist() == [0, 3]


def test_repeating_a_batch_lowers_its_loss(batch: Batch, tmp_path: Path) -> None:
    training = Training(replace(RECIPE, learning_rate=3e-3), TINY, tmp_path)
    losses = [training.learn(*batch)["loss"] for _ in range(40)]
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])


def test_a_resumed_training_takes_the_step_that_it_would_have_taken(batch: Batch, tmp_path: Path) -> None:
    first = Training(RECIPE, TINY, tmp_path)
    for _ in range(3):
        first.learn(*batch)
    first.seconds = 7.0
    first.save()
    second = Training(RECIPE, TINY, tmp_path)
    second.resume()
    assert (second.step, second.seconds) == (3, 7.0)
    losses = []
    for training in (first, second):
        torch.manual_seed(1)
        losses.append(training.learn(*batch))
    assert losses[0] == losses[1]
    for name, weight in first.average.state_dict().items():
        assert torch.equal(weight, second.average.state_dict()[name]), name


def test_growing_changes_the_position_embeddings_alone(batch: Batch, tmp_path: Path) -> None:
    training = Training(RECIPE, TINY, tmp_path)
    training.learn(*batch)
    before = {name: weight.clone() for name, weight in training.model.state_dict().items()}
    training.grow(48)
    positions = "embeddings.position_embeddings.weight"
    for name, weight in training.model.state_dict().items():
        assert weight.shape == (36, 16) if name == positions else torch.equal(weight, before[name]), name
    moments = training.optimizer.state[training.model.embeddings.position_embeddings.weight]
    assert moments["exp_avg"].shape == (36, 16)
    assert np.isfinite(training.learn(*collate([sample(generate(21, 0), 48)]))["loss"])
    training.save()
    resumed = Training(RECIPE, TINY, tmp_path)
    resumed.resume()
    assert resumed.size == 48


def test_a_run_goes_through_both_sizes_and_leaves_a_checkpoint_that_can_be_published(tmp_path: Path) -> None:
    training = Training(replace(RECIPE, minutes=0.02, small_until=0.5), TINY, tmp_path / "run")
    (tmp_path / "run").mkdir()
    run(training)
    publish(tmp_path / "run/checkpoint", tmp_path / "published")
    model = EomtForUniversalSegmentation.from_pretrained(tmp_path / "published", dtype=torch.float32)
    assert model.config.image_size == 48
    assert model.attn_mask_probs.tolist() == [0, 0]
    settings = json.loads((tmp_path / "published/preprocessor_config.json").read_text())
    assert settings["size"] == {"shortest_edge": 48, "longest_edge": 48}
    assert EomtConfig.from_pretrained(tmp_path / "published").id2label == CONFIG.id2label
