"""The evaluation benchmark: agreements hold on small data, the report is complete, drawn data is like COCO's."""

import json
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

import numpy as np
import pytest
from click.testing import CliRunner

from tests.reference.outlines import boundary_pq_counts
from tests.reference.scenes import Listed, PanopticImage
from workbench import evaluation
from workbench.bench import boundary_quality, panoptic_quality
from workbench.bench.evaluate import PARTS, Plan, _about
from workbench.bench.measuring import Disagreement
from workbench.bench.panoptic_scenes import CATEGORIES, SIZE_HW, LabelledMap, PanopticScenes, draw
from workbench.bench.without_numba import no_compiled_code
from workbench.cli import main
from workbench.cli.bench import EVALUATE_PARTS


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> PanopticScenes:
    return PanopticScenes(tmp_path_factory.mktemp("bench"), 3)


def test_a_seed_draws_the_same_scenes_again() -> None:
    first, second, other = draw(5), draw(5), draw(6)
    assert np.array_equal(first[0].label_map, second[0].label_map)
    assert first[1].infos() == second[1].infos()
    assert not np.array_equal(first[0].label_map, other[0].label_map)


def test_scenes_are_like_those_of_coco(scenes: PanopticScenes) -> None:
    run = scenes.make_run()
    table = run.segments()
    characters = np.array([len(counts) for counts in table["counts"].to_pylist()])
    assert 9 < len(table) / 3 < 16
    assert 500 < characters.mean() < 1200
    assert (table["height"][0].as_py(), table["width"][0].as_py()) == SIZE_HW


def test_images_may_be_shown_under_many_ids(scenes: PanopticScenes) -> None:
    many = scenes.repeated(7)
    rows, images = next(many.ground_truth("panoptic"))
    assert images["image_id"].to_pylist() == [str(number) for number in range(7)]
    first, fourth = (rows.filter(np.array(rows["image_id"].to_pylist()) == name) for name in ("0", "3"))
    assert first["counts"].to_pylist() == fourth["counts"].to_pylist()


def test_as_many_images_as_are_drawn_share_one_run(tmp_path: Path) -> None:
    scenes = PanopticScenes(tmp_path, 2, seed=3)
    runs = scenes.make_run(), scenes.repeated(2).make_run()
    assert runs[0].segments().equals(runs[1].segments())
    assert len(runs[1].images()) == 2


def test_the_command_measures_every_part_and_writes_a_report(tmp_path: Path) -> None:
    options = ["--images", "3", "--distinct", "2", "--rounds", "1", "--out", str(tmp_path)]
    done = CliRunner().invoke(main, ["bench", "evaluate", *options], prog_name="workbench")
    assert done.exit_code == 0, done.output
    (data,) = tmp_path.glob("*-evaluate.json")
    content = json.loads(data.read_text())
    assert content["command"] == "workbench bench evaluate --images 3 --distinct 2 --rounds 1"
    titles = [section["title"].split()[0] for section in content["sections"]]
    assert titles == ["Panoptic", "A", "Mean", "Boundary", "Average", "Confidence"]
    compared = [result for section in content["sections"] for result in section["results"] if result["peer"]]
    assert compared and all(result["agreement"] and result["times_as_fast"] > 0 for result in compared)


@pytest.mark.parametrize(
    ("parts", "told"), [(["ap"], {"80 c"}), (["pq", "miou"], {"133 c"}), (PARTS, {"80 c", "133 c"})]
)
def test_the_report_says_what_its_parts_were_measured_on(parts: list[str], told: set[str]) -> None:
    about = _about(Plan(list(parts), images=9, distinct=3, rounds=1, seed=4))
    assert {text for text in ("80 c", "133 c") if f"{text}ategories" in about} == told
    assert about.startswith("Drawn from seed 4, 3 images:")


def test_the_command_offers_every_part() -> None:
    assert set(EVALUATE_PARTS) == set(PARTS)


def test_scoring_finds_no_compiled_code_where_that_is_measured() -> None:
    modules = [import_module(f"workbench.evaluation.{found.name}") for found in iter_modules(evaluation.__path__)]
    loaders = [(each, name) for each in modules for name in ("compiled_kernels", "_kernels") if hasattr(each, name)]
    with no_compiled_code():
        assert [(each, name) for each, name in loaders if getattr(each, name)() is not None] == []
    assert len(loaders) > 4


def test_other_numbers_than_the_tools_stop_the_benchmark(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(panoptic_quality, "_panopticapi", lambda *official: {"pq": 0.5})
    arguments = ["bench", "evaluate", "--part", "pq", "--images", "1", "--distinct", "1", "--rounds", "1"]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 1
    assert "results['pq'] differ" in done.stderr
    assert done.stdout == ""


def test_confusions_that_differ_by_a_pixel_are_a_disagreement() -> None:
    numbers = {"pq": 0.5, "confusion": np.eye(2)}
    panoptic_quality.agree(numbers, {"pq": 0.5})
    with pytest.raises(Disagreement):
        panoptic_quality.agree(numbers, {"pq": 0.5, "confusion": np.zeros((2, 2))})


def test_the_boundary_peer_follows_the_official_rules() -> None:
    """Against the loops over pixels that the tests of boundary PQ rest on."""
    pytest.importorskip("cv2", reason="OpenCV is not installed")
    rng = np.random.default_rng(3)
    truth = np.kron(rng.integers(0, 5, size=(3, 4)), np.ones((20, 20), np.int64))
    guess = np.roll(truth, 1, axis=1)
    categories = {1: 3, 2: 3, 3: 90, 4: 91}
    sides = [LabelledMap(truth, categories, frozenset({2})), LabelledMap(guess, categories)]
    present = [[info for info in side.infos() if info["area"]] for side in sides]
    stat = {category.category_id: [0, 0, 0, 0.0] for category in CATEGORIES}
    maps = [side.label_map.astype(np.uint32) for side in sides]
    boundary_quality._score_image(maps[0], {"segments_info": present[0]}, maps[1], {"segments_info": present[1]}, stat)
    images = [
        PanopticImage("0", side.label_map, tuple(Listed(i["id"], i["category_id"], bool(i["iscrowd"])) for i in infos))
        for side, infos in zip(sides, present, strict=True)
    ]
    expected = boundary_pq_counts([images[0]], [images[1]], [3, 90, 91])
    assert {key: stat[key] for key in expected} == expected
    assert sum(counts[0] for counts in expected.values())
