"""Import and evaluate together must give the official tools' numbers on real data, to 1e-9."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from workbench.evaluation.evaluation import Evaluation, evaluate
from workbench.imports.api import import_predictions
from workbench.transfer_formats import TransferFormat

DEFINITIONS = Path(__file__).parent.parent / "definitions"
EXACT = 1e-9
STATS = {
    "AP": "AP",
    "AP50": "AP50",
    "AP75": "AP75",
    "AP_small": "APs",
    "AP_medium": "APm",
    "AP_large": "APl",
    "AR_max1": "AR1",
    "AR_max10": "AR10",
    "AR_max100": "AR100",
    "AR_small": "ARs",
    "AR_medium": "ARm",
    "AR_large": "ARl",
}


class Scorer:
    """Imports predictions of the shared data and evaluates them, each in a run folder of its own."""

    def __init__(self, data: Path, folder: Path) -> None:
        self.data, self.folder = data, folder

    def __call__(self, dataset: str, predictions: str, format: TransferFormat) -> Evaluation:
        source = self.data / predictions
        run = import_predictions(source, str(DEFINITIONS / f"{dataset}.toml"), format, out=self.folder / source.stem)
        return evaluate(run)


@pytest.fixture
def score(shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scorer:
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "cache"))
    return Scorer(shared_data, tmp_path)


def expected(data: Path, name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((data / name).read_text())
    return loaded


def or_none(value: float) -> Any:
    """pycocotools' -1 is our None."""
    return None if value == -1 else pytest.approx(value, abs=EXACT)


@pytest.mark.parametrize(
    ("dataset", "predictions", "golden"),
    [
        (
            "coco_panoptic_sample",
            "coco_panoptic_sample/predictions/panoptic_perturbed.json",
            "coco_panoptic_sample/expected_pq.json",
        ),
        (
            "coco_stuff_sample_train",
            "coco_stuff_sample/predictions/panoptic_train2017_perturbed.json",
            "coco_stuff_sample/expected_pq_train.json",
        ),
        (
            "coco_stuff_sample_val",
            "coco_stuff_sample/predictions/panoptic_val2017_perturbed.json",
            "coco_stuff_sample/expected_pq_val.json",
        ),
    ],
)
def test_pq_is_that_of_panopticapi(score, shared_data, dataset, predictions, golden):
    official = expected(shared_data, golden)["result"]
    evaluation = score(dataset, predictions, "coco-panoptic")
    ours = evaluation.metrics["panoptic"]
    for name in ("All", "Things", "Stuff"):
        assert ours[name.lower()] == pytest.approx(official[name], abs=EXACT)
    occurring = {key: row for key, row in ours["per_category"].items() if row["pq"] is not None}
    assert occurring.keys() == official["per_class"].keys()
    for category, row in official["per_class"].items():
        assert {key: occurring[category][key] for key in row if key in occurring[category]} == pytest.approx(
            row, abs=EXACT
        )
    assert statuses_by_image(evaluation) == {
        image: (totals["tp"], totals["fp"], totals["fn"]) for image, totals in official["per_image_totals"].items()
    }


def statuses_by_image(evaluation: Evaluation) -> dict[str, tuple[int, int, int]]:
    """Image -> (TP, FP, FN) counted from the match table."""
    rows = evaluation.run.matches().to_pandas().query("task == 'panoptic'")
    count = Counter(zip(rows["image_id"], rows["kind"], rows["status"], strict=True))
    for image in rows["image_id"].unique():
        assert count[image, "prediction", "tp"] == count[image, "ground_truth", "tp"]
    kinds = (("prediction", "tp"), ("prediction", "fp"), ("ground_truth", "fn"))
    return {image: tuple(count[image, *kind] for kind in kinds) for image in rows["image_id"].unique()}


@pytest.mark.parametrize("geometry", ["segm", "bbox"])
@pytest.mark.parametrize(
    ("dataset", "predictions", "golden"),
    [
        (
            "coco_ap_reference",
            "coco_ap_reference/results/instances_val2014_fake{}100_results.json",
            "coco_ap_reference/expected_ap.json",
        ),
        (
            "coco_panoptic_sample",
            "coco_panoptic_sample/predictions/instances_perturbed_{}_results.json",
            "coco_panoptic_sample/expected_ap.json",
        ),
        (
            "coco_tiny_instances_val",
            "coco_tiny_instances/predictions/val2017_perturbed_{}_results.json",
            "coco_tiny_instances/expected_ap_val2017_perturbed.json",
        ),
        (
            "fruits_nuts_val",
            "fruits_nuts/predictions/val_perturbed_{}_results.json",
            "fruits_nuts/expected_ap_val_perturbed.json",
        ),
    ],
)
def test_ap_is_that_of_pycocotools(score, shared_data, dataset, predictions, golden, geometry):
    official = expected(shared_data, golden)["result"][geometry]
    ours = score(dataset, predictions.format(geometry), "coco-results").metrics["instance"]
    assert geometry == "segm" or ours["segm"] is None  # boxes alone must not be scored as masks
    for theirs, name in STATS.items():
        assert ours[geometry][name] == or_none(official["stats"][theirs])
    per_category = ours[geometry]["per_category"]
    assert {key for key, row in per_category.items() if row["AP"] is not None} == official["per_category_AP"].keys()
    for category, row in official["per_category_AP"].items():
        assert per_category[category]["AP"] == or_none(row["AP"])
        assert per_category[category]["AP50"] == or_none(row["AP50"])


@pytest.mark.parametrize(
    ("dataset", "predictions", "golden", "part"),
    [
        (
            "camvid_val",
            "camvid/predictions_perturbed/validation",
            "camvid/expected_miou_val_perturbed.json",
            "result",
        ),
        (
            "ade20k_sample",
            "ade20k_sample/predictions_perturbed",
            "ade20k_sample/expected_miou.json",
            "perturbed",
        ),
        (
            "ade20k_sample",
            "ade20k_sample/predictions_source",
            "ade20k_sample/expected_miou.json",
            "predictions_source",
        ),
    ],
)
def test_miou_is_that_of_sceneparsing(score, shared_data, dataset, predictions, golden, part):
    official = expected(shared_data, golden)[part]
    ours = score(dataset, predictions, "index-png").metrics["semantic"]
    names = {
        "miou": "mean_iou_over_classes_in_gt_or_pred",
        "miou_all_classes": "mean_iou_over_all_classes",
        "miou_in_gt": "mean_iou_over_classes_in_gt",
        "n": "num_classes_in_gt_or_pred",
        "n_all_classes": "num_classes",
        "n_in_gt": "num_classes_in_gt",
        "aacc": "pixel_accuracy",
        "macc": "mean_class_accuracy_over_classes_in_gt",
    }
    assert {key: ours[key] for key in names} == pytest.approx(
        {key: official[theirs] for key, theirs in names.items()}, abs=EXACT
    )
    for category, row in official["per_class"].items():
        mine = {key: ours["per_category"][category][key] for key in ("iou", "intersection", "union", "gt_pixels")}
        assert mine == pytest.approx({key: row[key] for key in mine}, abs=EXACT)
