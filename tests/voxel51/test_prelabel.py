"""Pre-labels: which images and objects, in which order, and set up for editing."""

from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from tests.reference.few_scenes import unlabelled_scenes
from tests.reference.labelled_pets import PREDICTED, Pets, write_pets_instances, write_pets_semantic, write_run
from workbench import rle
from workbench.cli import main
from workbench.errors import EvaluationError, FiftyOneError, OptionError
from workbench.voxel51 import ordering
from workbench.voxel51.prelabel import VIEW, prelabel


def offered(fo: Any, name: str = "pets") -> dict[str, list[tuple[str, list[str]]]]:
    dataset = fo.load_dataset(name)
    return {
        sample.image_id: [(d.label, d.tags) for d in sample.label_edits.detections]
        for sample in dataset
        if sample.label_edits is not None
    }


def test_objects_are_tagged_by_their_band_of_confidence(pets, fo):
    done = prelabel(pets.dataset, pets.run, labelled=True)
    assert (done.images, done.objects) == (3, 6)
    assert offered(fo)["1"] == [
        ("cat", ["confidence:high"]),
        ("cat", ["confidence:medium"]),
        ("sky", ["confidence:high"]),
    ]
    assert offered(fo)["2"][0] == ("dog", ["confidence:low"])


def test_images_with_ground_truth_are_left_out_unless_asked_for(tmp_path, fo):
    pets = write_pets_instances(tmp_path)  # its second image has no object
    done = prelabel(pets.dataset, pets.run)
    assert (done.images, done.labelled) == (1, 1)
    assert "--labelled" in done.notes[0]


def test_nothing_to_pre_label_is_an_error_that_says_why(pets, fo):
    with pytest.raises(FiftyOneError, match=r"all 3 images .* have ground truth.*--labelled"):
        prelabel(pets.dataset, pets.run)
    assert fo.list_datasets() == []


def test_low_scores_are_left_out(pets, fo):
    assert prelabel(pets.dataset, pets.run, min_score=0.75, labelled=True).objects == 5
    assert [label for label, _ in offered(fo)["2"]] == ["sky"]


def test_pre_labels_that_are_there_are_kept(pets, fo):
    prelabel(pets.dataset, pets.run, labelled=True)
    sample = fo.load_dataset("pets").match({"image_id": "1"}).first()
    sample.label_edits.detections[0].label = "dog"
    sample.save()
    again = prelabel(pets.dataset, pets.run, labelled=True)
    assert (again.images, again.kept) == (0, 3)
    assert offered(fo)["1"][0][0] == "dog"
    prelabel(pets.dataset, pets.run, labelled=True, replace=True)
    assert offered(fo)["1"][0][0] == "cat"


def test_uncertainty_adds_up_what_scores_leave_open(pets):
    worth = ordering.worth(pets.run, ["1", "2", "3"], 0.0, "uncertainty")
    for image, objects in PREDICTED.items():
        assert worth[str(image)] == pytest.approx(sum(1 - score for _, score in objects.values()))


def test_rarity_counts_a_class_by_how_seldom_it_is(pets):
    # 2 cats and a sky; a dog and a sky; a sky.
    expected = {"1": 1 / 2 + 1 / 2 + 1 / 3, "2": 1 + 1 / 3, "3": 1 / 3}
    assert ordering.worth(pets.run, ["1", "2", "3"], 0.0, "rarity") == pytest.approx(expected)


def test_disagreement_counts_objects_without_partner_in_the_other_run(pets):
    rows = pets.run.segments().to_pylist()
    changed = [{**row, "category_id": 7} if (row["image_id"], row["segment_id"]) == ("1", 2) else row for row in rows]
    fewer = [row for row in changed if (row["image_id"], row["segment_id"]) != ("2", 2)]
    second = write_run(pets.folder / "runs" / "second", pets.dataset, "panoptic", fewer)
    assert ordering.worth(pets.run, ["1", "2", "3"], 0.0, "disagreement", second) == {"1": 2.0, "2": 1.0, "3": 0.0}
    assert ordering.worth(pets.run, ["1", "2", "3"], 0.0, "disagreement", pets.run) == dict.fromkeys("123", 0.0)


def test_disagreement_of_runs_on_images_of_other_sizes_is_refused(pets):
    mask = np.ones((300, 400), np.bool_)
    place = {"height": 300, "width": 400, "counts": rle.encode(mask), "area": mask.size}
    first = [row for row in pets.run.segments().to_pylist() if row["segment_id"] == 1]
    second = write_run(pets.folder / "runs" / "larger", pets.dataset, "panoptic", [{**row, **place} for row in first])
    with pytest.raises(EvaluationError, match=r"10 x 12 .* and 300 x 400"):
        ordering.worth(pets.run, ["1"], 0.0, "disagreement", second)


def test_disagreement_needs_a_second_run(pets):
    with pytest.raises(OptionError, match="--second-run"):
        ordering.worth(pets.run, ["1"], 0.0, "disagreement")


def test_a_least_score_that_is_no_number_is_refused(pets):
    with pytest.raises(OptionError, match="min_score nan"):
        prelabel(pets.dataset, pets.run, min_score=float("nan"), labelled=True)


def test_the_saved_view_has_the_images_by_worth(pets, fo):
    prelabel(pets.dataset, pets.run, labelled=True)
    view = fo.load_dataset("pets").load_saved_view(VIEW)
    assert view.values(["image_id", "prelabel_rank"]) == (["2", "1", "3"], [1, 2, 3])


def test_the_field_is_set_up_for_editing(pets, fo):
    prelabel(pets.dataset, pets.run, labelled=True)
    dataset = fo.load_dataset("pets")
    assert dataset.active_label_schemas == ["label_edits"]
    schema = dataset.label_schemas["label_edits"]
    assert schema["classes"] == ["cat", "dog", "sky"]
    assert {attribute["name"] for attribute in schema["attributes"]} >= {"iscrowd", "tags"}
    for_back_ends = dataset.info["workbench"]["annotate"]["cvat"]["label_edits"]
    assert (for_back_ends["type"], for_back_ends["classes"]) == ("instances", ["cat", "dog", "sky"])


def test_a_semantic_run_gives_an_object_a_class(tmp_path, fo):
    pets: Pets = write_pets_semantic(tmp_path)
    prelabel(pets.dataset, pets.run, labelled=True)
    found = offered(fo, "pets_semantic")
    assert [label for label, _ in found["1"]] == ["cat", "sky"]


def test_the_command_predicts_where_there_is_no_run(tmp_path, fo, monkeypatch):
    monkeypatch.chdir(tmp_path)
    definition = unlabelled_scenes(tmp_path / "scenes", 2)
    arguments = ["prelabel", "--dataset", str(definition), "--model", "eomt_scenes_panoptic", "--json"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    dataset = fo.load_dataset("few_scenes")
    assert len(dataset) == 2
    assert dataset.count("label_edits.detections") > 0
