"""What is exported comes back equal, and reads in pycocotools and panopticapi."""

import contextlib
import io
import json
import re
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from PIL import Image
from pycocotools.coco import COCO

from tests.reference.memory_dataset import MemoryDataset
from workbench import rle
from workbench.errors import TransferError
from workbench.exports import staging
from workbench.exports.coco_panoptic import write_coco_panoptic
from workbench.exports.coco_results import write_coco_results
from workbench.exports.index_png import write_index_png
from workbench.exports.tables import by_image
from workbench.formats.label_values import LabelValues
from workbench.imports.base import PredictionSource
from workbench.imports.coco_panoptic import CocoPanoptic
from workbench.imports.coco_results import CocoResults
from workbench.imports.index_png import IndexPng
from workbench.segments import image_table, segment_table

SIZES = {"1": (5, 7), "22": (6, 4), "scene_a": (1, 1)}
DATASET = MemoryDataset(SIZES, categories=(1, 2, 7, 300))
CATEGORY_IDS = [category.category_id for category in DATASET.categories]
LABELS = LabelValues.of(DATASET.definition, DATASET.categories)
IMAGES = image_table(
    {
        "image_id": list(SIZES),
        "file_name": [record.file_name for record in DATASET.images()],
        "height": [height for height, _ in SIZES.values()],
        "width": [width for _, width in SIZES.values()],
        "ordinal": range(len(SIZES)),
        "status": ["ok"] * len(SIZES),
    }
)


def segments_of(source: PredictionSource) -> pa.Table:
    return source.segments(DATASET.images())[0]


def table(masks: list[NDArray[np.bool_]], **columns: Any) -> pa.Table:
    """Segments of image 1, of shape (5, 7) each."""
    count = len(masks)
    return segment_table(
        {
            "image_id": ["1"] * count,
            "segment_id": range(1, count + 1),
            "ordinal": range(count),
            "category_id": [1, 2, 7, 300][:count],
            "isthing": [False] * count,
            "iscrowd": [False] * count,
            "score": [0.5] * count,
            "area": [int(mask.sum()) for mask in masks],
            "bbox": np.zeros((count, 4)),
            "height": [5] * count,
            "width": [7] * count,
            "counts": [rle.encode(mask) for mask in masks],
            **columns,
        }
    )


def pixels_of(path: Path) -> NDArray[Any]:
    with Image.open(path) as image:
        return np.asarray(image)


def columns_from(first: int, last: int) -> NDArray[np.bool_]:
    mask = np.zeros((5, 7), dtype=np.bool_)
    mask[:, first:last] = True
    return mask


# Exact round trips


@st.composite
def results(draw: st.DrawFn) -> list[dict[str, Any]]:
    """A results file: image after image, masks of every kind (parts, holes, none, all), with or without boxes."""
    has_mask, has_bbox = draw(st.sampled_from([(True, False), (False, True), (True, True)]))
    number = st.floats(-3, 9, allow_subnormal=False)
    records = []
    for image_id, size in ((1, SIZES["1"]), (22, SIZES["22"]), ("scene_a", SIZES["scene_a"])):
        for _ in range(draw(st.integers(0, 3))):
            record: dict[str, Any] = {"image_id": image_id, "category_id": draw(st.sampled_from(CATEGORY_IDS))}
            if has_mask:
                mask = draw(arrays.arrays(np.bool_, size))
                record["segmentation"] = {"size": list(size), "counts": rle.encode(mask).decode()}
            if has_bbox:
                record["bbox"] = [draw(number), draw(number), abs(draw(number)), abs(draw(number))]
            records.append({**record, "score": draw(st.floats(-1e6, 1e6))})
    return records


@given(records=results())
@settings(max_examples=60, deadline=None)
def test_coco_results_come_back_equal_as_table_and_as_file(records: list[dict[str, Any]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        original, exported = Path(folder) / "original.json", Path(folder) / "exported.json"
        original.write_text(json.dumps(records))
        source = CocoResults(original, DATASET)
        segments = segments_of(source)
        write_coco_results([(segments, IMAGES)], exported, masks="segm" in source.manifest()["iou_types"])
        assert json.loads(exported.read_text()) == records
        assert segments_of(CocoResults(exported, DATASET)).equals(segments)


@st.composite
def label_maps(draw: st.DrawFn, values: list[int]) -> dict[str, NDArray[np.int64]]:
    """Image id -> a map of some of those values."""
    return {
        image_id: np.array(draw(arrays.arrays(np.int64, size, elements=st.sampled_from(values))))
        for image_id, size in SIZES.items()
        if draw(st.booleans()) or image_id == "1"
    }


def write_panoptic(folder: Path, maps: dict[str, NDArray[np.int64]], data: st.DataObject) -> tuple[Path, Any]:
    """A panoptic JSON with its PNGs; segments in drawn order, with drawn classes and scores."""
    annotations = []
    for image_id, ids in maps.items():
        infos = []
        for segment_id in data.draw(st.permutations(sorted(set(ids.ravel().tolist()) - {0}))):
            info = {"id": segment_id, "category_id": data.draw(st.sampled_from(CATEGORY_IDS))}
            infos.append({**info, "score": data.draw(st.floats(0, 1))} if data.draw(st.booleans()) else info)
        name = f"{image_id}.png"
        json_id = int(image_id) if image_id.isdigit() else image_id
        annotations.append({"image_id": json_id, "file_name": name, "segments_info": infos})
        pixels = np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=-1).astype(np.uint8)
        (folder / "original").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(folder / "original" / name)
    path = folder / "original.json"
    path.write_text(json.dumps({"annotations": annotations}))
    return path, annotations


@given(maps=label_maps([0, 1, 5, 300, 70000, 256**3 - 1]), data=st.data())
@settings(max_examples=60, deadline=None)
def test_panoptic_segments_come_back_equal_as_table_as_json_and_as_pixels(
    maps: dict[str, NDArray[np.int64]], data: st.DataObject
) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        original, annotations = write_panoptic(folder, maps, data)
        segments = segments_of(CocoPanoptic(original, DATASET))
        (folder / "exported").mkdir()
        exported = folder / "exported.json"
        write_coco_panoptic([(segments, IMAGES)], DATASET.categories, exported, folder / "exported")
        assert segments_of(CocoPanoptic(exported, DATASET)).equals(segments)
        written = {a["image_id"]: a for a in json.loads(exported.read_text())["annotations"]}
        for annotation in annotations:
            same = written[annotation["image_id"]]
            assert [info.items() <= other.items() for info, other in _pairs(annotation, same)].count(False) == 0
            before = pixels_of(folder / "original" / annotation["file_name"])
            np.testing.assert_array_equal(pixels_of(folder / "exported" / same["file_name"]), before)


def _pairs(one: dict[str, Any], other: dict[str, Any]) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    return list(zip(one["segments_info"], other["segments_info"], strict=True))


@given(maps=label_maps([255, *CATEGORY_IDS]))
@settings(max_examples=60, deadline=None)
def test_label_maps_come_back_equal_as_table_and_as_pixels(maps: dict[str, NDArray[np.int64]]) -> None:
    with tempfile.TemporaryDirectory() as name:
        original, exported = Path(name) / "original", Path(name) / "exported"
        original.mkdir()
        exported.mkdir()
        for image_id, labels in maps.items():
            Image.fromarray(labels.astype(np.uint16)).save(original / f"{image_id}.png")
        segments = segments_of(IndexPng(original, DATASET))
        write_index_png([(segments, IMAGES)], LABELS, exported)
        assert segments_of(IndexPng(exported, DATASET)).equals(segments)
        for image_id, labels in maps.items():
            np.testing.assert_array_equal(pixels_of(exported / f"{image_id}.png"), labels)


# COCO results


def test_a_bbox_is_written_only_where_its_source_had_one(tmp_path: Path) -> None:
    """With a box in the first record pycocotools would take areas, and so size ranges, from boxes."""
    segments = table([columns_from(0, 2), columns_from(1, 3)], declared_area=[None, 6.0])
    write_coco_results([(segments, IMAGES)], tmp_path / "out.json")
    assert ["bbox" in record for record in json.loads((tmp_path / "out.json").read_text())] == [False, True]


def test_results_are_ordered_by_image_and_ordinal(tmp_path: Path) -> None:
    segments = table([columns_from(0, 2), columns_from(1, 3), columns_from(2, 3)], ordinal=[2, 0, 1])
    write_coco_results([(segments, IMAGES)], tmp_path / "out.json")
    assert [record["category_id"] for record in json.loads((tmp_path / "out.json").read_text())] == [2, 7, 1]


def test_a_segment_without_score_cannot_become_a_result(tmp_path: Path) -> None:
    with pytest.raises(TransferError, match="image 1, segment 1: it has no score"):
        write_coco_results([(table([columns_from(0, 2)], score=[None]), IMAGES)], tmp_path / "out.json")


def test_loadres_reads_the_areas_and_boxes_of_the_table(tmp_path: Path) -> None:
    segments = table([columns_from(0, 2), columns_from(1, 4)], bbox=[[0, 0, 2, 5], [1, 0, 3, 5]])
    write_coco_results([(segments, IMAGES)], tmp_path / "out.json")
    truth = COCO()
    truth.dataset = {"images": [{"id": 1}], "categories": []}
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        loaded = truth.loadRes(str(tmp_path / "out.json")).dataset["annotations"]
    assert [annotation["area"] for annotation in loaded] == segments["area"].to_pylist()
    assert [list(annotation["bbox"]) for annotation in loaded] == segments["bbox"].to_pylist()


@pytest.mark.parametrize(
    "image_id, written", [("285", 285), ("0", 0), ("-3", -3), ("007", "007"), ("a1", "a1"), ("٣", "٣")]
)
def test_only_ids_that_are_integers_become_integers(tmp_path: Path, image_id: str, written: Any) -> None:
    images = IMAGES.slice(0, 1).set_column(0, IMAGES.schema.field(0), pa.array([image_id]))
    segments = table([columns_from(0, 2)], image_id=[image_id])
    write_coco_results([(segments, images)], tmp_path / "out.json")
    assert json.loads((tmp_path / "out.json").read_text())[0]["image_id"] == written


# COCO panoptic


def test_overlapping_segments_are_refused_by_name(tmp_path: Path) -> None:
    segments = table([columns_from(0, 2), columns_from(4, 6), columns_from(5, 7)])
    with pytest.raises(TransferError, match=r"image 1 \(1\.jpg\): segments 2 and 3 overlap.*coco-results"):
        write_coco_panoptic([(segments, IMAGES)], DATASET.categories, tmp_path / "out.json", tmp_path)


def test_segments_of_a_model_are_painted_with_their_segment_id(tmp_path: Path) -> None:
    write_coco_panoptic([(table([columns_from(3, 7)]), IMAGES)], DATASET.categories, tmp_path / "out.json", tmp_path)
    pixels = pixels_of(tmp_path / "1.png")
    np.testing.assert_array_equal(pixels[..., 0], columns_from(3, 7))
    assert not pixels[..., 1:].any()


@pytest.mark.parametrize("source_ids", [[0, 9], [None, 9], [900100581187, 9], [9, 9]])
def test_source_ids_that_a_png_cannot_hold_give_way_to_segment_ids(tmp_path: Path, source_ids: list[Any]) -> None:
    segments = table([columns_from(0, 2), columns_from(3, 7)], source_id=source_ids)
    write_coco_panoptic([(segments, IMAGES)], DATASET.categories, tmp_path / "out.json", tmp_path)
    infos = json.loads((tmp_path / "out.json").read_text())["annotations"][0]["segments_info"]
    assert [info["id"] for info in infos] == [1, 2]


def test_every_image_gets_an_annotation_and_those_of_unknown_size_are_named(tmp_path: Path) -> None:
    unknown = IMAGES.set_column(2, IMAGES.schema.field(2), pa.array([5, None, 1], pa.int32()))
    segments = table([columns_from(0, 7)])
    left_out = write_coco_panoptic([(segments, unknown)], DATASET.categories, tmp_path / "out.json", tmp_path)
    assert left_out == ("22",)
    annotations = json.loads((tmp_path / "out.json").read_text())["annotations"]
    assert [(a["image_id"], len(a["segments_info"])) for a in annotations] == [(1, 1), ("scene_a", 0)]


def test_ground_truth_is_written_with_crowd_declared_area_and_without_its_void_row(tmp_path: Path) -> None:
    masks = [columns_from(0, 2), columns_from(2, 4)]
    segments = table(
        masks,
        segment_id=[0, 1],
        iscrowd=[False, True],
        score=[None, None],
        declared_area=[None, 11.0],
        source_id=[None, 70000],
        bbox=[[0, 0, 0, 0], [2, 0, 2, 5]],
    )
    write_coco_panoptic([(segments, IMAGES)], DATASET.categories, tmp_path / "out.json", tmp_path)
    infos = json.loads((tmp_path / "out.json").read_text())["annotations"][0]["segments_info"]
    assert infos == [
        {"id": 70000, "category_id": 2, "isthing": 0, "iscrowd": 1, "area": 11, "bbox": [2, 0, 2, 5]},
    ]


def test_category_ids_are_written_as_the_datasets_json_files_number_them(tmp_path: Path) -> None:
    segments = table([columns_from(0, 2)])
    write_coco_results([(segments, IMAGES)], tmp_path / "results.json", category_id_offset=1)
    write_coco_panoptic([(segments, IMAGES)], DATASET.categories, tmp_path / "panoptic.json", tmp_path, 1)
    panoptic = json.loads((tmp_path / "panoptic.json").read_text())
    assert json.loads((tmp_path / "results.json").read_text())[0]["category_id"] == 0
    assert panoptic["annotations"][0]["segments_info"][0]["category_id"] == 0
    assert panoptic["categories"][0]["id"] == 0


# Names of PNGs


@pytest.mark.parametrize("names", [("x.jpg", "x.png"), ("x.jpg", "x.jpg"), ("a/x.jpg", "a/./x.tif")])
@pytest.mark.parametrize("format", ["coco-panoptic", "index-png"])
def test_images_whose_pngs_would_overwrite_each_other_are_refused_by_name(
    tmp_path: Path, names: tuple[str, str], format: str
) -> None:
    images = IMAGES.set_column(1, IMAGES.schema.field(1), pa.array([*names, "other.jpg"]))
    pairs = [(table([columns_from(0, 7)]).slice(0, 0), images)]
    said = re.escape(f"images 1 ({names[0]}) and 22 ({names[1]}) would both be written to")
    with pytest.raises(TransferError, match=said):
        if format == "coco-panoptic":
            write_coco_panoptic(pairs, DATASET.categories, tmp_path / "out.json", tmp_path)
        else:
            write_index_png(pairs, LABELS, tmp_path)


# Index PNGs


def test_label_maps_take_16_bits_only_where_they_must(tmp_path: Path) -> None:
    for name, labels in (("small", LabelValues({1: 1}, (255,))), ("large", LabelValues({1: 1, 2: 256}, (255,)))):
        (tmp_path / name).mkdir()
        write_index_png([(table([columns_from(0, 2)]), IMAGES)], labels, tmp_path / name)
    assert [pixels_of(tmp_path / name / "1.png").dtype for name in ("small", "large")] == [np.uint8, np.uint16]


def test_overlapping_segments_of_one_class_make_one_label(tmp_path: Path) -> None:
    segments = table([columns_from(0, 3), columns_from(1, 7)], category_id=[2, 2])
    write_index_png([(segments, IMAGES)], LABELS, tmp_path)
    assert set(pixels_of(tmp_path / "1.png").ravel()) == {2}


def test_overlapping_segments_of_two_classes_are_refused(tmp_path: Path) -> None:
    segments = table([columns_from(0, 3), columns_from(2, 7)])
    with pytest.raises(TransferError, match=r"image 1 .*: segments 1 and 2 overlap and differ in class"):
        write_index_png([(segments, IMAGES)], LABELS, tmp_path)


def test_unlabelled_pixels_need_a_void_value(tmp_path: Path) -> None:
    with pytest.raises(TransferError, match=r"image 1 .*: 25 pixels belong to no segment.*void = "):
        write_index_png([(table([columns_from(0, 2)]), IMAGES)], LabelValues({1: 1}, ()), tmp_path)


def test_the_first_void_value_fills_unlabelled_pixels(tmp_path: Path) -> None:
    write_index_png([(table([columns_from(0, 2)]), IMAGES)], LabelValues({1: 1}, (11, 255)), tmp_path)
    np.testing.assert_array_equal(pixels_of(tmp_path / "1.png"), np.where(columns_from(0, 2), 1, 11))


def test_pngs_keep_the_folders_of_the_images_and_never_leave_theirs(tmp_path: Path) -> None:
    for file_name in ("city/1.jpg", "../1.jpg"):
        images = IMAGES.slice(0, 1).set_column(1, IMAGES.schema.field(1), pa.array([file_name]))
        with pytest.raises(TransferError, match="leads out") if ".." in file_name else contextlib.nullcontext():
            write_index_png([(table([columns_from(0, 2)]), images)], LABELS, tmp_path)
    assert (tmp_path / "city" / "1.png").is_file()


# Tables taken apart


def test_images_come_in_the_order_of_the_image_table_whatever_the_order_of_rows() -> None:
    segments = table([columns_from(0, 1), columns_from(1, 2)], image_id=["22", "1"])
    assert [(image.image_id, len(image.rows)) for image in by_image([(segments, IMAGES)])] == [
        ("1", 1),
        ("22", 1),
        ("scene_a", 0),
    ]


# Where an export may write


def test_what_is_there_is_replaced_only_when_told_to(tmp_path: Path) -> None:
    (tmp_path / "out.json").write_text("old")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old.png").write_text("old")
    for check, path in ((staging.check_file, tmp_path / "out.json"), (staging.check_folder, tmp_path / "out")):
        with pytest.raises(TransferError, match=r"exists already.*--yes"):
            check(path, False)
        check(path, True)


def test_a_folder_that_holds_anything_but_pngs_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(TransferError, match=r"holds 'thesis\.tex', which no export wrote"):
        staging.check_folder(tmp_path, overwrite=True)


def test_an_empty_folder_is_free_to_use(tmp_path: Path) -> None:
    staging.check_folder(tmp_path, overwrite=False)


def test_a_folder_in_place_of_a_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TransferError, match="is a folder"):
        staging.check_file(tmp_path, overwrite=True)
