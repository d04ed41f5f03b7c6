"""The generated scenes: their ground truth agrees with itself in every form, and the committed images are theirs."""

import contextlib
import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray
from panopticapi.evaluation import pq_compute_single_core
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from workbench.catalog import built_in_folder, read
from workbench.cli import main
from workbench.errors import OptionError
from workbench.formats import open_dataset
from workbench.sample import layout, writing
from workbench.sample.classes import BY_ID, CLASSES
from workbench.sample.scenes import Scene, generate
from workbench.sample.writing import make_dataset, segment_colors, semantic_map, write_dataset

BUNDLED = built_in_folder() / "scenes"
BUNDLED_SEED, BUNDLED_COUNT = 0, 60
WRITTEN_SEED, WRITTEN_COUNT = 11, 16


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [generate(WRITTEN_SEED, index) for index in range(WRITTEN_COUNT)]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes")
    write_dataset(folder, WRITTEN_COUNT, WRITTEN_SEED)
    return folder


def test_a_seed_and_number_name_one_scene_and_others_another() -> None:
    first, again = generate(5, 3), generate(5, 3)
    assert np.array_equal(first.image, again.image)
    assert np.array_equal(first.ids, again.ids)
    assert first.segments == again.segments
    for other in (generate(5, 4), generate(6, 3), generate(3, 5)):
        assert other.image.shape != first.image.shape or not np.array_equal(other.image, first.image)


def test_colors_and_light_do_not_move_the_ground_truth() -> None:
    maps = []
    for paint_seed in (1, 2):
        geometry, paint = np.random.default_rng(8), np.random.default_rng(paint_seed)
        scene = layout.backdrop(geometry, 144, 192)
        maps.append(layout.paint_groups(layout.actors(geometry, paint, scene), scene.stuff.shape))
    assert maps[0].max() > 1
    assert np.array_equal(maps[0], maps[1])


def test_segments_are_numbered_from_one_and_each_is_seen(scenes: list[Scene]) -> None:
    for scene in scenes:
        assert scene.image.shape == (*scene.ids.shape, 3)
        assert [segment.id for segment in scene.segments] == list(range(1, len(scene.segments) + 1))
        assert set(np.unique(scene.ids).tolist()) - {0} == {segment.id for segment in scene.segments}
        assert all(segment.isthing == BY_ID[segment.category_id].isthing for segment in scene.segments)


def test_a_stuff_class_is_one_segment_of_a_scene(scenes: list[Scene]) -> None:
    for scene in scenes:
        stuff = [segment.category_id for segment in scene.segments if not segment.isthing]
        assert len(stuff) == len(set(stuff))


def test_things_show_enough_of_themselves_to_be_found(scenes: list[Scene]) -> None:
    areas = [
        int((scene.ids == segment.id).sum())
        for scene in scenes
        for segment in scene.segments
        if segment.isthing and not segment.iscrowd
    ]
    assert min(areas) >= 48


def test_scenes_have_every_class_crowds_void_and_several_shapes() -> None:
    many = [generate(WRITTEN_SEED, index) for index in range(60)]
    segments = [segment for scene in many for segment in scene.segments]
    assert {segment.category_id for segment in segments} == set(BY_ID)
    assert 1 <= sum(segment.iscrowd for segment in segments) <= 15
    assert 0 < np.mean([(scene.ids == 0).mean() for scene in many]) < 0.03
    assert len({scene.ids.shape for scene in many}) >= 4


def test_void_pixels_lie_on_region_borders_and_signposts_only(scenes: list[Scene]) -> None:
    assert any((scene.ids == 0).any() for scene in scenes)
    assert any((scene.ids > 0).all() for scene in scenes)
    assert max((scene.ids == 0).mean() for scene in scenes) < 0.1


def test_panoptic_ground_truth_against_itself_scores_one(written: Path) -> None:
    truth = _json(written / "annotations/panoptic_val.json")
    categories = {category["id"]: category for category in truth["categories"]}
    pairs = [
        (annotation, {**annotation, "segments_info": [dict(info) for info in annotation["segments_info"]]})
        for annotation in truth["annotations"]
    ]
    png_folder = str(written / "annotations/panoptic_val")
    with contextlib.redirect_stdout(io.StringIO()):
        statistics = pq_compute_single_core(0, pairs, png_folder, png_folder, categories)
    average, _ = statistics.pq_average(categories, isthing=None)
    assert average["pq"] == pytest.approx(1, abs=1e-12)


def test_instances_ground_truth_against_itself_scores_one(written: Path) -> None:
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(written / "annotations/instances_val.json"))
        results = [
            {**{key: annotation[key] for key in ("image_id", "category_id", "segmentation")}, "score": 0.9}
            for annotation in truth.dataset["annotations"]
            if not annotation["iscrowd"]
        ]
        evaluation = COCOeval(truth, truth.loadRes(results), "segm")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    assert evaluation.stats[0] == pytest.approx(1, abs=1e-12)


# pycocotools 2.0.11 decodes through an __array__ that NumPy 2 warns about.
@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning")
def test_the_forms_of_the_ground_truth_agree_pixel_by_pixel(written: Path, scenes: list[Scene]) -> None:
    panoptic = _json(written / "annotations/panoptic_val.json")
    instances = _json(written / "annotations/instances_val.json")
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(written / "annotations/instances_val.json"))
    for scene, annotation in zip(scenes, panoptic["annotations"], strict=True):
        ids = _png_ids(written / "annotations/panoptic_val" / annotation["file_name"])
        infos = annotation["segments_info"]
        masks = [ids == info["id"] for info in infos]
        for segment, mask, info in zip(scene.segments, masks, infos, strict=True):
            assert np.array_equal(mask, scene.ids == segment.id)
            assert (int(mask.sum()), segment.category_id) == (info["area"], info["category_id"])
            assert info["bbox"] == _bbox(mask)
        assert np.array_equal(ids == 0, scene.ids == 0)
        things = [m for m, info in zip(masks, infos, strict=True) if BY_ID[info["category_id"]].isthing]
        own = [a for a in instances["annotations"] if a["image_id"] == annotation["image_id"]]
        assert len(things) == len(own)
        for mask, instance in zip(things, own, strict=True):
            assert np.array_equal(coco.annToMask(instance) > 0, mask)


def test_semantic_maps_hold_the_class_tables_labels_and_zero_for_void(written: Path, scenes: list[Scene]) -> None:
    with (written / "classes.csv").open(encoding="utf-8", newline="") as file:
        labels = {int(row["category_id"]): int(row["label"]) for row in csv.DictReader(file)}
    assert sorted(labels.values()) == list(range(1, len(CLASSES) + 1))
    for number, scene in enumerate(scenes, start=1):
        label_map = np.asarray(Image.open(written / f"annotations/semantic_val/{number:06d}.png"))
        for segment in scene.segments:
            assert (label_map[scene.ids == segment.id] == labels[segment.category_id]).all()
        assert (label_map[scene.ids == 0] == 0).all()


def test_category_ids_have_gaps_so_that_nobody_takes_them_for_indices() -> None:
    ids = [scene_class.category_id for scene_class in CLASSES]
    assert ids == sorted(ids)
    assert max(ids) > len(ids)


def test_segments_of_one_class_get_colors_of_their_own(scenes: list[Scene]) -> None:
    for scene in scenes:
        colors = segment_colors(scene.segments)
        assert len({*colors.values(), (0, 0, 0)}) == len(scene.segments) + 1


@pytest.mark.parametrize("number", [1, 17, 38, 60])
def test_the_bundled_label_maps_are_those_that_the_generator_makes(number: int, tmp_path: Path) -> None:
    scene = generate(BUNDLED_SEED, number - 1)
    stored = _json(BUNDLED / "annotations/panoptic_val.json")["annotations"][number - 1]
    ids = _png_ids(BUNDLED / "annotations/panoptic_val" / stored["file_name"])
    assert stored["image_id"] == number
    for segment, info in zip(scene.segments, stored["segments_info"], strict=True):
        assert np.array_equal(ids == info["id"], scene.ids == segment.id)
        assert (info["category_id"], info["iscrowd"]) == (segment.category_id, int(segment.iscrowd))
    semantic = np.asarray(Image.open(BUNDLED / f"annotations/semantic_val/{number:06d}.png"))
    assert np.array_equal(semantic, semantic_map(scene))


def test_a_bundled_image_is_the_generators_but_for_its_compression() -> None:
    stored = np.asarray(Image.open(BUNDLED / "images/000001.jpg"), np.float32)
    assert np.abs(stored - generate(BUNDLED_SEED, 0).image).mean() < 4


def test_the_bundled_set_is_complete_and_has_crowds() -> None:
    truth = _json(BUNDLED / "annotations/panoptic_val.json")
    stems = [Path(image["file_name"]).stem for image in truth["images"]]
    assert len(stems) == BUNDLED_COUNT
    assert stems == sorted(path.stem for path in (BUNDLED / "images").iterdir())
    assert stems == sorted(path.stem for path in (BUNDLED / "annotations/semantic_val").iterdir())
    assert any(info["iscrowd"] for annotation in truth["annotations"] for info in annotation["segments_info"])


def test_both_definitions_of_the_bundled_set_give_the_same_pixels_to_the_same_classes() -> None:
    tables = []
    for name in ("scenes_val", "scenes_semantic_val"):
        dataset = open_dataset(read(built_in_folder() / f"{name}.toml"))
        rows = pa.concat_tables(segments for segments, _ in dataset.ground_truth("semantic"))
        image_ids = [int(image_id) for image_id in rows["image_id"].to_pylist()]
        tables.append(sorted(zip(image_ids, rows["category_id"].to_pylist(), rows["area"].to_pylist(), strict=True)))
    assert tables[0] == tables[1]
    assert len({image_id for image_id, _, _ in tables[0]}) == BUNDLED_COUNT


def test_sample_make_writes_the_same_files_as_the_library(tmp_path: Path, written: Path) -> None:
    arguments = ["make", "--out", str(tmp_path), "--count", "2", "--seed", str(WRITTEN_SEED)]
    result = CliRunner().invoke(main, ["sample", *arguments])
    assert result.exit_code == 0, result.output
    assert result.output.split() == [str(tmp_path / "scenes_val.toml"), str(tmp_path / "scenes_semantic_val.toml")]
    for name in ("annotations/panoptic_val/000002.png", "annotations/semantic_val/000001.png", "images/000002.jpg"):
        assert (tmp_path / name).read_bytes() == (written / name).read_bytes()


def test_sample_make_prints_the_same_as_json(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["sample", "make", "--out", str(tmp_path / "new"), "--count", "1", "--json"])
    definitions = [str(tmp_path / "new" / name) for name in ("scenes_val.toml", "scenes_semantic_val.toml")]
    assert json.loads(result.output) == {"path": str(tmp_path / "new"), "images": 1, "definitions": definitions}
    assert all(Path(path).is_file() for path in definitions)


def test_sample_make_never_mixes_its_files_with_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "000001.jpg").write_text("mine")
    result = CliRunner().invoke(main, ["sample", "make", "--out", str(tmp_path), "--count", "1"])
    assert result.exit_code == 2
    assert "is not empty (it holds 'images')" in result.stderr
    assert [path.name for path in tmp_path.rglob("*")] == ["images", "000001.jpg"]


def test_scenes_appear_all_or_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "write_classes", _fail)
    with pytest.raises(OSError, match="disk full"):
        make_dataset(tmp_path / "new", 1, WRITTEN_SEED)
    assert list(tmp_path.iterdir()) == []


def _fail(path: Path) -> None:
    raise OSError("disk full")


def test_scenes_do_not_take_the_place_of_the_current_folder(in_empty_folder: Path) -> None:
    with pytest.raises(OptionError, match="is the current folder"):
        make_dataset(Path(), 1, WRITTEN_SEED)


def _json(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def _png_ids(path: Path) -> NDArray[np.int64]:
    rgb = np.asarray(Image.open(path), np.int64)
    return rgb[..., 0] + 256 * rgb[..., 1] + 65536 * rgb[..., 2]


def _bbox(mask: NDArray[np.bool_]) -> list[int]:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return [int(v) for v in (columns[0], rows[0], columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1)]
