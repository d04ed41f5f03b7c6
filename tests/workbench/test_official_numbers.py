"""Import, evaluate: the numbers that the official tools give for real data, to 1e-9. Export: files that score the same.

The expected values beside the data were made by panopticapi, pycocotools and sceneparsing; each file says how.
"""

import contextlib
import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from click.testing import CliRunner
from panopticapi.evaluation import pq_compute_single_core
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from workbench import catalog
from workbench.cli import main
from workbench.exports.coco_panoptic import write_coco_panoptic
from workbench.formats import open_dataset

DEFINITIONS = Path(__file__).parent.parent / "definitions"
TOLERANCE = 1e-9


class Case(NamedTuple):
    """Predictions in `shared/data`, and where their official numbers stand."""

    dataset: str
    source: str
    format: str
    expected: str
    key: str
    """Path of keys in the expected file."""

    def __str__(self) -> str:
        return f"{self.dataset}:{Path(self.source).stem}:{self.key}"


def results_cases(dataset: str, folder: str, source: str, expected: str) -> Iterator[Case]:
    for kind in ("bbox", "segm"):
        yield Case(dataset, f"{folder}/{source.format(kind)}", "coco-results", f"{folder}/{expected}", f"result/{kind}")


CASES = [
    Case(
        "coco_panoptic_sample",
        "coco_panoptic_sample/predictions/panoptic_perturbed.json",
        "coco-panoptic",
        "coco_panoptic_sample/expected_pq.json",
        "result",
    ),
    Case(
        "coco_panoptic_sample",
        "coco_panoptic_sample/annotations/panoptic_val2017.json",
        "coco-panoptic",
        "coco_panoptic_sample/expected_pq.json",
        "identity_result/result",
    ),
    *(
        Case(
            f"coco_stuff_sample_{split}",
            f"coco_stuff_sample/predictions/panoptic_{split}2017_perturbed.json",
            "coco-panoptic",
            f"coco_stuff_sample/expected_pq_{split}.json",
            "result",
        )
        for split in ("train", "val")
    ),
    *results_cases(
        "coco_panoptic_sample",
        "coco_panoptic_sample",
        "predictions/instances_perturbed_{}_results.json",
        "expected_ap.json",
    ),
    *results_cases(
        "coco_tiny_instances_val",
        "coco_tiny_instances",
        "predictions/val2017_perturbed_{}_results.json",
        "expected_ap_val2017_perturbed.json",
    ),
    *results_cases(
        "coco_ap_reference", "coco_ap_reference", "results/instances_val2014_fake{}100_results.json", "expected_ap.json"
    ),
    *results_cases(
        "fruits_nuts_val", "fruits_nuts", "predictions/val_perturbed_{}_results.json", "expected_ap_val_perturbed.json"
    ),
    Case(
        "camvid_val",
        "camvid/predictions_perturbed/validation",
        "index-png",
        "camvid/expected_miou_val_perturbed.json",
        "result",
    ),
    *(
        Case("ade20k_sample", f"ade20k_sample/{folder}", "index-png", "ade20k_sample/expected_miou.json", key)
        for folder, key in (("predictions_perturbed", "perturbed"), ("predictions_source", "predictions_source"))
    ),
]


def invoke(*arguments: object) -> str:
    outcome = CliRunner().invoke(main, [str(argument) for argument in arguments], catch_exceptions=False)
    assert outcome.exit_code == 0, outcome.output
    return outcome.stdout


def import_case(case: Case, shared_data: Path, run: Path) -> Path:
    definition = DEFINITIONS / f"{case.dataset}.toml"
    source = shared_data / case.source
    printed = invoke("import", source, "--dataset", definition, "--format", case.format, "--out", run)
    assert printed.splitlines()[-1] == str(run)
    return run


def expected_values(case: Case, shared_data: Path) -> dict[str, Any]:
    value = json.loads((shared_data / case.expected).read_text())
    for key in case.key.split("/"):
        value = value[key]
    return dict(value)


def check(found: float | None, official: float, what: str) -> None:
    """-1 is how pycocotools says that a value does not exist."""
    if official == -1:
        assert found is None, what
    else:
        assert found is not None and abs(found - official) <= TOLERANCE, f"{what}: {found} is not {official}"


@pytest.mark.parametrize("case", CASES, ids=str)
def test_evaluate_gives_the_official_numbers(case: Case, shared_data: Path, tmp_path: Path) -> None:
    run = import_case(case, shared_data, tmp_path / "run")
    metrics = json.loads(invoke("evaluate", run, "--json"))
    compare = {"coco-panoptic": check_panoptic, "coco-results": check_instances, "index-png": check_semantic}
    compare[case.format](metrics, expected_values(case, shared_data), case)


def check_panoptic(metrics: dict[str, Any], official: dict[str, Any], case: Case) -> None:
    for part in ("All", "Things", "Stuff"):
        for name, value in official[part].items():
            check(metrics["panoptic"][part.lower()][name], value, f"{part} {name}")
    for category_id, values in official.get("per_class", {}).items():
        for name in ("tp", "fp", "fn", "iou_sum", "pq", "sq", "rq"):
            check(metrics["panoptic"]["per_category"][category_id][name], values[name], f"class {category_id} {name}")


INSTANCE_NAMES = {
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


def check_instances(metrics: dict[str, Any], official: dict[str, Any], case: Case) -> None:
    geometry = case.key.split("/")[-1]
    scored = metrics["instance"][geometry]
    for name, ours in INSTANCE_NAMES.items():
        check(scored[ours], official["stats"][name], ours)
    for category_id, values in official["per_category_AP"].items():
        for name in ("AP", "AP50"):
            check(scored["per_category"][category_id][name], values[name], f"class {category_id} {name}")
    if geometry == "bbox":
        assert metrics["instance"]["segm"] is None  # a file of boxes has no masks to score


def check_semantic(metrics: dict[str, Any], official: dict[str, Any], case: Case) -> None:
    names = {
        "miou": "mean_iou_over_classes_in_gt_or_pred",
        "miou_all_classes": "mean_iou_over_all_classes",
        "miou_in_gt": "mean_iou_over_classes_in_gt",
        "aacc": "pixel_accuracy",
        "macc": "mean_class_accuracy_over_classes_in_gt",
    }
    for ours, theirs in names.items():
        check(metrics["semantic"][ours], official[theirs], ours)
    for category_id, values in official["per_class"].items():
        for name in ("iou", "intersection", "union", "gt_pixels"):
            check(metrics["semantic"]["per_category"][category_id][name], values[name], f"class {category_id} {name}")


# The exported files score exactly as the originals


@pytest.mark.parametrize("case", [case for case in CASES if case.format == "coco-results"], ids=str)
def test_pycocotools_scores_an_export_as_the_original(case: Case, shared_data: Path, tmp_path: Path) -> None:
    run = import_case(case, shared_data, tmp_path / "run")
    invoke("export", run, "--format", case.format, "--out", tmp_path / "out.json")
    truth = shared_data / case.expected
    truth = truth.parent / json.loads(truth.read_text())["ground_truth"]
    geometry = case.key.split("/")[-1]
    original = pycocotools_stats(truth, shared_data / case.source, geometry)
    np.testing.assert_array_equal(pycocotools_stats(truth, tmp_path / "out.json", geometry), original)


def pycocotools_stats(truth: Path, found: Path, geometry: str) -> np.ndarray:
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(truth))
        coco.dataset.setdefault("info", {})
        scored = COCOeval(coco, coco.loadRes(str(found)), geometry)
        scored.evaluate()
        scored.accumulate()
        scored.summarize()
    return np.asarray(scored.stats)


@pytest.mark.parametrize("case", [case for case in CASES if case.format == "coco-panoptic"], ids=str)
def test_panopticapi_scores_an_export_as_the_original(case: Case, shared_data: Path, tmp_path: Path) -> None:
    run = import_case(case, shared_data, tmp_path / "run")
    invoke("export", run, "--format", case.format, "--out", tmp_path / "out.json")
    truth = shared_data / case.expected
    truth = truth.parent / json.loads(truth.read_text())["ground_truth"]
    original = panopticapi_counts(truth, shared_data / case.source)
    assert panopticapi_counts(truth, tmp_path / "out.json") == original


def panopticapi_counts(truth: Path, found: Path) -> dict[int, tuple[float, int, int, int]]:
    """Category id -> sum of IoU, TP, FP, FN."""
    annotations = json.loads(truth.read_text())
    categories = {category["id"]: category for category in annotations["categories"]}
    predicted = {entry["image_id"]: entry for entry in json.loads(found.read_text())["annotations"]}
    pairs = [(entry, predicted[entry["image_id"]]) for entry in annotations["annotations"]]
    folders = [os.fspath(path.with_suffix("")) for path in (truth, found)]
    with contextlib.redirect_stdout(io.StringIO()):
        counted = pq_compute_single_core(0, pairs, *folders, categories)
    return {label: (entry.iou, entry.tp, entry.fp, entry.fn) for label, entry in counted.pq_per_cat.items()}


def test_ground_truth_is_written_as_it_was_read(shared_data: Path, tmp_path: Path) -> None:
    dataset = open_dataset(catalog.find(str(DEFINITIONS / "coco_panoptic_sample.toml")))
    write_coco_panoptic(dataset.ground_truth("panoptic"), dataset.categories, tmp_path / "out.json", tmp_path)
    original = shared_data / "coco_panoptic_sample/annotations/panoptic_val2017.json"
    entries = [json.loads(path.read_text())["annotations"] for path in (original, tmp_path / "out.json")]
    for before, after in zip(*entries, strict=True):
        assert [{key: info[key] for key in old} for old, info in _infos(before, after)] == before["segments_info"]
        with (
            Image.open(original.with_suffix("") / before["file_name"]) as png,
            Image.open(tmp_path / after["file_name"]) as written,
        ):
            np.testing.assert_array_equal(np.asarray(written), np.asarray(png))


def _infos(before: dict[str, Any], after: dict[str, Any]) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    return zip(before["segments_info"], after["segments_info"], strict=True)


@pytest.mark.parametrize("case", [case for case in CASES if case.format == "index-png"], ids=str)
def test_exported_label_maps_are_the_originals(case: Case, shared_data: Path, tmp_path: Path) -> None:
    run = import_case(case, shared_data, tmp_path / "run")
    invoke("export", run, "--format", case.format, "--out", tmp_path / "out")
    originals = sorted((shared_data / case.source).glob("*.png"))
    assert [path.name for path in originals] == sorted(path.name for path in (tmp_path / "out").iterdir())
    for path in originals:
        with Image.open(path) as original, Image.open(tmp_path / "out" / path.name) as exported:
            np.testing.assert_array_equal(np.asarray(exported), np.asarray(original), err_msg=path.name)
