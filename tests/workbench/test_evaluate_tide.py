"""Error types of instances must be tidecv's, and so must what each type costs."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings

from tests.reference.detections import CATEGORIES, IMAGES, instance_pairs, table_of
from tests.reference.scenes import box_of
from workbench import catalog, ground_truth, rle
from workbench.evaluation import tide, tide_ap
from workbench.evaluation.columns import segments_of
from workbench.evaluation.evaluation import evaluate
from workbench.formats import open_dataset
from workbench.imports.api import import_predictions
from workbench.parity.tide_oracle import TideInstance, import_tidecv, tidecv_scores
from workbench.store import SegmentStore

IDS = [str(image) for image in IMAGES]
CLOSE = 1e-12

try:
    import_tidecv()
except ImportError:
    pytest.skip("tidecv is not installed", allow_module_level=True)


def sides(gt, dets):
    return segments_of(table_of(gt), IDS), segments_of(table_of(dets), IDS)


def ours(gt, dets, geometry="segm", corrected=False):
    truth, found = sides(gt, dets)
    counts = tide.tally(truth, found, tide.match(truth, found, geometry, corrected))
    return tide_ap.dap(counts, np.arange(len(IDS)), corrected)


def official(gt, dets, geometry="segm"):
    sides = [
        [
            TideInstance(
                each.image_id,
                each.category_id,
                {"size": list(each.mask.shape), "counts": rle.encode(each.mask)},
                each.bbox or box_of(each.mask),
                each.score,
                each.iscrowd,
            )
            for each in side
        ]
        for side in (gt, dets)
    ]
    return tidecv_scores(*sides, IMAGES, CATEGORIES, geometry)


def check(gt, dets, geometry):
    try:
        expected = official(gt, dets, geometry)
    except ZeroDivisionError:
        return
    found = ours(gt, dets, geometry)
    assert found.ap == pytest.approx(expected["ap50"], abs=CLOSE)
    assert found.counts == {name: numbers["count"] for name, numbers in expected["types"].items()}
    for name, numbers in expected["types"].items():
        assert found.dap[name] == pytest.approx(numbers["dap"], abs=CLOSE), name
    assert found.false_positive == pytest.approx(expected["special"]["false_positive"], abs=CLOSE)
    assert found.false_negative == pytest.approx(expected["special"]["false_negative"], abs=CLOSE)


@settings(deadline=None, max_examples=150)
@given(pair=instance_pairs())
@pytest.mark.parametrize("geometry", ["segm", "bbox"])
def test_counts_and_dap_are_tidecvs(geometry, pair):
    check(*pair, geometry)


@pytest.mark.slow
@settings(deadline=None, max_examples=2000)
@given(pair=instance_pairs())
@pytest.mark.parametrize("geometry", ["segm", "bbox"])
def test_counts_and_dap_are_tidecvs_over_thousands_of_datasets(geometry, pair):
    check(*pair, geometry)


def rows_of(store: SegmentStore, image_ids: list[str], scored: bool) -> list[TideInstance]:
    """In the order of the file."""
    (table,) = store.chunks([image_ids])
    return [
        TideInstance(
            int(row["image_id"]),
            row["category_id"],
            {"size": [row["height"], row["width"]], "counts": row["counts"]},
            tuple(row["bbox"]),
            row["score"] if scored else None,
            row["iscrowd"],
        )
        for row in sorted(table.to_pylist(), key=lambda row: (row["image_id"], row["ordinal"]))
    ]


@pytest.mark.parametrize("geometry", ["segm", "bbox"])
def test_the_published_example_of_pycocotools_gives_what_tidecv_gives(geometry, shared_data, tmp_path):
    definition = str(Path(__file__).parent.parent / "definitions" / "coco_ap_reference.toml")
    source = shared_data / "coco_ap_reference" / "results" / f"instances_val2014_fake{geometry}100_results.json"
    run = import_predictions(source, definition, "coco-results", out=tmp_path / "run")
    found = evaluate(run).metrics["errors"]["instance"]["tide"][geometry]
    dataset = open_dataset(catalog.find(definition))
    store = ground_truth.load(dataset, "instance", lambda done, total: None)
    ids = store.images().sort_by("ordinal")["image_id"].to_pylist()
    expected = tidecv_scores(
        rows_of(store, ids, scored=False),
        rows_of(run.store, ids, scored=True),
        [int(image_id) for image_id in ids],
        [category.category_id for category in dataset.categories],
        geometry,
    )
    assert found["ap50"] == pytest.approx(expected["ap50"], abs=CLOSE)
    assert found["special"] == pytest.approx(expected["special"], abs=CLOSE)
    for name, numbers in expected["types"].items():
        assert found["types"][name] == pytest.approx(numbers, abs=CLOSE), name
    assert sum(numbers["count"] for numbers in found["types"].values()) > 180
