"""What evaluation says of the reasons: tables of errors, what is taken for what, calibration, slices."""

import io
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console

from tests.reference.detections import Instance, instance_pairs
from tests.reference.detections import table_of as instance_table
from tests.reference.scene_dataset import SceneDataset, make_run
from tests.reference.scenes import Listed, PanopticImage, panoptic_pairs
from workbench.cli import main
from workbench.cli.why_tables import error_tables, slice_tables
from workbench.errors import OptionError
from workbench.evaluation import confusion, tide
from workbench.evaluation.calibration import Reliability, calibration_json
from workbench.evaluation.columns import segments_of
from workbench.evaluation.evaluation import evaluate
from workbench.evaluation.headlines import headlines
from workbench.evaluation.tide import INSTANCE_TYPES


def mask(begin: int, end: int) -> np.ndarray:
    """Pixels of a row of 20."""
    row = np.zeros((1, 20), dtype=np.bool_)
    row[0, begin:end] = True
    return row


def instances(*rows: tuple[int, int, int], scores: tuple[float, ...] = (), crowds: tuple[int, ...] = ()):
    """(category, begin, end) -> annotations, or with `scores` detections."""
    return [
        Instance(9, category, mask(begin, end), number + 1, scores[number] if scores else None, number in crowds)
        for number, (category, begin, end) in enumerate(rows)
    ]


def typed(gt, dets):
    """Types of the detections and of the ground truth, in their order."""
    truth, found = segments_of(instance_table(gt), ["9"]), segments_of(instance_table(dets), ["9"])
    matched = tide.match(truth, found, "segm")
    codes, _ = matched.pred_codes(len(found))
    return [INSTANCE_TYPES[code] for code in codes], [INSTANCE_TYPES[code] for code in matched.gt_kind]


def test_the_types_of_tide_worked_by_hand():
    gt = instances((1, 0, 6), (1, 8, 12), (3, 14, 18), (7, 19, 20), crowds=(3,))
    dets = instances(
        (1, 0, 6),  # found
        (1, 0, 5),  # its duplicate
        (1, 9, 11),  # IoU of exactly a half with the second: found
        (1, 14, 18),  # the third, of another category
        (3, 17, 19),  # IoU 1/5 with the third
        (7, 4, 8),  # shares a quarter with the first, of another category
        (7, 12, 14),  # nothing is there
        (7, 19, 20),  # a crowd is there
        scores=(0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2),
    )
    found, truth = typed(gt, dets)
    assert found == ["matched", "dupe", "matched", "cls", "loc", "both", "bkg", "ignored"]
    assert truth == ["matched", "matched", "cls", "crowd"]


def test_ground_truth_that_nothing_would_find_is_a_miss():
    assert typed(instances((1, 0, 6)), instances((1, 10, 16), scores=(0.9,))) == (["bkg"], ["miss"])


def test_detections_beyond_the_best_hundred_of_an_image_are_ignored():
    dets = instances(*[(1, 0, 6)] * 101, scores=tuple(1 - i / 200 for i in range(101)))
    found, _ = typed(instances((1, 0, 6)), dets)
    assert (found.count("dupe"), found.count("ignored")) == (99, 1)


@settings(deadline=None, max_examples=40)
@given(pair=instance_pairs(), geometry=st.sampled_from(["segm", "bbox"]))
def test_without_numba_the_types_are_the_same(pair, geometry):
    ids = ["100", "9", "12"]
    truth, found = (segments_of(instance_table(side), ids) for side in pair)
    compiled = tide.match(truth, found, geometry)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tide, "compiled_kernels", lambda: None)
        plain = tide.match(truth, found, geometry)
    for name in ("kind", "about", "found", "gt_kind", "gt_about"):
        np.testing.assert_array_equal(getattr(compiled, name), getattr(plain, name))


def test_confusion_of_instances_goes_by_score_whatever_the_category():
    gt = instances((1, 0, 4), (3, 6, 10), (1, 12, 16), (1, 18, 20), crowds=(3,))
    dets = instances((3, 0, 4), (1, 0, 4), (3, 6, 9), (1, 18, 20), scores=(0.9, 0.8, 0.7, 0.6))
    truth, found = segments_of(instance_table(gt), ["9"]), segments_of(instance_table(dets), ["9"])
    ids = np.array([1, 3, 7], dtype=np.int32)
    counted = confusion.of_instances(truth, found, tide.match(truth, found, "segm"), ids)
    rows = confusion.whole_table({"instance": counted}, None).to_pylist()
    cells = {(row["gt_category_id"], row["pred_category_id"]): row["count"] for row in rows}
    assert cells == {(1, 3): 1, (3, 3): 1, (1, -1): 1, (-1, 1): 1}


def counted(score, right):
    """In two portions, as a long table is counted."""
    counts, half = Reliability(), len(score) // 2
    counts.add(score[:half], right[:half])
    counts.add(score[half:], right[half:])
    return counts


def test_calibration_worked_by_hand():
    """Scores 0.9 and 0.8 (of which the first is right) in two bins, 0.05 and 0.1 in one: 0.8 lies in (0.7, 0.8]."""
    score, right = np.array([0.9, 0.8, 0.05, 0.1]), np.array([True, False, False, True])
    found = calibration_json(counted(score, right))
    bins = {each["low"]: each for each in found["bins"] if each["n"]}
    assert {low: (each["n"], each["precision"]) for low, each in bins.items()} == {
        0.0: (2, 0.5),
        0.7: (1, 0.0),
        0.8: (1, 1.0),
    }
    assert bins[0.0]["score"] == pytest.approx(0.075)
    assert found["ece"] == pytest.approx((2 * 0.425 + 0.8 + 0.1) / 4)
    assert found["max_gap"] == pytest.approx(0.8)


def test_scores_that_mean_what_they_say_have_no_gap():
    score = np.repeat([0.25, 0.75], 4)
    assert calibration_json(counted(score, np.array([1, 0, 0, 0, 1, 1, 1, 0], dtype=bool)))["ece"] == 0


@pytest.mark.parametrize("score", [[], [1.5], [-0.1], [float("nan")]])
def test_what_is_no_probability_is_not_calibrated(score):
    assert calibration_json(counted(np.array(score, dtype=np.float64), np.ones(len(score), dtype=np.bool_))) is None


SMALL = np.array([[1, 1, 2, 2, 0, 7], [1, 1, 2, 2, 0, 7], [7, 7, 7, 7, 7, 7]])
LISTED = (Listed(1, 1), Listed(2, 2), Listed(7, 7))


def scenes() -> list[PanopticImage]:
    """Two images of 3 x 6 and one of 6 x 6; ids as COCO's."""
    tall = np.vstack([SMALL, SMALL])
    return [PanopticImage(name, ids, LISTED) for name, ids in (("4", SMALL), ("10", tall), ("20", SMALL))]


def worn() -> list[PanopticImage]:
    """In image 10 segment 1 is taken for category 2."""
    first, second, third = scenes()
    return [first, PanopticImage("10", second.label_map, (Listed(1, 2), Listed(2, 2), Listed(7, 7))), third]


def test_errors_and_confusion_are_kept(tmp_path):
    dataset = SceneDataset(scenes())
    metrics = evaluate(make_run(tmp_path / "run", dataset, worn()), dataset).metrics
    errors = metrics["errors"]["panoptic"]
    assert errors["prediction"]["wrong_class"] == errors["ground_truth"]["wrong_class"] == 1
    assert errors["per_category"]["1"]["ground_truth"] == {"matched": 2, "wrong_class": 1}
    rows = pq.read_table(tmp_path / "run" / "errors.parquet").to_pylist()
    counted = {(row["task"], row["category_id"], row["kind"], row["error_type"]): row["count"] for row in rows}
    assert counted["panoptic", 1, "ground_truth", "wrong_class"] == 1
    assert counted["panoptic", -1, "ground_truth", "void"] == 3
    confused = pq.read_table(tmp_path / "run" / "confusion.parquet").to_pylist()
    cells = {tuple(row.values())[:4]: row["count"] for row in confused}
    assert cells["panoptic", "segments", 1, 2] == 1
    assert cells["semantic", "pixels", 1, 2] == 8
    assert cells["instance", "segments", 1, 2] == 1
    assert metrics["calibration"]["panoptic"]["n"] == 9


@settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pair=panoptic_pairs(images=3))
def test_every_segment_has_one_type_and_the_counts_are_those_of_the_table(tmp_path_factory, pair):
    dataset = SceneDataset(pair[0])
    evaluation = evaluate(make_run(tmp_path_factory.mktemp("run") / "a", dataset, pair[1]), dataset)
    rows = evaluation.run.matches().to_pandas()
    assert rows["error_type"].notna().all()
    matched = rows[(rows["task"] == "panoptic") & (rows["error_type"] == "matched")]
    assert set(matched["status"]) <= {"tp"}
    for task in ("panoptic", "instance"):
        errors = evaluation.metrics["errors"][task]
        for kind in ("prediction", "ground_truth") if errors else ():
            of_kind = rows[(rows["task"] == task) & (rows["kind"] == kind)]
            assert sum(errors[kind].values()) == len(of_kind)


def test_a_slice_scores_as_if_its_images_were_all_there_is(tmp_path):
    dataset = SceneDataset(scenes())
    evaluation = evaluate(make_run(tmp_path / "run", dataset, worn()), dataset, by=["height"])
    parts = {part["slice"]: part for part in evaluation.metrics["slices"]["height"]}
    assert [(name, part["images"]) for name, part in parts.items()] == [("3", 2), ("6", 1)]
    for name, chosen in (("3", [0, 2]), ("6", [1])):
        alone = SceneDataset([scenes()[i] for i in chosen])
        run = make_run(tmp_path / name, alone, [worn()[i] for i in chosen])
        for key, value in headlines(evaluate(run, alone).metrics).items():
            assert parts[name][key] == (None if value is None else pytest.approx(value, abs=1e-12)), key


def test_slices_by_area_add_up_to_the_whole(tmp_path):
    dataset = SceneDataset(scenes())
    evaluation = evaluate(make_run(tmp_path / "run", dataset, worn()), dataset, by=["area"])
    small, medium, large = evaluation.metrics["slices"]["area"]
    assert small["pq"] == evaluation.metrics["panoptic"]["all"]["pq"] < 1
    assert small["AP"] == evaluation.metrics["instance"]["segm"]["APs"]
    assert (medium["pq"], large["pq"]) == (None, None)


def write_table(folder: Path, content: str) -> str:
    (folder / "weather.csv").write_text(content)
    return f"{folder / 'weather.csv'}:weather"


def test_slices_by_a_column_of_a_table(tmp_path):
    dataset = SceneDataset(scenes())
    by = write_table(tmp_path, "file_name,weather\n4.jpg,sun\n10.jpg,rain\n")
    metrics = evaluate(make_run(tmp_path / "run", dataset, worn()), dataset, by=[by]).metrics
    assert [(part["slice"], part["images"]) for part in metrics["slices"][by]] == [
        ("rain", 1),
        ("sun", 1),
        ("(none)", 1),
    ]
    assert metrics["slices"][by][1]["pq"] == metrics["slices"][by][2]["pq"] == 1
    rows = pq.read_table(tmp_path / "run" / "slices.parquet").to_pylist()
    assert {row["slice"] for row in rows if row["metric"] == "pq" and row["value"] == 1} == {"sun", "(none)"}


def test_many_different_numbers_are_cut_into_quarters(tmp_path):
    many = [PanopticImage(str(i), SMALL, LISTED) for i in range(12)]
    table = "image_id,weather\n" + "".join(f"{i},{i / 2}\n" for i in range(12))
    dataset = SceneDataset(many)
    by = write_table(tmp_path, table)
    parts = evaluate(make_run(tmp_path / "run", dataset, many), dataset, by=[by]).metrics["slices"][by]
    assert [(part["slice"], part["images"]) for part in parts] == [
        ("0 to 1", 3),
        ("1.5 to 2.5", 3),
        ("3 to 4", 3),
        ("4.5 to 5.5", 3),
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("image_id,wether\n4,sun\n", "no column 'weather'. Did you mean 'wether'"),
        ("id,weather\n4,sun\n", "no column image_id or file_name"),
        ("image_id,weather\n77,sun\n", "no image_id of it is among the images, such as 4"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(tmp_path, content, message):
    dataset = SceneDataset(scenes())
    with pytest.raises(OptionError, match=message):
        evaluate(make_run(tmp_path / "run", dataset, worn()), dataset, by=[write_table(tmp_path, content)])


def test_an_unknown_property_names_the_known_ones(tmp_path):
    dataset = SceneDataset(scenes())
    with pytest.raises(OptionError, match=r"heigth: not a property. Did you mean 'height'"):
        evaluate(make_run(tmp_path / "run", dataset, worn()), dataset, by=["heigth"])


def test_the_tables_show_what_each_type_costs(tmp_path):
    dataset = SceneDataset(scenes())
    metrics = evaluate(make_run(tmp_path / "run", dataset, worn()), dataset, by=["width"]).metrics
    tables = [*error_tables(metrics), *slice_tables(metrics)]
    assert [table.title for table in tables] == [
        "Types of error (panoptic)",
        "Types of error (instance)",
        "AP at IoU 0.5 that each type costs (segm)",
        "AP at IoU 0.5 that each type costs (bbox)",
        "Scores and precision (panoptic)",
        "Scores and precision (instance)",
        "By width",
    ]
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(tables[2])
    costs = metrics["errors"]["instance"]["tide"]["segm"]["types"]["cls"]
    assert costs["dap"] > 0
    assert f"{100 * costs['dap']:.2f}" in console.export_text()


def test_the_command_shows_types_of_error_and_slices(in_empty_folder, shared_data):
    from workbench.imports.api import import_predictions

    definition = Path(__file__).parent.parent / "definitions" / "coco_panoptic_sample.toml"
    source = shared_data / "coco_panoptic_sample" / "predictions" / "panoptic_perturbed.json"
    run = import_predictions(source, str(definition), "coco-panoptic").path
    done = CliRunner().invoke(main, ["evaluate", str(run), "--errors", "--by", "area", "--corrected"])
    assert done.exit_code == 0, done.output
    for expected in ("Types of error (panoptic)", "wrong_class", "By area", "medium"):
        assert expected in done.stdout
    assert json.loads((run / "metrics.json").read_text())["mode"] == "corrected"
