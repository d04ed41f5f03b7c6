"""`workbench models convert`: every form of checkpoint becomes a published one with the same weights."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

import workbench.models.converting as converting
from eomt import EomtForUniversalSegmentation, EomtImageProcessor, load_model
from eomt.errors import CheckpointError
from tests.reference.checkpoint_forms import NAMES, save_delta, save_original, save_published
from tests.reference.tiny_models import random_images
from workbench.errors import ModelError, OptionError
from workbench.models.converting import convert
from workbench.prediction.checkpoint import open_checkpoint
from workbench.prediction.defaults import BUNDLED_MODEL

FILES = {"README.md", "config.json", "model.safetensors", "preprocessor_config.json"}


def assert_same_weights(folder: Path, expected: nn.Module, atol: float = 0.0) -> None:
    state = load_model(folder).state_dict()
    assert state.keys() == expected.state_dict().keys()
    for key, tensor in expected.state_dict().items():
        torch.testing.assert_close(state[key], tensor, rtol=0, atol=atol)


@pytest.fixture
def classes(tmp_path: Path) -> str:
    """A class table of three."""
    rows = [f"{index + 7},{name},1" for index, name in NAMES.items()]
    (tmp_path / "three.csv").write_text("\n".join(["category_id,name,isthing", *rows]))
    return str(tmp_path / "three.csv")


def test_an_original_file_becomes_a_checkpoint_with_names_and_a_processor(tmp_path: Path, classes: str) -> None:
    model = save_original(tmp_path / "my_panoptic_eomt")
    made = convert(str(tmp_path / "my_panoptic_eomt"), tmp_path / "out", classes=classes)
    assert {path.name for path in (tmp_path / "out").iterdir()} == FILES
    assert_same_weights(tmp_path / "out", model)
    assert (made.form, made.task, made.dtype, made.largest_difference) == ("original", "panoptic", "float32", 0)
    checkpoint = open_checkpoint(str(tmp_path / "out"))
    assert checkpoint.config.id2label == NAMES
    assert (checkpoint.processor.do_pad, checkpoint.processor.do_split_image) == (True, False)
    assert checkpoint.processor.size == {"shortest_edge": 32, "longest_edge": 32}
    assert made.weights_sha256 == checkpoint.weights_sha256()


def test_transformers_runs_what_was_converted(tmp_path: Path) -> None:
    import transformers

    model = save_original(tmp_path / "semantic")
    convert(str(tmp_path / "semantic"), tmp_path / "out")
    theirs = transformers.EomtForUniversalSegmentation.from_pretrained(tmp_path / "out").eval()
    images = random_images(model.config)
    with torch.no_grad():
        expected, actual = model(images), theirs(images)
    torch.testing.assert_close(actual.masks_queries_logits, expected.masks_queries_logits, rtol=0, atol=1e-5)
    torch.testing.assert_close(actual.class_queries_logits, expected.class_queries_logits, rtol=0, atol=1e-5)


def test_a_semantic_model_on_dinov2_cuts_crops_and_one_on_dinov3_pads(tmp_path: Path) -> None:
    save_original(tmp_path / "original")
    save_delta(tmp_path / "delta", tmp_path / "dinov3")
    convert(str(tmp_path / "original"), tmp_path / "a", task="semantic")
    convert(str(tmp_path / "delta"), tmp_path / "b", task="semantic", backbone=str(tmp_path / "dinov3"), image_size=32)
    on_dinov2, on_dinov3 = (EomtImageProcessor.from_pretrained(tmp_path / name) for name in "ab")
    assert (on_dinov2.do_split_image, on_dinov2.do_pad) == (True, False)
    assert (on_dinov3.do_split_image, on_dinov3.do_pad) == (False, True)


def test_a_delta_is_added_to_its_backbone(tmp_path: Path, classes: str) -> None:
    model = save_delta(tmp_path / "delta", tmp_path / "dinov3")
    made = convert(
        str(tmp_path / "delta"),
        tmp_path / "instance_eomt",
        backbone=str(tmp_path / "dinov3"),
        image_size=32,
        classes=classes,
        max_shard_size="50KB",
    )
    assert_same_weights(tmp_path / "instance_eomt", model, atol=1e-6)
    assert (made.form, made.task) == ("delta", "instance")
    assert (tmp_path / "instance_eomt" / "model.safetensors.index.json").is_file()
    assert open_checkpoint(str(tmp_path / "instance_eomt")).config.id2label == NAMES


def test_a_deltas_image_size_and_classes_may_come_from_a_config(tmp_path: Path) -> None:
    save_delta(tmp_path / "delta", tmp_path / "dinov3")
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"image_size": 64, "id2label": NAMES, "note": "kept by whoever wrote it"}))
    convert(str(tmp_path / "delta"), tmp_path / "panoptic", backbone=str(tmp_path / "dinov3"), config=config)
    result = open_checkpoint(str(tmp_path / "panoptic")).config
    assert (result.image_size, result.id2label) == (64, NAMES)


def test_a_dtype_rounds_the_parameters_alone_and_the_difference_is_told(tmp_path: Path) -> None:
    model = save_published(tmp_path / "published")
    made = convert(str(tmp_path / "published"), tmp_path / "out", dtype="bfloat16")
    rounded = load_model(tmp_path / "out")
    assert {parameter.dtype for parameter in rounded.parameters()} == {torch.bfloat16}
    assert torch.equal(rounded.criterion.empty_weight, model.criterion.empty_weight)
    assert (tmp_path / "out" / "preprocessor_config.json").read_text() == (
        tmp_path / "published" / "preprocessor_config.json"
    ).read_text()
    assert made.parameters == sum(parameter.numel() for parameter in model.parameters())
    image = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        before, after = model(image), load_model(tmp_path / "out", dtype=torch.float32)(image)
    differences = [
        (before[name] - after[name]).abs().max().item() for name in ("masks_queries_logits", "class_queries_logits")
    ]
    assert made.largest_difference == pytest.approx(max(differences), abs=1e-5)
    assert made.largest_difference > 1e-4


def test_without_a_dtype_weights_stay_as_they_are_stored(tmp_path: Path) -> None:
    save_published(tmp_path / "half", torch.float16)
    made = convert(str(tmp_path / "half"), tmp_path / "out")
    assert (made.dtype, made.largest_difference) == ("float16", 0)
    assert load_model(tmp_path / "out").dtype == torch.float16
    assert_same_weights(tmp_path / "out", load_model(tmp_path / "half"))


def test_the_card_tells_where_it_comes_from(tmp_path: Path) -> None:
    save_published(tmp_path / "published")
    made = convert(str(tmp_path / "published"), tmp_path / "out", task="panoptic")
    card = (tmp_path / "out" / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: transformers\n")
    assert "- panoptic-segmentation" in card
    assert f"| SHA-256 of the source | `{made.source_sha256}` |" in card
    assert "| Classes | one, two, three |" in card


def test_nothing_is_overwritten_without_being_told_to(tmp_path: Path) -> None:
    save_published(tmp_path / "published")
    (tmp_path / "out").mkdir()
    convert(str(tmp_path / "published"), tmp_path / "out")  # an empty folder is no loss
    before = (tmp_path / "out" / "config.json").stat().st_mtime_ns
    with pytest.raises(OptionError, match=r"out is there already.*--yes"):
        convert(str(tmp_path / "published"), tmp_path / "out")
    assert (tmp_path / "out" / "config.json").stat().st_mtime_ns == before
    convert(str(tmp_path / "published"), tmp_path / "out", max_shard_size="50KB", replace=True)
    assert not (tmp_path / "out" / "model.safetensors").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "published"]


@pytest.mark.parametrize("out", [".", ".."])
def test_the_current_folder_is_not_replaced_under_its_user(in_empty_folder: Path, out: str) -> None:
    with pytest.raises(OptionError, match="is or holds the current folder"):
        convert(BUNDLED_MODEL, out)


def test_replacing_that_fails_at_its_last_step_keeps_the_old_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_published(tmp_path / "published")
    convert(str(tmp_path / "published"), tmp_path / "out")
    for name in ("rename", "replace"):
        monkeypatch.setattr(Path, name, _refusing_partials(getattr(Path, name)))
    with pytest.raises(OSError, match="disk gone"):
        convert(str(tmp_path / "published"), tmp_path / "out", replace=True)
    assert {path.name for path in (tmp_path / "out").iterdir()} == FILES
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "published"]


def _refusing_partials(move: Callable[[Path, Path], Path]) -> Callable[[Path, Path], Path]:
    def moved(path: Path, target: Path) -> Path:
        if path.is_dir() and path.name.endswith(".partial"):
            raise OSError("disk gone")
        return move(path, target)

    return moved


def test_replacing_deletes_nothing_but_a_checkpoint(tmp_path: Path) -> None:
    save_published(tmp_path / "published")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("years of work")
    with pytest.raises(OptionError, match=r"more than a checkpoint \(thesis\.txt\)"):
        convert(str(tmp_path / "published"), tmp_path / "out", replace=True)
    with pytest.raises(OptionError, match="is the source itself"):
        convert(str(tmp_path / "published"), tmp_path / "published", replace=True)
    assert (tmp_path / "out" / "thesis.txt").exists()


def test_files_that_came_out_wrong_are_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_published(tmp_path / "published")

    def damaged(*arguments: object, **options: object) -> EomtForUniversalSegmentation:
        model = load_model(*arguments, **options)  # type: ignore[arg-type]
        model.query.weight.data[0, 0] += 1
        return model

    monkeypatch.setattr(converting, "load_model", damaged)
    with pytest.raises(ModelError, match=r"1 weights \(query\.weight\)"):
        convert(str(tmp_path / "published"), tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["published"]


def test_what_is_missing_is_asked_for(tmp_path: Path, classes: str) -> None:
    save_original(tmp_path / "plain", num_labels=4)
    save_delta(tmp_path / "delta", tmp_path / "dinov3")
    cases = {
        "no preprocessor_config.json, and neither its name": ("plain", {}),
        "--backbone .* and --image-size": ("delta", {"task": "semantic"}),
        "give --image-size": ("delta", {"backbone": str(tmp_path / "dinov3")}),
        "is a backbone without heads": ("dinov3", {}),
        "--image-size 64 is for the original's DINOv3 deltas": ("plain", {"image_size": 64}),
        "neither a CSV file nor a built-in table. Did you mean 'coco_panoptic'": ("plain", {"classes": "coco_panptic"}),
        "no dtype 'float8'": ("plain", {"dtype": "float8"}),
        "no task 'panoptics'": ("plain", {"task": "panoptics"}),
    }
    for message, (source, options) in cases.items():
        with pytest.raises(OptionError, match=message):
            convert(str(tmp_path / source), tmp_path / "out", **options)  # type: ignore[arg-type]
    with pytest.raises(ModelError, match=r"has 4 classes, and .*three\.csv names 3"):
        convert(str(tmp_path / "plain"), tmp_path / "out", task="semantic", classes=classes)
    with pytest.raises(CheckpointError, match="neither an existing folder nor a hub id"):
        convert(str(tmp_path / "nowhere"), tmp_path / "out")
    assert not (tmp_path / "out").exists()
