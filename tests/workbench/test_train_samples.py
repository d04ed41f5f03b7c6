"""Training samples: the processor's targets, no pixel lost or gained, and the same picture for the same number."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from eomt.image_inputs import rgb_tensor
from eomt.image_processing import EomtImageProcessor
from workbench import catalog, ground_truth, rle
from workbench.errors import DatasetError
from workbench.formats import open_dataset
from workbench.formats.base import Dataset, Task
from workbench.training.annotations import Annotations
from workbench.training.augmentation import NONE, Augmentation
from workbench.training.samples import TrainingSamples, collate, sample_numbers

PROCESSOR = EomtImageProcessor(size={"shortest_edge": 64, "longest_edge": 64}, do_pad=True)


@pytest.fixture(scope="module")
def scenes() -> Dataset:
    return open_dataset(catalog.find("scenes_val"))


def annotations(dataset: Dataset, task: Task) -> Annotations:
    wanted = [c for c in dataset.categories if c.isthing or task != "instance"]
    return Annotations(dataset, task, {category.category_id: index for index, category in enumerate(wanted)})


def two_overlapping_squares(folder: Path) -> Dataset:
    """One image of 40 x 30 pixels with two overlapping instances and a crowd over everything."""
    first, second, everything = (np.zeros((30, 40), bool) for _ in range(3))
    first[2:20, 2:20], second[10:28, 10:30], everything[:] = True, True, True
    Image.fromarray(np.full((30, 40, 3), 90, np.uint8)).save(folder / "one.png")
    content = {
        "images": [{"id": 1, "file_name": "one.png", "height": 30, "width": 40}],
        "annotations": [instance(i, mask) for i, mask in enumerate((first, second, everything), start=1)],
        "categories": [{"id": 5, "name": "square"}],
    }
    content["annotations"][2]["iscrowd"] = 1  # type: ignore[index]
    (folder / "instances.json").write_text(json.dumps(content))
    (folder / "squares.toml").write_text('format = "coco"\nroot = "."\nimages = "."\ninstances = "instances.json"\n')
    return open_dataset(catalog.find(str(folder / "squares.toml")))


def instance(number: int, mask: NDArray[np.bool_]) -> dict[str, object]:
    counts = {"size": list(mask.shape), "counts": rle.encode(mask).decode()}
    box = [0, 0, mask.shape[1], mask.shape[0]]
    return {
        "id": number, "image_id": 1, "category_id": 5, "iscrowd": 0, "area": int(mask.sum()), "bbox": box,
        "segmentation": counts,
    }  # fmt: skip


@pytest.mark.parametrize("task", ["panoptic", "semantic"])
def test_targets_and_pixels_are_the_processors(scenes: Dataset, task: Task) -> None:
    truth = annotations(scenes, task)
    samples = TrainingSamples(truth, (64, 64), NONE, seed=3)
    batch = collate([samples[number] for number in range(6)]).on(torch.device("cpu"), PROCESSOR)
    order = [record.image_id for record in truth.images]
    shown = np.random.default_rng([0, 3, 0]).permutation(len(truth))[:6]
    for position, index in enumerate(shown):
        assert order[index] == truth.images[index].image_id
        maps = truth.label_maps(int(index))
        assert len(maps.maps) == 1
        classes = {number: label + 1 for number, label in enumerate(maps.classes, start=1)}
        expected = PROCESSOR.preprocess(
            [rgb_tensor(truth.images[index].path)], [maps.maps[0]], classes, return_tensors="pt", ignore_index=-1
        )
        assert torch.equal(batch.pixel_values[position], expected.pixel_values[0])
        assert torch.equal(batch.mask_labels[position].float(), expected.mask_labels[0])
        assert torch.equal(batch.class_labels[position], expected.class_labels[0])


def test_label_maps_hold_every_segment_but_crowds_and_void(scenes: Dataset) -> None:
    truth, table = annotations(scenes, "panoptic"), ground_truth.load(scenes, "panoptic").segments()
    crowds = 0
    for index, record in enumerate(truth.images):
        rows = [row for row in table.to_pylist() if row["image_id"] == record.image_id]
        kept = [row for row in rows if row["segment_id"] and not row["iscrowd"]]
        crowds += sum(row["iscrowd"] for row in rows)
        maps = truth.label_maps(index)
        for number, row in enumerate(kept, start=1):
            assert np.array_equal((maps.maps == number).any(0), rle.decode(row["counts"], row["height"], row["width"]))
        assert len(maps.classes) == len(kept) == maps.maps.max()
    assert crowds > 0


def test_overlapping_instances_keep_all_their_pixels(tmp_path: Path) -> None:
    truth = annotations(two_overlapping_squares(tmp_path), "instance")
    sample = TrainingSamples(truth, (30, 40), NONE, seed=0)[0]
    processor = EomtImageProcessor(size={"shortest_edge": 30, "longest_edge": 40}, do_pad=True)
    masks = collate([sample]).on(torch.device("cpu"), processor).mask_labels[0]
    assert masks.shape == (2, 30, 40)  # not the crowd
    assert masks[0, 2:20, 2:20].all() and masks[0].sum() == 18 * 18
    assert masks[1, 10:28, 10:30].all() and masks[1].sum() == 18 * 20


def test_a_batch_gives_each_image_its_own_masks(scenes: Dataset, tmp_path: Path) -> None:
    samples = TrainingSamples(annotations(scenes, "instance"), (48, 48), Augmentation(), seed=1)
    together = collate([samples[number] for number in range(5)]).on(torch.device("cpu"), PROCESSOR)
    for number in range(5):
        alone = collate([samples[number]]).on(torch.device("cpu"), PROCESSOR)
        assert torch.equal(together.pixel_values[number], alone.pixel_values[0])
        assert torch.equal(together.mask_labels[number], alone.mask_labels[0])
        assert torch.equal(together.class_labels[number], alone.class_labels[0])


def test_a_number_is_the_same_sample_in_any_order_and_another_in_the_next_epoch(scenes: Dataset) -> None:
    truth = annotations(scenes, "panoptic")
    forwards, backwards = (TrainingSamples(truth, (48, 48), Augmentation(), seed=2) for _ in range(2))
    numbers = [0, 7, len(truth) + 3]
    first = [forwards[number].pixels for number in numbers]
    second = [backwards[number].pixels for number in reversed(numbers)][::-1]
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert not torch.equal(forwards[0].pixels, forwards[len(truth)].pixels)


def test_every_epoch_shows_every_image_once(scenes: Dataset) -> None:
    truth = annotations(scenes, "panoptic")
    samples = TrainingSamples(truth, (16, 16), NONE, seed=0)
    shown = {samples[number].pixels.numpy().tobytes() for number in range(len(truth), 2 * len(truth))}
    assert len(shown) == len(truth) == 60


def test_the_samples_of_a_step_do_not_depend_on_how_they_are_shared_out() -> None:
    alone = sample_numbers(2, 5, batch_size=4, accumulate=2)
    pair = [sample_numbers(2, 5, batch_size=2, accumulate=2, rank=rank, processes=2) for rank in range(2)]
    assert [a + b for a, b in zip(*pair, strict=True)] == alone
    assert alone[0] == [16, 17, 18, 19] and len(alone) == 6
    assert sample_numbers(0, 5, batch_size=8, accumulate=1)[2] == alone[0] + alone[1]


def test_an_unreadable_image_is_named(tmp_path: Path) -> None:
    truth = annotations(two_overlapping_squares(tmp_path), "instance")
    (tmp_path / "one.png").write_bytes(b"no picture")
    with pytest.raises(DatasetError, match=r"one\.png: cannot be read"):
        TrainingSamples(truth, (16, 16), NONE, seed=0)[0]
    Image.new("RGB", (30, 40)).save(tmp_path / "one.png")
    with pytest.raises(DatasetError, match=r"40x30 pixels .* declare 30x40"):
        TrainingSamples(truth, (16, 16), NONE, seed=0)[0]


def test_a_dataset_with_nothing_to_learn_is_refused(scenes: Dataset) -> None:
    with pytest.raises(DatasetError, match="no image has a panoptic segment"):
        Annotations(scenes, "panoptic", {999: 0})
