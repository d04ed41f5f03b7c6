"""The push into a real database: what objects carry, numbers, views, pushing again, taking a run out."""

import shutil
from typing import Any

import numpy as np
import pytest
from bson import ObjectId

from tests.reference.labelled_pets import (
    SIZE,
    TRUE_CLASSES,
    TRUE_MAPS,
    write_pets,
    write_pets_instances,
    write_pets_semantic,
)
from workbench.errors import FiftyOneError
from workbench.evaluation.evaluation import evaluate
from workbench.voxel51 import documents, masks, push
from workbench.voxel51.browse import push as push_runs
from workbench.voxel51.removing import remove_run

LABELS = {1: "cat", 7: "dog", 90: "sky"}


def stored(dataset: Any, fo: Any) -> dict[str, dict[str, Any]]:
    """The samples as the database holds them, by image id."""
    collection = fo.core.odm.get_db_conn()[dataset._sample_collection_name]
    return {sample["image_id"]: sample for sample in collection.find({})}


def objects(sample: dict[str, Any], field: str) -> list[tuple[Any, ...]]:
    return [(o["label"], o.get("pq_first"), o.get("pq_first_iou")) for o in sample[field]["detections"]]


def full_mask(detection: Any) -> np.ndarray:
    mask = np.zeros(SIZE, dtype=np.bool_)
    x, y, w, h = masks.pixel_box(detection.bounding_box, *SIZE)
    mask[y : y + h, x : x + w] = detection.mask
    return mask


def test_every_object_says_what_became_of_it(pets, fo):
    dataset = push_runs([pets.run]).dataset
    samples = stored(dataset, fo)
    assert objects(samples["1"], "ground_truth")[:2] == [("cat", "tp", 0.75), ("dog", "fn", None)]
    assert objects(samples["1"], "first")[:2] == [("cat", "tp", 0.75), ("cat", "fp", None)]
    assert [o[:2] for o in objects(samples["2"], "ground_truth")] == [("cat", "fn"), ("sky", "tp")]
    assert [o[:2] for o in objects(samples["2"], "first")] == [("dog", "fp"), ("sky", "tp")]
    cat = samples["1"]["first"]["detections"][0]
    assert (cat["confidence"], cat["area"], cat["is_thing"], cat["segment_id"]) == (0.95, 12, True, 1)
    assert cat["pq_first_id"] == str(samples["1"]["ground_truth"]["detections"][0]["_id"])
    assert (samples["1"]["pq_first_tp"], samples["1"]["pq_first_fp"], samples["1"]["pq_first_fn"]) == (2, 1, 1)
    assert samples["3"]["pq_first_quality"] == 1.0


def test_masks_are_the_segments_bit_by_bit_and_void_is_no_object(pets, fo):
    dataset = push_runs([pets.run]).dataset
    for sample in dataset:
        true_map = TRUE_MAPS[int(sample.image_id)]
        found = {detection.segment_id: detection for detection in sample.ground_truth.detections}
        values = [value for value in np.unique(true_map) if value]
        assert len(found) == len(values)
        for segment_id, value in enumerate(values, start=1):
            assert np.array_equal(full_mask(found[segment_id]), true_map == value)
            assert found[segment_id].label == LABELS[TRUE_CLASSES[value]]
        assert (sample.metadata.height, sample.metadata.width) == SIZE


def test_objects_are_stored_as_the_documented_way_stores_them(pets, fo):
    """The contract with FiftyOne's database form, which is not documented."""
    dataset = push_runs([pets.run]).dataset
    ours = stored(dataset, fo)
    theirs = fo.Dataset("documented")
    for sample in dataset:
        copied = fo.Sample(filepath=sample.filepath, image_id=sample.image_id, metadata=sample.metadata)
        for field in ("ground_truth", "first"):
            detections = []
            for d in sample[field].detections:
                attributes = {name: d[name] for name in d.field_names if name not in ("id", "attributes", "tags")}
                detections.append(fo.Detection(**attributes))
                detections[-1]._id = ObjectId(d.id)
            copied[field] = fo.Detections(detections=detections)
        theirs.add_samples([copied], dynamic=True)
    for image_id, sample in stored(theirs, fo).items():
        for field in ("ground_truth", "first"):
            assert ours[image_id][field]["_cls"] == sample[field]["_cls"]
            for mine, documented in zip(ours[image_id][field]["detections"], sample[field]["detections"], strict=True):
                assert np.array_equal(masks.unpack(mine.pop("mask")), masks.unpack(documented.pop("mask")))
                written = {name: value for name, value in documented.items() if value is not None}
                assert mine == written
                assert {type(v) for v in mine.values()} == {type(v) for v in written.values()}


def test_the_panel_gets_the_numbers_of_metrics_json(pets, fo):
    dataset = push_runs([pets.run]).dataset
    metrics = pets.run.metrics()
    results = dataset.load_evaluation_results("pq_first")
    shown = results.metrics()
    assert shown["panoptic_all_pq"] == metrics["panoptic"]["all"]["pq"]
    assert shown["panoptic_stuff_pq"] == metrics["panoptic"]["stuff"]["pq"]
    assert shown["semantic_miou"] == metrics["semantic"]["miou"]
    assert results.mAP() == pytest.approx(metrics["instance"]["segm"]["AP"], abs=1e-12)
    per_category = metrics["panoptic"]["per_category"]
    for category_id, label in LABELS.items():
        counts = per_category[str(category_id)]
        report = results.report()[label]
        assert report["support"] == counts["tp"] + counts["fn"]
        assert report["recall"] == pytest.approx(counts["tp"] / (counts["tp"] + counts["fn"]))


def test_confusion_pairs_a_miss_with_the_wrong_class_on_its_place(pets, fo):
    dataset = push_runs([pets.run]).dataset
    results = dataset.load_evaluation_results("confusion_first")
    matrix = results.confusion_matrix(classes=["cat", "dog", "sky", "(none)"])
    assert matrix.tolist() == [[1, 0, 0, 1], [1, 0, 0, 0], [0, 0, 3, 0], [0, 1, 0, 0]]
    pairs = dataset.load_saved_view("first: confused pairs")
    assert pairs.values("image_id") == ["1"]
    assert pairs.values("ground_truth.detections.pq_first_confused") == [["cat"]]
    assert pairs.values("first.detections.pq_first_confused") == [["dog"]]


def test_saved_views_show_what_they_say(pets, fo):
    browsed = push_runs([pets.run])
    dataset = browsed.dataset
    assert set(browsed.views) == set(dataset.list_saved_views())
    worst = dataset.load_saved_view("first: worst images")
    assert worst.values("image_id") == ["2", "1", "3"]  # 1 of 3 segments right, 2 of 4, all
    false = dataset.load_saved_view("first: false positives by score")
    assert false.values("image_id") == ["1", "2"]  # scores 0.75 and 0.5
    assert false.values("first.detections.pq_first") == [["fp"], ["fp"]]
    assert set(false.get_field_schema(embedded_doc_type=fo.Detections)) == {"first"}  # no ground truth beside them
    missed = dataset.load_saved_view("first: missed objects")
    assert {status for row in missed.values("ground_truth.detections.pq_first") for status in row} == {"fn"}


def test_views_of_error_types_show_the_objects_of_that_type(pets, fo):
    dataset = push_runs([pets.run]).dataset
    truth = stored(dataset, fo)["1"]["ground_truth"]["detections"]
    assert [o["pq_first_error"] for o in truth] == ["matched", "wrong_class", "matched"]
    for what in ("duplicates", "merged segments", "split segments", "poor outlines", "probable label errors"):
        assert len(dataset.load_saved_view(f"first: {what}")) == 0  # the run has none of these
    certain = pets.run.segments().to_pandas()
    assert certain.query("category_id == 1 and segment_id == 2").score.item() < 0.9  # the one wrong class


def test_evaluation_patches_work(pets, fo):
    dataset = push_runs([pets.run]).dataset
    patches = dataset.to_evaluation_patches("pq_first")
    counts = patches.count_values("type")
    assert counts == {"tp": 4, "fp": 2, "fn": 2}


def test_pushing_again_changes_nothing(pets, fo):
    first = stored(push_runs([pets.run]).dataset, fo)
    dataset = push_runs([pets.run]).dataset
    again = stored(dataset, fo)
    for sample in (*first.values(), *again.values()):
        del sample["last_modified_at"]
    assert again == first
    assert sorted(dataset.list_evaluations()) == ["confusion_first", "pq_first"]


def test_tags_and_corrections_survive_another_push(pets, fo):
    dataset = push_runs([pets.run]).dataset
    sample = dataset.match({"image_id": "1"}).first()
    sample.first.detections[0].tags.append("odd")
    sample.ground_truth.detections[1].label = "cat"
    sample.ground_truth.detections.append(fo.Detection(label="dog", bounding_box=[0, 0, 0.5, 0.5]))
    sample.tags.append("seen")
    sample.save()
    after = stored(push_runs([pets.run]).dataset, fo)["1"]
    assert after["tags"] == ["seen"]
    assert after["first"]["detections"][0]["tags"] == ["odd"]
    assert [o["label"] for o in after["ground_truth"]["detections"]] == ["cat", "cat", "sky", "dog"]
    assert after["ground_truth"]["detections"][0]["pq_first"] == "tp"


def test_objects_deleted_in_the_app_stay_deleted(pets, fo):
    dataset = push_runs([pets.run]).dataset
    sample = dataset.match({"image_id": "1"}).first()
    sample.ground_truth.detections = sample.ground_truth.detections[2:]  # the cat that was found, and the missed dog
    sample.save()
    again = push_runs([pets.run]).dataset
    assert [o["label"] for o in stored(again, fo)["1"]["ground_truth"]["detections"]] == ["sky"]
    matrix = again.load_evaluation_results("confusion_first").confusion_matrix(classes=["cat", "dog", "sky", "(none)"])
    assert matrix.tolist() == [[0, 0, 0, 1], [0, 0, 0, 0], [0, 0, 3, 0], [2, 1, 0, 0]]


def test_two_runs_share_the_ground_truth(pets, fo):
    other = pets.run.path.with_name("pets-second")
    shutil.copytree(pets.run.path, other)
    browsed = push_runs([pets.run, other])
    assert browsed.fields == ("ground_truth", "first", "second")
    cat = stored(browsed.dataset, fo)["1"]["ground_truth"]["detections"][0]
    assert cat["pq_first"] == cat["pq_second"] == "tp"
    assert cat["pq_first_id"] != cat["pq_second_id"]


def test_removing_a_run_removes_everything_of_it_and_nothing_else(pets, fo):
    other = pets.run.path.with_name("pets-second")
    third = pets.run.path.with_name("pets-second_2")  # its field begins as the removed one's does
    for copy in (other, third):
        shutil.copytree(pets.run.path, copy)
    push_runs([third])
    alone = push_runs([pets.run]).dataset
    schema, views = set(alone.get_field_schema(flat=True)), alone.list_saved_views()
    push_runs([other])
    dataset = remove_run("pets", "second").dataset
    dataset.reload()
    assert set(dataset.get_field_schema(flat=True)) == schema
    assert sorted(dataset.list_evaluations()) == [
        f"{k}_{r}" for k in ("confusion", "pq") for r in ("first", "second_2")
    ]
    assert dataset.list_saved_views() == views
    cat = stored(dataset, fo)["1"]["ground_truth"]["detections"][0]
    assert cat["pq_second_2"] == "tp"
    assert not [name for name in cat if name in ("pq_second", "pq_second_id", "pq_second_error", "confusion_second")]
    with pytest.raises(FiftyOneError, match="no run 'second'"):
        remove_run("pets", "second")


def test_chunks_do_not_matter(pets, fo, monkeypatch):
    together = stored(push_runs([pets.run]).dataset, fo)
    fo.delete_dataset("pets")
    monkeypatch.setattr(push, "IMAGES_PER_CHUNK", 1)
    apart = stored(push_runs([pets.run]).dataset, fo)
    for image_id, sample in together.items():
        assert sample["first"] == apart[image_id]["first"]
        assert sample["ground_truth"] == apart[image_id]["ground_truth"]


def test_changed_annotations_are_written_again(pets, fo):
    push_runs([pets.run])
    changed = pets.folder / "panoptic.json"
    changed.write_text(changed.read_text().replace('"id": 2, "category_id": 7', '"id": 2, "category_id": 1'))
    evaluate(pets.run)
    dataset = push_runs([pets.run]).dataset
    dog = stored(dataset, fo)["1"]["ground_truth"]["detections"][1]
    assert (dog["label"], dog["pq_first"]) == ("cat", "tp")


def test_a_run_that_is_not_evaluated_is_shown_without_matches(tmp_path, fo):
    pets = write_pets(tmp_path, evaluated=False)
    browsed = push_runs([pets.run])
    assert "not evaluated" in browsed.notes[0]
    assert browsed.dataset.list_evaluations() == []
    assert "pq_first" not in stored(browsed.dataset, fo)["1"]["first"]["detections"][0]


def test_semantic_maps_show_every_class_and_their_confusion(tmp_path, fo):
    pets = write_pets_semantic(tmp_path)
    dataset = push_runs([pets.run]).dataset
    sample = dataset.match({"image_id": "1"}).first()
    expected = np.select([TRUE_MAPS[1] == value for value in (1, 2, 3)], [1, 2, 3], 255)
    assert np.array_equal(sample.ground_truth.mask, expected)
    assert sample.ground_truth.mask.dtype == np.uint8
    assert dataset.mask_targets["ground_truth"] == {1: "cat", 2: "dog", 3: "sky", 255: "void"}
    metrics = pets.run.metrics()["semantic"]
    results = dataset.load_evaluation_results("miou_first")
    assert results.metrics()["semantic_miou"] == metrics["miou"]
    pixels = results.pixel_confusion_matrix
    for row, category_id in enumerate((1, 2, 3)):
        assert pixels[row, row] == metrics["per_category"][str(category_id)]["intersection"]
        assert pixels[row].sum() == metrics["per_category"][str(category_id)]["gt_pixels"]
    assert dataset.load_saved_view("first: worst images").values("miou_first_quality")[-1] == 1.0


def test_instances_overlap_and_crowds_are_marked(tmp_path, fo):
    pets = write_pets_instances(tmp_path)
    dataset = push_runs([pets.run]).dataset
    truth = stored(dataset, fo)["1"]["ground_truth"]["detections"]
    assert [(o["label"], o["iscrowd"], o["ap_first"]) for o in truth] == [
        ("dog", False, "tp"),
        ("cat", False, "tp"),
        ("cat", True, "crowd"),
    ]
    assert stored(dataset, fo)["2"]["ground_truth"]["detections"] == []
    ap = pets.run.metrics()["instance"]["segm"]["AP"]
    assert dataset.load_evaluation_results("ap_first").mAP() == pytest.approx(ap, abs=1e-12)


def test_ground_truth_alone_is_of_every_image(pets, fo):
    browsed = push_runs(dataset=pets.dataset)
    assert (browsed.images, browsed.fields) == (3, ("ground_truth",))
    assert browsed.dataset.count("ground_truth.detections") == 6


def test_colours_are_those_of_the_categories(pets, fo):
    scheme = push_runs([pets.run]).dataset.app_config.color_scheme
    assert [field["path"] for field in scheme.fields] == ["ground_truth", "first"]
    assert {"value": "cat", "color": "#c80000"} in scheme.fields[0]["valueColors"]


def test_what_the_workbench_did_not_make_is_not_written_to(pets, fo):
    fo.Dataset("pets")
    with pytest.raises(FiftyOneError, match="not made by the workbench"):
        push_runs([pets.run])


def test_another_dataset_under_the_same_name_is_refused(pets, fo, tmp_path):
    push_runs([pets.run])
    (tmp_path / "other").mkdir()
    other = write_pets(tmp_path / "other", name="dogs")
    with pytest.raises(FiftyOneError, match="holds 'pets', not 'dogs'"):
        push_runs([other.run], name="pets")
    with pytest.raises(FiftyOneError, match="different datasets"):
        push_runs([pets.run, other.run])


def test_ids_of_objects_name_run_image_and_segment():
    ids = {documents.object_id(*key) for key in (("a", "1", 1), ("a", "1", 2), ("a", "11", 2), ("b", "1", 1))}
    assert len(ids) == 4
    assert documents.object_id("a", "1", 1) in ids
