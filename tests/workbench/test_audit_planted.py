"""The promise of `audit`: of planted label errors on average at least 80 % are within the first 10 % of the ranking.

On average over seeds, all kinds together. No kind has a promise of its own: a label that was left out, for one, is
found only where the model sees the object. The figures by kind are in the report of `workbench bench audit`.
"""

import json
from pathlib import Path

import numpy as np
import pytest

from workbench import rle
from workbench.auditing.kinds import KINDS
from workbench.bench.audit import Outcome, audit_copies, write_report
from workbench.bench.planting import plant
from workbench.catalog import built_in_folder, read
from workbench.errors import OptionError
from workbench.formats import open_dataset
from workbench.prediction.api import predict
from workbench.runs import Run

SAMPLE = built_in_folder() / "scenes_val.toml"
RATE, PROMISED = 0.05, 0.8
# Seeds 1 to 6 served while the weights of the kinds were chosen; these did not.
SEEDS = (1001, 1002, 1003)
MORE_SEEDS = tuple(range(1004, 1024))


@pytest.fixture(scope="module")
def sample_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return predict(SAMPLE, out=tmp_path_factory.mktemp("runs") / "sample", progress=False)


def test_four_fifths_of_planted_errors_are_within_the_first_tenth(sample_run, tmp_path):
    outcomes = audit_copies(sample_run, SAMPLE, tmp_path / "copies", RATE, SEEDS)
    assert {(outcome.planted(), outcome.first) for outcome in outcomes} == {(20, 40)}
    assert np.mean([outcome.share for outcome in outcomes]) >= PROMISED, by_seed(outcomes)
    write_report(outcomes, RATE, "workbench bench audit", tmp_path / "report")
    text, content = (next((tmp_path / "report").glob(f"*-audit.{end}")).read_text() for end in ("md", "json"))
    assert f"| 1001 | 400 | {outcomes[0].found()} of 20 |" in text
    assert [each["found"]["spurious"] for each in json.loads(content)["outcomes"]] == [
        outcome.found("spurious") for outcome in outcomes
    ]


@pytest.mark.slow
def test_so_they_are_for_many_seeds(sample_run, tmp_path):
    outcomes = audit_copies(sample_run, SAMPLE, tmp_path, RATE, MORE_SEEDS)
    assert np.mean([outcome.share for outcome in outcomes]) >= PROMISED, by_seed(outcomes)


def by_seed(outcomes: list[Outcome]) -> dict[int, dict[str, int]]:
    return {outcome.seed: {kind: outcome.found(kind) for kind in KINDS} for outcome in outcomes}


def test_the_copy_differs_from_its_source_in_the_planted_labels_alone(tmp_path):
    worn = plant(SAMPLE, tmp_path / "worn", RATE, seed=1001)
    assert sorted(each.kind for each in worn.planted) == sorted(KINDS * 5)
    before, after = (
        {(row["image_id"], row["source_id"]): row for row in rows if row["segment_id"]}
        for rows in (_labels(SAMPLE), _labels(worn.definition))
    )
    touched = {(each.image_id, each.source_id): each for each in worn.planted if each.source_id is not None}
    isthing = {category.category_id: category.isthing for category in open_dataset(read(SAMPLE)).categories}
    for key in before.keys() & after.keys():
        same = before[key]["category_id"] == after[key]["category_id"]
        assert same == (key not in touched or touched[key].kind != "wrong_class")
        if isthing[before[key]["category_id"]]:  # stuff gains and loses what things leave and take
            kept = before[key]["counts"] == after[key]["counts"]
            assert kept == (key not in touched or touched[key].kind != "outline")
    made_up = {key for key, each in touched.items() if each.kind == "spurious"}
    assert after.keys() - before.keys() == made_up
    gone = before.keys() - after.keys()
    assert len([key for key in gone if isthing[before[key]["category_id"]]]) == 5


def test_what_was_left_out_and_what_was_moved_is_told_as_it_was(tmp_path):
    worn = plant(SAMPLE, tmp_path / "worn", RATE, seed=1002)
    before = {(row["image_id"], row["counts"]) for row in _labels(SAMPLE)}
    after = {(row["image_id"], row["source_id"]): row for row in _labels(worn.definition)}
    for each in worn.planted:
        if each.kind != "spurious":
            assert (each.image_id, each.counts.encode()) in before
        if each.kind == "outline":
            row = after[each.image_id, each.source_id]
            masks = [rle.decode(counts, *each.size_hw) for counts in (row["counts"], each.counts.encode())]
            assert (masks[0] & masks[1]).sum() <= 0.7 * (masks[0] | masks[1]).sum()
    assert len(json.loads((tmp_path / "worn" / "planted.json").read_text())) == 20


def test_a_seed_names_its_copy_and_a_rate_without_room_is_refused(tmp_path):
    copies = [plant(SAMPLE, tmp_path / name, RATE, seed) for name, seed in (("a", 7), ("b", 7), ("c", 8))]
    assert copies[0].planted == copies[1].planted != copies[2].planted
    with pytest.raises(OptionError, match="Lower the rate"):
        plant(SAMPLE, tmp_path / "d", 0.9, 7)


@pytest.mark.parametrize("rate", [-0.05, 0.0, 1.5, float("nan")])
def test_a_rate_that_is_no_share_is_refused(tmp_path, rate):
    with pytest.raises(OptionError, match=r"above 0 and at most 1"):
        plant(SAMPLE, tmp_path / "copy", rate, 7)
    assert not (tmp_path / "copy").exists()


def _labels(definition: Path) -> list[dict[str, object]]:
    return [row for table, _ in open_dataset(read(definition)).ground_truth("panoptic") for row in table.to_pylist()]
