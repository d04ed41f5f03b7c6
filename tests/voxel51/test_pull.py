"""Corrections on their way home: lossless where nobody touched anything, every edit told, and scored as expected."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.reference.labelled_pets import (
    CAT,
    DOG,
    SIZE,
    SKY,
    Pets,
    write_pets,
    write_pets_instances,
    write_pets_semantic,
)
from tests.reference.memory_dataset import MemoryDataset
from workbench import catalog, rle
from workbench.errors import FiftyOneError, TransferError
from workbench.evaluation.evaluation import evaluate
from workbench.formats import open_dataset
from workbench.formats.paths import UnsafeNameError
from workbench.segments import SEGMENT_SCHEMA, concat, image_table, void_mask
from workbench.voxel51.browse import push
from workbench.voxel51.prelabel import prelabel
from workbench.voxel51.pull import Pulled, pull
from workbench.voxel51.pulled_files import Writer

NOTHING = {"kept": 0, "moved": 0, "relabelled": 0, "deleted": 0, "added": 0, "trimmed": 0}


def rows_of(definition: Path, task: Any) -> list[dict[str, Any]]:
    """The ground truth of a dataset, void left out."""
    table = concat([table for table, _ in open_dataset(catalog.read(definition)).ground_truth(task)])
    rows: list[dict[str, Any]] = table.filter(~void_mask(table)).to_pylist()
    return rows


def sample_of(fo: Any, image_id: str, name: str = "pets") -> Any:
    return fo.load_dataset(name).match({"image_id": image_id}).first()


def offer(pets: Pets) -> None:
    prelabel(pets.dataset, pets.run, labelled=True)


def edits_of(pulled: Pulled) -> list[tuple[Any, ...]]:
    changed = [row for row in pulled.edits.to_pylist() if row["edits"] != ["kept"]]
    return [(row["image_id"], row["edits"], row["label"], row["offered_label"]) for row in changed]


def test_panoptic_ground_truth_comes_back_bit_by_bit(pets, fo, tmp_path):
    push([pets.run])
    pulled = pull(pets.dataset, tmp_path / "again.toml", field="ground_truth")
    assert pulled.counts == {**NOTHING, "kept": 6}
    before, after = rows_of(pets.definition, "panoptic"), rows_of(tmp_path / "again.toml", "panoptic")
    assert [row.pop("declared_area") for row in before] == [None] * 6  # a panoptic JSON has to say, and now it does
    assert [row.pop("declared_area") for row in after] == [row["area"] for row in before]
    assert after == before


def test_instance_ground_truth_comes_back_bit_by_bit_with_what_it_declares(tmp_path, fo):
    pets = write_pets_instances(tmp_path)
    push([pets.run])
    pull(pets.dataset, tmp_path / "again.toml", field="ground_truth")
    before, after = rows_of(pets.definition, "instance"), rows_of(tmp_path / "again.toml", "instance")
    assert after == before
    assert {row["iscrowd"] for row in after} == {False, True}


@pytest.mark.parametrize("write", [write_pets, write_pets_instances, write_pets_semantic])
def test_untouched_pre_labels_come_back_as_the_run_has_them(write, tmp_path, fo):
    pets = write(tmp_path)
    offer(pets)
    pulled = pull(pets.dataset, tmp_path / "new.toml")
    predicted = pets.run.segments().to_pylist()
    assert pulled.counts == {**NOTHING, "kept": len(predicted)}
    after = rows_of(tmp_path / "new.toml", pets.run.task)
    key = ("image_id", "category_id", "counts")
    assert sorted(tuple(row[k] for k in key) for row in after) == sorted(
        tuple(row[k] for k in key) for row in predicted
    )
    assert all(row["score"] is None for row in after)


def test_every_kind_of_edit_is_told_and_nothing_else_changes(tmp_path, fo):
    pets = write_pets_instances(tmp_path)
    offer(pets)
    sample = sample_of(fo, "1", "pets_instances")
    cat, dog, _ = sample.label_edits.detections
    cat.label = "dog"
    dog.bounding_box = [dog.bounding_box[0] + 1 / SIZE[1], *dog.bounding_box[1:]]
    new = fo.Detection(label="cat", bounding_box=[0, 0.8, 2 / SIZE[1], 0.2], mask=np.ones((2, 2), dtype=bool))
    sample.label_edits.detections = [cat, dog, new]
    sample.save()
    pulled = pull(pets.dataset, tmp_path / "new.toml")
    assert pulled.counts == {**NOTHING, "moved": 1, "relabelled": 1, "deleted": 1, "added": 1}
    assert edits_of(pulled) == [
        ("1", ["relabelled"], "dog", "cat"),
        ("1", ["moved"], "dog", "dog"),
        ("1", ["added"], "cat", None),
        ("1", ["deleted"], None, "cat"),
    ]
    rows = rows_of(tmp_path / "new.toml", "instance")
    before = pets.run.segments().to_pylist()
    assert [row["category_id"] for row in rows] == [DOG, DOG, CAT]
    assert rows[0]["counts"] == before[0]["counts"]
    shifted = np.roll(rle.decode(before[1]["counts"], *SIZE), 1, axis=1)
    assert np.array_equal(rle.decode(rows[1]["counts"], *SIZE), shifted)
    assert (rows[2]["area"], rows[2]["bbox"]) == (4, [0.0, 8.0, 2.0, 2.0])
    moved = pulled.edits.to_pylist()[1]
    assert moved["iou"] == pytest.approx(15 / 25)  # 5 x 4 pixels moved by a column
    assert json.loads((tmp_path / "new" / "pull.json").read_text())["added"] == 1
    assert pq.read_table(tmp_path / "new" / "edits.parquet").equals(pulled.edits)


def test_corrections_change_the_score_by_exactly_what_they_should(pets, fo, tmp_path):
    """The run against its own corrected pre-labels: all is right but what was corrected."""
    offer(pets)
    first, second = sample_of(fo, "1"), sample_of(fo, "2")
    first.label_edits.detections[1].label = "dog"
    first.save()
    second.label_edits.detections = second.label_edits.detections[1:]
    second.save()
    pull(pets.dataset, tmp_path / "new.toml")
    metrics = evaluate(pets.run, str(tmp_path / "new.toml")).metrics["panoptic"]["per_category"]
    found = {
        category: tuple(metrics[str(category)][name] for name in ("tp", "fp", "fn")) for category in (CAT, DOG, SKY)
    }
    assert found == {CAT: (1, 1, 0), DOG: (0, 0, 1), SKY: (3, 0, 0)}  # the deleted dog left void: its fp is ignored
    assert metrics[str(SKY)]["pq"] == 1.0


def test_a_relabelled_instance_changes_ap_by_exactly_what_it_should(tmp_path, fo):
    """The run against its own corrected pre-labels: the dog is a cat now, which the run does not find."""
    pets = write_pets_instances(tmp_path)
    offer(pets)
    sample = sample_of(fo, "1", "pets_instances")
    sample.label_edits.detections[1].label = "cat"
    sample.save()
    pull(pets.dataset, tmp_path / "new.toml")
    segm = evaluate(pets.run, str(tmp_path / "new.toml")).metrics["instance"]["segm"]
    assert segm["AP"] == pytest.approx(67 / 101, abs=1e-12)  # 2 of 3 found: the recalls 0, 0.01, ... 0.66 of 101


def test_a_relabelled_class_of_a_semantic_map_changes_iou_by_exactly_what_it_should(tmp_path, fo):
    pets = write_pets_semantic(tmp_path)
    offer(pets)
    sample = sample_of(fo, "2", "pets_semantic")
    assert [detection.label for detection in sample.label_edits.detections] == ["dog", "sky"]
    sample.label_edits.detections[0].label = "cat"
    sample.save()
    pull(pets.dataset, tmp_path / "new.toml")
    classes = evaluate(pets.run, str(tmp_path / "new.toml")).metrics["semantic"]["per_category"]
    found = {category: classes[category]["iou"] for category in ("1", "2", "3")}
    assert found == {"1": 28 / 34, "2": 0.0, "3": 1.0}  # 28 pixels of cats that were right, 6 that are called dog


def test_a_mask_that_the_browser_resampled_is_fitted_to_its_box(tmp_path, fo):
    pets = write_pets_instances(tmp_path)
    offer(pets)
    sample = sample_of(fo, "1", "pets_instances")
    cat = sample.label_edits.detections[0]
    cat.mask = np.kron(np.pad(np.ones((2, 4)), ((0, 2), (0, 0))), np.ones((3, 3))).astype(np.uint8) * 255
    sample.save()
    pull(pets.dataset, tmp_path / "new.toml")
    mask = rle.decode(rows_of(tmp_path / "new.toml", "instance")[0]["counts"], *SIZE)
    assert mask[1:3, 1:5].all()
    assert mask.sum() == 8


def test_a_mask_saved_again_without_a_change_is_kept_to_the_byte(tmp_path, fo):
    pets = write_pets_instances(tmp_path)
    offer(pets)
    sample = sample_of(fo, "1", "pets_instances")
    for detection in sample.label_edits.detections:
        detection.mask = detection.mask.astype(np.uint8)
    sample.save()
    assert pull(pets.dataset, tmp_path / "new.toml").counts == {**NOTHING, "kept": 3}


def overlap_cat_and_sky(pets: Pets, fo: Any) -> None:
    offer(pets)
    sample = sample_of(fo, "1")
    cat = sample.label_edits.detections[0]
    cat.bounding_box = [cat.bounding_box[0] + 1 / SIZE[1], *cat.bounding_box[1:]]
    sample.save()


def test_overlapping_segments_of_a_panoptic_map_are_refused_with_the_way_out(pets, fo, tmp_path):
    overlap_cat_and_sky(pets, fo)
    with pytest.raises(FiftyOneError, match=r"image 1: 1 pairs of segments overlap: cat and sky.*\n.*--overlap edited"):
        pull(pets.dataset, tmp_path / "new.toml")
    assert not (tmp_path / "new.toml").exists()
    assert not (tmp_path / "new").exists()


def test_edited_segments_take_the_pixels_where_asked_to(pets, fo, tmp_path):
    overlap_cat_and_sky(pets, fo)
    pulled = pull(pets.dataset, tmp_path / "new.toml", overlap="edited")
    assert pulled.counts == {**NOTHING, "kept": 4, "moved": 1, "trimmed": 1}
    rows = {row["category_id"]: row for row in rows_of(tmp_path / "new.toml", "panoptic") if row["image_id"] == "1"}
    sky = {row["image_id"]: row for row in pets.run.segments().to_pylist() if row["category_id"] == SKY}
    assert rows[SKY]["area"] == sky["1"]["area"] - 4


def test_what_cannot_be_taken_home_is_listed_at_once(pets, fo, tmp_path):
    offer(pets)
    sample = sample_of(fo, "1")
    sample.label_edits.detections[0].label = "horse"
    sample.label_edits.detections.append(fo.Detection(label="cat", bounding_box=[0, 0, 0.2, 0.2]))
    empty = fo.Detection(label="cat", bounding_box=[0, 0, 0.5, 0.5], mask=np.zeros((5, 6), dtype=bool))
    sample.label_edits.detections.append(empty)
    sample.save()
    with pytest.raises(FiftyOneError) as raised:
        pull(pets.dataset, tmp_path / "new.toml")
    for told in ("3 problems", "'horse'", "unknown_class", "no_mask", "empty_mask"):
        assert told in str(raised.value)


def test_only_reviewed_samples_where_asked_to(pets, fo, tmp_path):
    offer(pets)
    sample = sample_of(fo, "2")
    sample.tags.append("reviewed")
    sample.save()
    assert pull(pets.dataset, tmp_path / "new.toml", reviewed=True).images == 1
    assert {row["image_id"] for row in rows_of(tmp_path / "new.toml", "panoptic")} == {"2"}


def test_corrected_ground_truth_is_pulled_too(pets, fo, tmp_path):
    push([pets.run])
    sample = sample_of(fo, "1")
    sample.ground_truth.detections[1].label = "cat"
    sample.save()
    pulled = pull(pets.dataset, tmp_path / "new.toml", field="ground_truth")
    assert edits_of(pulled) == [("1", ["relabelled"], "cat", "dog")]
    assert [row["category_id"] for row in rows_of(tmp_path / "new.toml", "panoptic")][:2] == [CAT, CAT]


def test_nothing_is_overwritten_silently(pets, fo, tmp_path):
    offer(pets)
    pull(pets.dataset, tmp_path / "new.toml")
    with pytest.raises(TransferError, match="exists already"):
        pull(pets.dataset, tmp_path / "new.toml")
    pull(pets.dataset, tmp_path / "new.toml", overwrite=True)
    with pytest.raises(TransferError, match="no pull wrote it"):
        pull(pets.dataset, tmp_path / "images.toml", overwrite=True)
    with pytest.raises(TransferError, match=r"\.toml"):
        pull(pets.dataset, tmp_path / "folder")


def test_fields_without_labels_to_pull_are_refused(pets, fo, tmp_path):
    push([pets.run])
    with pytest.raises(FiftyOneError, match="no pre-labels"):
        pull(pets.dataset, tmp_path / "new.toml")
    with pytest.raises(FiftyOneError, match="Did you mean 'ground_truth'"):
        pull(pets.dataset, tmp_path / "new.toml", field="ground_truht")


def test_links_to_images_never_lead_out_of_the_new_folder(tmp_path):
    dataset = MemoryDataset({"1": (2, 2)})
    columns = {"image_id": ["1"], "file_name": ["../../x.jpg"], "height": [2], "width": [2]}
    images = image_table({**columns, "ordinal": [0], "status": ["ok"]})
    writer = Writer(tmp_path / "pulled", dataset.definition, dataset.categories, "instance")
    (tmp_path / "pulled").mkdir()
    with pytest.raises(UnsafeNameError, match=r"'\.\./\.\./x\.jpg' leads out of"):
        writer([(SEGMENT_SCHEMA.empty_table(), images)], {"1": tmp_path / "real.jpg"})
    assert not (tmp_path / "x.jpg").is_symlink()
