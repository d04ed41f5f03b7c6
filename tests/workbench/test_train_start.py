"""Where a training begins: classes kept by name, positions resized, backbones and random weights."""

import json
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import transformers

from eomt.configuration import EomtConfig
from eomt.dinov3 import EomtDinov3Config, EomtDinov3ForUniversalSegmentation
from eomt.modeling import EomtForUniversalSegmentation
from tests.reference.oracles import transformers_processors
from workbench.errors import DatasetError, OptionError
from workbench.formats.base import Category
from workbench.prediction.checkpoint import BUNDLED_CHECKPOINTS, open_checkpoint
from workbench.training.classes import class_head
from workbench.training.start import StartOptions, adapted, choose_start

BUNDLED = "eomt_scenes_panoptic"
TINY = EomtConfig(
    hidden_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=32, patch_size=8, num_blocks=1,
    num_queries=4, num_upscale_blocks=1, train_num_points=32, id2label={0: "dog", 1: "bus", 2: "grass"},
)  # fmt: skip


def categories(*names: str, stuff: tuple[str, ...] = ()) -> list[Category]:
    return [Category(10 * i, name, name not in stuff, (0, 0, 0)) for i, name in enumerate((*names, *stuff), start=1)]


def test_known_classes_keep_their_weights_and_new_ones_start_anew() -> None:
    old = EomtForUniversalSegmentation(TINY)
    head = class_head(categories("cat", "Grass", "dog"), "panoptic", TINY.id2label)
    assert head.source == (None, 2, 0) and head.dropped == ("bus",)
    new = adapted(old, TINY.with_labels(head.id2label), head)
    before, after = old.class_predictor, new.class_predictor
    assert torch.equal(after.weight[1], before.weight[2]) and torch.equal(after.bias[1], before.bias[2])
    assert torch.equal(after.weight[2], before.weight[0])
    assert torch.equal(after.weight[3], before.weight[3])  # no object
    assert not any(torch.equal(after.weight[0], row) for row in before.weight)
    untouched = [key for key in old.state_dict() if not key.startswith(("class_predictor", "criterion"))]
    assert all(torch.equal(old.state_dict()[key], new.state_dict()[key]) for key in untouched)


def test_masked_attention_starts_again() -> None:
    old = EomtForUniversalSegmentation(TINY)
    old.attn_mask_probs.zero_()
    head = class_head(categories("dog", "bus", "grass"), "panoptic", TINY.id2label)
    assert adapted(old, TINY, head).attn_mask_probs.tolist() == [1.0]


def test_what_becomes_of_the_classes_is_told() -> None:
    head = class_head(categories("cat", "grass"), "panoptic", TINY.id2label)
    assert head.describe() == "2 classes: 1 kept (grass), 1 new (cat), 2 dropped (dog, bus)"
    assert class_head(categories("a", "b"), "panoptic").describe() == "2 classes: 2 new (a, b)"
    assert class_head(categories("a"), "panoptic", {0: "LABEL_0", 1: "LABEL_1"}).source == (None,)


def test_instance_segmentation_learns_things_only() -> None:
    head = class_head(categories("dog", "bus", stuff=("sky",)), "instance")
    assert head.id2label == {0: "dog", 1: "bus"} and head.class_of == {10: 0, 20: 1}
    with pytest.raises(DatasetError, match="no things to learn"):
        class_head(categories(stuff=("sky",)), "instance")


def test_categories_of_one_name_are_refused() -> None:
    with pytest.raises(DatasetError, match="cannot be told apart"):
        class_head(categories("dog", "Dog"), "panoptic")


def test_positions_are_resized_to_another_input() -> None:
    old = EomtForUniversalSegmentation(TINY)
    with torch.no_grad():
        ramp = torch.arange(4.0).repeat(4, 1)  # the column's number in every channel
        old.embeddings.position_embeddings.weight.copy_(ramp.reshape(16, 1).expand(-1, 16))
    head = class_head(categories("dog", "bus", "grass"), "panoptic", TINY.id2label)
    new = adapted(old, replace(TINY, image_size=(32, 64)), head)
    resized = new.embeddings.position_embeddings.weight.detach().reshape(4, 8, 16)
    assert torch.allclose(resized, resized[:1, :, :1].expand(4, 8, 16))  # still the same in each row
    assert (resized[0, :, 0].diff() > 0).all() and abs(float(resized.mean()) - 1.5) < 1e-5


@pytest.mark.parametrize("options", [StartOptions(), StartOptions(checkpoint=BUNDLED, size="s")])
def test_one_place_to_start_from_is_asked_for(options: StartOptions) -> None:
    with pytest.raises(OptionError, match="give one of --from"):
        choose_start(options, categories("dog"), "panoptic")


def test_a_checkpoint_brings_its_processor_and_the_options_its_size() -> None:
    same = choose_start(StartOptions(checkpoint=BUNDLED), categories("person", "sky"), "panoptic")
    assert same.config is not None and same.config.id2label == {0: "person", 1: "sky"}
    assert same.processor.to_dict() == open_checkpoint(BUNDLED).processor.to_dict()
    larger = choose_start(StartOptions(checkpoint=BUNDLED, image_size=(96, 160)), categories("person"), "panoptic")
    assert larger.image_size_hw == larger.model().config.image_size_hw == (96, 160)
    assert larger.processor.size == {"shortest_edge": 96, "longest_edge": 160} and larger.processor.do_pad
    with pytest.raises(OptionError, match="160x96"):
        choose_start(StartOptions(checkpoint=BUNDLED, image_size=(160, 96)), categories("person"), "panoptic")


def test_random_weights_for_semantic_segmentation_take_crops_unless_the_input_is_no_square(tmp_path: Path) -> None:
    file = tmp_path / "tiny.json"
    file.write_text(json.dumps(TINY.to_dict()))
    square = choose_start(StartOptions(config=str(file)), categories("a", "b"), "semantic")
    assert square.processor.do_split_image and square.processor.size == {"shortest_edge": 32, "longest_edge": None}
    wide = choose_start(StartOptions(config=str(file), image_size=(32, 48)), categories("a", "b"), "semantic")
    assert wide.processor.do_pad and not wide.processor.do_split_image
    panoptic = choose_start(StartOptions(config=str(file), points=7), categories("a", "b"), "panoptic")
    assert panoptic.processor.do_pad and panoptic.model().config.train_num_points == 7
    assert panoptic.name == "tiny"


def test_random_weights_know_where_their_patches_are(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(TINY.to_dict()))
    start = choose_start(StartOptions(config=str(tmp_path / "config.json")), categories("a"), "panoptic")
    positions = start.model().embeddings.position_embeddings.weight.reshape(4, 4, 16)
    assert torch.allclose(positions[0, :, :8], positions[0, :1, :8])  # the row is told by the first half
    assert torch.allclose(positions[:, 0, 8:], positions[:1, 0, 8:])  # and the column by the other
    assert len({tuple(place.tolist()) for place in positions.flatten(0, 1)}) == 16


def test_a_backbone_is_a_start(tmp_path: Path) -> None:
    transformers_processors()  # from here on transformers' models can be imported, whatever torchvision there is
    config = transformers.Dinov2WithRegistersConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=28, patch_size=14, mlp_ratio=2
    )
    transformers.Dinov2WithRegistersModel(config).save_pretrained(tmp_path / "dino")
    options = StartOptions(checkpoint=str(tmp_path / "dino"), image_size=32, points=16)
    start = choose_start(options, categories("dog", "bus"), "panoptic")
    model = start.model()
    assert (start.kind, start.name) == ("backbone", "dino")
    assert model.config.image_size_hw == start.image_size_hw == (32, 32)
    assert model.config.id2label == {0: "dog", 1: "bus"} and model.config.train_num_points == 16
    assert start.head.source == (None, None)


def test_loading_the_bundled_checkpoint_to_train_warns_of_nothing() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = choose_start(StartOptions(checkpoint=BUNDLED), categories("person"), "panoptic").model()
    assert model.dtype == torch.float32 and (BUNDLED_CHECKPOINTS / BUNDLED).is_dir()


def test_a_dinov3_model_starts_from_random_weights_and_from_its_checkpoint(tmp_path: Path) -> None:
    config = EomtDinov3Config(
        hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=32, patch_size=8,
        num_blocks=1, num_queries=4, num_upscale_blocks=1, id2label={0: "dog", 1: "bus"},
    )  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(config.to_dict()))
    fresh = choose_start(StartOptions(config=str(tmp_path / "config.json")), categories("dog", "cat"), "panoptic")
    model = fresh.model()
    assert isinstance(model, EomtDinov3ForUniversalSegmentation) and model.config.id2label == {0: "dog", 1: "cat"}
    model.save_pretrained(tmp_path / "trained")
    fresh.processor.save_pretrained(tmp_path / "trained")
    again = choose_start(StartOptions(checkpoint=str(tmp_path / "trained")), categories("cat"), "panoptic")
    assert again.head.source == (1,)
    kept = again.model().class_predictor.weight
    assert torch.equal(kept, model.class_predictor.weight[1:])
