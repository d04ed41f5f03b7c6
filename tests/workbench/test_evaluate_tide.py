"""Error types of instances must be tidecv's, and so must what each type costs."""


import numpy as np
import pytest
from hypothesis import given, settings

from tests.reference.detections import CATEGORIES, IMAGES, instance_pairs, table_of
from tests.reference.scenes import box_of
from workbench import rle
from workbench.evaluation import tide, tide_ap
from workbench.evaluation.columns import segments_of
from workbench.parity.tide_oracle import TideInstance, import_tidecv, tidecv_scores

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
@settings(deadline=None, max_examples=3000)
@given(pair=instance_pairs())
@pytest.mark.parametrize("geometry", ["segm", "bbox"])
def test_counts_and_dap_are_tidecvs_over_thousands_of_datasets(geometry, pair):
    check(*pair, geometry)
