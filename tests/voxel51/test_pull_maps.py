"""Semantic ground truth edited in FiftyOne as maps, and semantic data sets whose images' names end in a suffix."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.reference.labelled_pets import SIZE, TRUE_MAPS, Pets, write_pets_semantic, write_run
from tests.reference.small_datasets import write_semantic
from workbench import catalog, rle
from workbench.errors import FiftyOneError, RunError
from workbench.evaluation.evaluation import evaluate
from workbench.formats import open_dataset
from workbench.segments import concat, void_mask
from workbench.voxel51 import edited_maps, masks
from workbench.voxel51.browse import push
from workbench.voxel51.prelabel import prelabel
from workbench.voxel51.pull import pull

NOTHING = {"kept": 0, "moved": 0, "relabelled": 0, "deleted": 0, "added": 0, "trimmed": 0}
CAT, DOG, SKY = 1, 2, 3


@pytest.fixture
def maps(tmp_path: Path, fo: Any) -> Pets:
    return write_pets_semantic(tmp_path)


def rows_of(definition: Path, void: bool = False) -> list[dict[str, Any]]:
    table = concat([table for table, _ in open_dataset(catalog.read(definition)).ground_truth("semantic")])
    rows: list[dict[str, Any]] = (table if void else table.filter(~void_mask(table))).to_pylist()
    return rows


def sample_of(fo: Any, image_id: str) -> Any:
    return fo.load_dataset("pets_semantic").match({"image_id": image_id}).first()


def edit(fo: Any, image_id: str, place: Any, value: int) -> None:
    sample = sample_of(fo, image_id)
    mask = sample.ground_truth.mask.copy()
    mask[place] = value
    sample.ground_truth.mask = mask
    sample.save()


def test_semantic_ground_truth_comes_back_bit_by_bit(maps, fo, tmp_path):
    push([maps.run])
    pulled = pull(maps.dataset, tmp_path / "again.toml", field="ground_truth")
    assert pulled.counts == {**NOTHING, "kept": 6}
    assert rows_of(tmp_path / "again.toml", void=True) == rows_of(maps.definition, void=True)


def test_edited_maps_come_home_as_maps_and_each_class_says_what_happened(maps, fo, tmp_path):
    push([maps.run])
    edit(fo, "1", np.s_[5:9, 6:10], CAT)  # where the dog was
    edit(fo, "3", np.s_[0:2, 0:2], DOG)
    pulled = pull(maps.dataset, tmp_path / "new.toml", field="ground_truth")
    changed = [(row["image_id"], row["edits"], row["label"]) for row in pulled.edits.to_pylist()]
    assert changed == [
        ("1", ["moved"], "cat"),
        ("1", ["kept"], "sky"),
        ("1", ["deleted"], None),
        ("2", ["kept"], "cat"),
        ("2", ["kept"], "sky"),
        ("3", ["moved"], "sky"),
        ("3", ["added"], "dog"),
    ]
    expected = {str(image): values.copy() for image, values in TRUE_MAPS.items()}
    expected["1"][5:9, 6:10] = CAT
    expected["3"][0:2, 0:2] = DOG
    for image, values in expected.items():
        with Image.open(tmp_path / "new" / "annotations" / f"{image}.png") as picture:
            assert np.array_equal(np.asarray(picture), values)


def test_corrected_maps_change_the_score_by_exactly_what_they_should(maps, fo, tmp_path):
    push([maps.run])
    before = evaluate(maps.run, maps.dataset).metrics["semantic"]["per_category"][str(DOG)]
    edit(fo, "1", np.s_[5:9, 6:10], CAT)  # the run said so all along
    edit(fo, "2", np.s_[6:8, 8:11], DOG)
    pull(maps.dataset, tmp_path / "new.toml", field="ground_truth")
    after = evaluate(maps.run, str(tmp_path / "new.toml")).metrics["semantic"]["per_category"][str(DOG)]
    assert (before["iou"], after["iou"]) == (0.0, 1.0)


def test_pixels_without_a_label_stay_void_and_may_become_so(maps, fo, tmp_path):
    push([maps.run])
    edit(fo, "3", np.s_[0:1, :], 0)
    pull(maps.dataset, tmp_path / "new.toml", field="ground_truth")
    void = {row["image_id"]: row for row in rows_of(tmp_path / "new.toml", void=True) if row["segment_id"] == 0}
    assert {image: row["area"] for image, row in void.items()} == {"1": SIZE[1], "3": SIZE[1]}
    assert rle.decode(void["3"]["counts"], *SIZE)[0].all()


def test_maps_that_cannot_be_taken_home_are_listed_at_once(maps, fo, tmp_path):
    push([maps.run])
    edit(fo, "1", np.s_[0, 0], 17)
    sample = sample_of(fo, "2")
    sample.ground_truth.mask = np.ones((3, 4), dtype=np.uint8)
    sample.save()
    with pytest.raises(FiftyOneError) as raised:
        pull(maps.dataset, tmp_path / "new.toml", field="ground_truth")
    for told in ("2 problems", "[17]", "unknown_class", "3 x 4, the image 10 x 12", "map_size"):
        assert told in str(raised.value)


def test_maps_of_floats_are_taken_home_unless_they_hold_fractions():
    values = np.array([[0.0, 1.0], [2.0, 2.0]])
    labels, deleted, problems = edited_maps.compare({"mask": masks.pack(values)}, [], (2, 2), [7, 9], "1")
    assert ([label.category_id for label in labels], deleted, problems) == ([7, 9], [], [])
    assert np.array_equal(rle.decode(labels[1].counts, 2, 2), values == 2)
    for strange in (1.5, np.nan, -1.0):
        values[0, 0] = strange
        _, _, problems = edited_maps.compare({"mask": masks.pack(values)}, [], (2, 2), [7, 9], "1")
        assert [problem.code for problem in problems] == ["unknown_class"]


@pytest.fixture
def streets(tmp_path: Path, fo: Any) -> Pets:
    """As Cityscapes names its files: a folder a town, images that end in a suffix of their own, maps in another."""
    stems = {f"aachen/aachen_{image:06d}": values for image, values in TRUE_MAPS.items()}
    for stem in stems:
        (tmp_path / "images" / stem).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "labels" / stem).parent.mkdir(parents=True, exist_ok=True)
    keys = {"images_suffix": "_leftImg8bit", "annotations_suffix": "_gtFine_labelIds.png"}
    definition = write_semantic(tmp_path, stems, **keys)
    for stem in stems:
        (tmp_path / "images" / f"{stem}.jpg").rename(tmp_path / "images" / f"{stem}_leftImg8bit.jpg")
        (tmp_path / "labels" / f"{stem}.png").rename(tmp_path / "labels" / f"{stem}_gtFine_labelIds.png")
    definition = definition.rename(tmp_path / "streets.toml")
    dataset = open_dataset(catalog.read(definition))
    rows = []
    for stem, values in stems.items():
        for number, value in enumerate(np.unique(values[values > 0]).tolist(), start=1):
            mask = values == value
            row = {"image_id": stem, "segment_id": number, "ordinal": number - 1, "category_id": value, "score": 0.9}
            flags = {"isthing": False, "iscrowd": False, "area": int(mask.sum()), "bbox": [0.0, 0.0, 1.0, 1.0]}
            rows.append({**row, **flags, "height": SIZE[0], "width": SIZE[1], "counts": rle.encode(mask)})
    run = write_run(tmp_path / "runs" / "first", dataset, "semantic", rows)
    return Pets(tmp_path, definition, dataset, run)


@pytest.mark.parametrize("field", ["ground_truth", "label_edits"])
def test_images_whose_names_end_in_a_suffix_keep_their_ids(streets, tmp_path, field):
    push([streets.run])
    prelabel(streets.dataset, streets.run, labelled=True)
    pull(streets.dataset, tmp_path / "new.toml", field=field)
    assert [row["image_id"] for row in rows_of(tmp_path / "new.toml")] == [
        row["image_id"] for row in rows_of(streets.definition)
    ]
    assert evaluate(streets.run, str(tmp_path / "new.toml")).metrics["semantic"]["miou"] == 1.0


def test_a_run_that_lost_images_is_neither_offered_nor_compared_with(maps, fo, tmp_path):
    run = maps.run.completed()
    prelabel(maps.dataset, run, labelled=True)
    for part in run.store.images_folder.glob("*.parquet"):
        part.unlink()
    with pytest.raises(RunError, match="of which 0 are left"):
        prelabel(maps.dataset, run, labelled=True, replace=True)
    with pytest.raises(RunError, match="of which 0 are left"):
        pull(maps.dataset, tmp_path / "new.toml")
