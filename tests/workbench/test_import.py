"""Other people's predictions come in as pycocotools and panopticapi would read them, or are refused with a reason."""

import contextlib
import io
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pycocotools.mask as coco_mask
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
from workbench.imports import json_records
from workbench.imports.coco_panoptic import CocoPanoptic
from workbench.imports.coco_results import CocoResults
from workbench.imports.index_png import IndexPng

# pycocotools 2.0.11 decodes through an __array__ that NumPy 2 warns about.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

SIZE = (4, 6)
ONE_PIXEL = np.eye(*SIZE, dtype=np.bool_) & (np.arange(SIZE[1]) == 2)


def write_json(folder: Path, value: Any, name: str = "source.json") -> Path:
    path = folder / name
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


def write_png(path: Path, pixels: NDArray[Any], mode: str | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).convert(mode).save(path) if mode else Image.fromarray(pixels).save(path)
    return path


def compressed(mask: NDArray[np.bool_]) -> dict[str, Any]:
    return {"size": list(mask.shape), "counts": rle.encode(mask).decode()}


def uncompressed(mask: NDArray[np.bool_]) -> dict[str, Any]:
    return {"size": list(mask.shape), "counts": rle.parse_runs([rle.encode(mask)]).lengths.tolist()}


def result(image_id: Any = 1, mask: NDArray[np.bool_] = ONE_PIXEL, **changes: Any) -> dict[str, Any]:
    record = {"image_id": image_id, "category_id": 1, "segmentation": compressed(mask), "score": 0.5}
    return {**record, **changes}


def rows_of(source: CocoResults | CocoPanoptic | IndexPng, dataset: MemoryDataset) -> list[dict[str, Any]]:
    return list(source.segments(dataset.images())[0].to_pylist())


def import_results(folder: Path, records: Sequence[Any], sizes: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    dataset = MemoryDataset(sizes or {"1": SIZE, "2": SIZE})
    return rows_of(CocoResults(write_json(folder, records), dataset), dataset)


# COCO results: what loadRes reads


def load_results(records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The records as pycocotools' loadRes completes them."""
    truth = COCO()
    truth.dataset = {"images": [{"id": i, "height": SIZE[0], "width": SIZE[1]} for i in (1, 2)], "categories": []}
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        loaded = truth.loadRes(json.loads(json.dumps(records)))
    return list(loaded.dataset["annotations"])


masks = arrays.arrays(np.bool_, SIZE)
edges = st.floats(-3, 8, allow_subnormal=False)
lengths = st.floats(0, 9, allow_subnormal=False)
boxes = st.tuples(edges, edges, lengths, lengths).map(list)


@st.composite
def results_files(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Results of two images, interleaved; all with a mask, a box, or both."""
    has_mask, has_bbox = draw(st.sampled_from([(True, False), (False, True), (True, True)]))
    records = []
    for _ in range(draw(st.integers(1, 4))):
        record = {
            "image_id": draw(st.sampled_from([1, 2])),
            "category_id": draw(st.sampled_from([1, 7])),
            "score": draw(st.floats(0, 1)),
        }
        if has_mask:
            record["segmentation"] = compressed(draw(masks))
        if has_bbox:
            record["bbox"] = draw(boxes)
        records.append(record)
    return records


@given(records=results_files())
@settings(max_examples=100, deadline=None)
def test_masks_boxes_and_areas_are_those_of_loadres(records: list[dict[str, Any]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        rows = import_results(Path(folder), records)
    official = [
        annotation for image_id in (1, 2) for annotation in load_results(records) if annotation["image_id"] == image_id
    ]
    assert len(rows) == len(official)
    for row, annotation in zip(rows, official, strict=True):
        segmentation = annotation["segmentation"]
        if isinstance(segmentation, list):
            segmentation = coco_mask.merge(coco_mask.frPyObjects(segmentation, *SIZE))
        mask = rle.decode(row["counts"], *SIZE)
        np.testing.assert_array_equal(mask, coco_mask.decode(segmentation))
        assert row["area"] == mask.sum()
        assert row["bbox"] == list(annotation["bbox"])
        assert (row["area"] if row["declared_area"] is None else row["declared_area"]) == annotation["area"]
        assert (row["category_id"], row["score"]) == (annotation["category_id"], annotation["score"])


@given(mask=masks)
@settings(deadline=None)
def test_uncompressed_runs_give_the_same_row_as_compressed_ones(mask: NDArray[np.bool_]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        one, other = import_results(
            Path(folder), [result(1, segmentation=compressed(mask)), result(2, segmentation=uncompressed(mask))]
        )
    assert {**one, "image_id": "2"} == other


def test_polygons_are_rasterised_as_in_ground_truth(tmp_path: Path) -> None:
    polygons = [[0, 0, 3, 0, 3, 2, 0, 2], [4, 1, 6, 1, 6, 4, 4, 4]]
    (row,) = import_results(tmp_path, [result(segmentation=polygons)])
    expected = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(polygons, *SIZE)))
    np.testing.assert_array_equal(rle.decode(row["counts"], *SIZE), expected)


def test_ordinals_follow_the_file_within_each_image(tmp_path: Path) -> None:
    records = [result(image_id, score=score) for image_id, score in [(2, 0.1), (1, 0.2), (2, 0.3), (2, 0.1), (1, 0.4)]]
    rows = import_results(tmp_path, records)
    assert [(row["image_id"], row["ordinal"], row["segment_id"], row["score"]) for row in rows] == [
        ("1", 0, 1, 0.2),
        ("1", 1, 2, 0.4),
        ("2", 0, 1, 0.1),
        ("2", 1, 2, 0.3),
        ("2", 2, 3, 0.1),
    ]


def test_scores_keep_every_bit(tmp_path: Path) -> None:
    assert import_results(tmp_path, [result(score=0.1 + 0.2)])[0]["score"] == 0.1 + 0.2


def test_only_a_file_without_masks_is_marked_as_boxes(tmp_path: Path) -> None:
    dataset = MemoryDataset({"1": SIZE})
    box_record = {"image_id": 1, "category_id": 1, "bbox": [0, 0, 2, 2], "score": 1}
    boxes_only = CocoResults(write_json(tmp_path, [box_record]), dataset)
    assert boxes_only.manifest() == {"iou_types": ["bbox"]}
    both = CocoResults(write_json(tmp_path, [result(bbox=[0, 0, 2, 2])]), dataset)
    assert both.manifest() == {"iou_types": ["segm", "bbox"]}


def test_an_empty_list_is_a_file_without_detections(tmp_path: Path) -> None:
    assert import_results(tmp_path, []) == []


def test_an_empty_bbox_counts_as_none(tmp_path: Path) -> None:
    (row,) = import_results(tmp_path, [result(bbox=[])])
    assert row["declared_area"] is None
    assert row["bbox"] == [2.0, 2.0, 1.0, 1.0]


def test_image_ids_may_be_texts_or_floats_without_a_fraction(tmp_path: Path) -> None:
    rows = import_results(tmp_path, [result("müll/é"), result(7.0)], {"müll/é": SIZE, "7": SIZE})
    assert [row["image_id"] for row in rows] == ["müll/é", "7"]


def test_the_size_of_an_unreadable_image_comes_from_its_rle(tmp_path: Path) -> None:
    dataset = MemoryDataset({"1": None, "2": None})
    _, sizes = CocoResults(write_json(tmp_path, [result()]), dataset).segments(dataset.images())
    assert sizes == {"1": SIZE}


def test_category_ids_of_json_files_may_be_offset(tmp_path: Path) -> None:
    dataset = MemoryDataset({"1": SIZE}, categories=(1, 2), offset=1)
    (row,) = rows_of(CocoResults(write_json(tmp_path, [result(category_id=0)]), dataset), dataset)
    assert row["category_id"] == 1


BOX = {"image_id": 1, "category_id": 1, "score": 0.5, "bbox": [0, 0, 2, 2]}
BROKEN_RESULTS = {
    "unknown image": (result(3), "image_id 3 is none of the 2 images of dataset tiny"),
    "no image": ({"category_id": 1, "score": 1, "segmentation": compressed(ONE_PIXEL)}, "it has no image_id"),
    "unknown category": (result(category_id=4), r"category_id 4 is none of the 4 of dataset tiny \(1, 2, 3, 7\)"),
    "fractional category": (result(category_id=1.5), "category_id 1.5 is none"),
    "category true": (result(category_id=True), "category_id True is none"),
    "score NaN": (result(score=float("nan")), "score NaN is no finite number"),
    "score infinite": (result(score=float("inf")), "score Infinity is no finite number"),
    "score text": (result(score="0.5"), 'score "0.5" is no finite number'),
    "score null": (result(score=None), "score null is no finite number"),
    "runs too short": (result(segmentation={"size": [4, 6], "counts": [3, 4]}), "7, not height x width = 24"),
    "runs too long": (result(segmentation={"size": [4, 6], "counts": [20, 14]}), "34, not height x width = 24"),
    "a run too long": (
        result(segmentation={"size": [4, 6], "counts": [30, 4]}),
        "a run of 30 in an image of 24 pixels",
    ),
    "text too short": (result(segmentation={"size": [4, 6], "counts": "34"}), "7, not height x width = 24"),
    "text of something else": (result(segmentation={"size": [4, 6], "counts": "\n"}), "outside the code"),
    "negative run": (result(segmentation={"size": [4, 6], "counts": [-1, 25]}), "counts"),
    "size of another image": (result(segmentation=compressed(ONE_PIXEL.T)), r"size \[6, 4\], the image \[4, 6\]"),
    "no mask": (result(segmentation={}), "size None"),
    "neither": (result(segmentation=None), "neither a segmentation nor a bbox"),
}


@pytest.mark.parametrize("record, message", BROKEN_RESULTS.values(), ids=BROKEN_RESULTS.keys())
def test_a_broken_result_is_named_with_file_number_and_value(tmp_path: Path, record: Any, message: str) -> None:
    with pytest.raises(TransferError, match=rf"source\.json: record 1 \(the first is 0\): .*{message}"):
        import_results(tmp_path, [result(), record])


BROKEN_BOXES = {
    "three numbers": ([1, 2, 3], "four numbers"),
    "negative width": ([1, 2, -3, 4], "negative width or height"),
    "NaN": ([1, 2, float("nan"), 4], "four numbers"),
    "far too large": ([0, 0, 1e9, 1], "four numbers"),
    "a text": ("1,2,3,4", "four numbers"),
}


@pytest.mark.parametrize("bbox, message", BROKEN_BOXES.values(), ids=BROKEN_BOXES.keys())
def test_a_broken_bbox_is_refused(tmp_path: Path, bbox: Any, message: str) -> None:
    with pytest.raises(TransferError, match=rf"record 1 .*{message}"):
        import_results(tmp_path, [BOX, {**BOX, "bbox": bbox}])


@pytest.mark.parametrize("first, second", [(result(), result(bbox=[0, 0, 1, 1])), (BOX, result()), (result(), BOX)])
def test_records_that_disagree_about_what_they_carry_are_refused(tmp_path: Path, first: Any, second: Any) -> None:
    with pytest.raises(TransferError, match=r"record 1 .* but the first record"):
        import_results(tmp_path, [first, second])


def test_a_box_in_an_image_of_unknown_size_cannot_be_rasterised(tmp_path: Path) -> None:
    with pytest.raises(TransferError, match=r"record 0 .* declares no size"):
        import_results(tmp_path, [BOX], {"1": None})


# The array of records, read in pieces

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


@given(
    records=st.lists(st.dictionaries(st.text(max_size=3), json_values, max_size=4), max_size=5),
    indent=st.sampled_from([None, 2]),
    ascii_only=st.booleans(),
    chunk=st.integers(1, 20),
)
@settings(deadline=None)
def test_records_read_in_pieces_are_those_of_the_whole_file(
    records: list[dict[str, Any]], indent: int | None, ascii_only: bool, chunk: int
) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_records, "_CHUNK", chunk)
        path = Path(folder) / "records.json"
        text = json.dumps(records, indent=indent, ensure_ascii=ascii_only)
        path.write_bytes(text.encode("utf-8", "surrogatepass" if ascii_only else "replace"))
        expected = json.loads(path.read_text(encoding="utf-8"))
        found = list(json_records.scan(path))
        assert [record for _, record in found] == expected
        with path.open("rb") as file:
            assert [json_records.read(file, span) for span, _ in found] == expected


BROKEN_JSON = {
    "an object": ('{"annotations": []}', "not a JSON array"),
    "nothing": ("", "not a JSON array"),
    "a number in it": ("[1]", "1 is no object"),
    "cut short": ('[{"a": 1}, {"b"', "broken JSON in the value at byte 11"),
    "no comma": ('[{"a": 1} {"b": 2}]', "byte 10: expected"),
    "no end": ('[{"a": 1}', "byte 9: expected"),
    "more after it": ("[] []", "more data after the array"),
}


@pytest.mark.parametrize("text, message", BROKEN_JSON.values(), ids=BROKEN_JSON.keys())
def test_a_file_that_is_no_array_of_objects_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "broken.json"
    path.write_text(text)
    with pytest.raises(TransferError, match=rf"broken\.json.*{message}"):
        list(json_records.scan(path))


def test_text_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "latin.json"
    path.write_bytes('[{"image_id": "é"}]'.encode("latin-1"))
    with pytest.raises(TransferError, match="not UTF-8"):
        list(json_records.scan(path))


# COCO panoptic

IDS = np.array([[0, 700000, 700000, 9], [0, 9, 9, 9]])
INFOS = [{"id": 700000, "category_id": 1}, {"id": 9, "category_id": 2}]


def rgb(ids: NDArray[Any]) -> NDArray[np.uint8]:
    return np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=-1).astype(np.uint8)


def panoptic_source(
    folder: Path, infos: Any = INFOS, ids: NDArray[Any] = IDS, **changes: Any
) -> tuple[CocoPanoptic, MemoryDataset]:
    annotation = {"image_id": 1, "file_name": "one.png", "segments_info": infos, **changes}
    write_png(folder / "source" / "one.png", rgb(ids))
    dataset = MemoryDataset({"1": (2, 4), "2": (2, 4)})
    return CocoPanoptic(write_json(folder, {"annotations": [annotation]}), dataset), dataset


def test_panoptic_segments_count_upwards_by_source_id_and_keep_the_order_of_the_file(tmp_path: Path) -> None:
    rows = rows_of(*panoptic_source(tmp_path))
    columns = ("source_id", "segment_id", "ordinal", "category_id", "isthing", "area", "score", "declared_area")
    assert [tuple(row[name] for name in columns) for row in rows] == [
        (9, 1, 1, 2, False, 4, None, None),
        (700000, 2, 0, 1, True, 2, None, None),
    ]
    np.testing.assert_array_equal(rle.decode(rows[1]["counts"], 2, 4), IDS == 700000)
    assert rows[1]["bbox"] == [1, 0, 2, 1]


def test_panoptic_score_and_isthing_are_kept_where_the_file_has_them(tmp_path: Path) -> None:
    infos = [{**INFOS[0], "score": 0.25, "isthing": False}, {**INFOS[1], "isthing": 1}]
    rows = rows_of(*panoptic_source(tmp_path, infos))
    assert [(row["score"], row["isthing"]) for row in rows] == [(None, True), (0.25, False)]


def test_an_image_without_annotation_has_no_rows_and_is_told(tmp_path: Path) -> None:
    source, _ = panoptic_source(tmp_path)
    assert source.notes == ("no annotation for 1 of 2 images, which get no segments: 2",)


BROKEN_PANOPTIC: dict[str, tuple[dict[str, Any], str]] = {
    "painted, not listed": ({"infos": INFOS[:1]}, r"image 1: segment 9 is painted in .*one\.png but not listed"),
    "listed, not painted": (
        {"infos": [*INFOS, {"id": 5, "category_id": 1}]},
        r"image 1: segment 5 is listed in segments_info but not painted",
    ),
    "unknown category": ({"infos": [INFOS[0], {"id": 9, "category_id": 4}]}, r"segments_info\[1\]: category_id 4"),
    "void listed": ({"infos": [*INFOS, {"id": 0, "category_id": 1}]}, r"segments_info\[2\]: id 0 is no segment id"),
    "listed twice": ({"infos": [*INFOS, INFOS[0]]}, "segment 700000 is listed twice"),
    "score NaN": ({"infos": [{**INFOS[0], "score": float("nan")}, INFOS[1]]}, "score NaN"),
    "other size": ({"ids": IDS.T}, r"one\.png: 2 x 4 pixels, but image 1 \(1\.jpg\) has 4 x 2"),
    "unknown image": ({"image_id": 5}, "image_id 5 is none of the 2 images of dataset tiny"),
    "no PNG": ({"file_name": "two.png"}, r"two\.png does not exist.*--png"),
    "climbing name": ({"file_name": "../one.png"}, "leads out of"),
    "no list": ({"infos": None}, "segments_info is no list"),
}


@pytest.mark.parametrize("changes, message", BROKEN_PANOPTIC.values(), ids=BROKEN_PANOPTIC.keys())
def test_a_broken_panoptic_annotation_is_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(TransferError, match=message):
        rows_of(*panoptic_source(tmp_path, **changes))


def test_two_annotations_of_one_image_are_refused(tmp_path: Path) -> None:
    panoptic_source(tmp_path)
    annotation = {"image_id": 1, "file_name": "one.png", "segments_info": INFOS}
    path = write_json(tmp_path, {"annotations": [annotation, annotation]})
    with pytest.raises(TransferError, match=r"annotation 1 .*image 1 has an annotation already"):
        CocoPanoptic(path, MemoryDataset({"1": (2, 4)}))


def test_a_label_map_in_place_of_a_panoptic_png_gets_advice(tmp_path: Path) -> None:
    source, dataset = panoptic_source(tmp_path)
    write_png(tmp_path / "source" / "one.png", IDS.astype(np.uint8))
    with pytest.raises(TransferError, match=r"R \+ 256 G \+ 65536 B.*--format index-png"):
        rows_of(source, dataset)


def test_coco_results_given_as_panoptic_get_advice(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    with pytest.raises(TransferError, match="use --format coco-results"):
        CocoPanoptic(write_json(tmp_path, [result()]), MemoryDataset({"1": SIZE}))


# Index PNGs

LABELS = np.array([[1, 255, 3], [7, 7, 3]])


def index_source(folder: Path, pixels: NDArray[Any], **options: Any) -> tuple[IndexPng, MemoryDataset]:
    write_png(folder / "1.png", pixels, **options)
    dataset = MemoryDataset({"1": (2, 3), "2": (2, 3)}, categories=(1, 3, 7, 300))
    return IndexPng(folder, dataset), dataset


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_label_map_gives_one_row_a_class_and_none_for_void(tmp_path: Path, dtype: type) -> None:
    rows = rows_of(*index_source(tmp_path, LABELS.astype(dtype)))
    columns = ("category_id", "segment_id", "ordinal", "source_id", "area", "isthing", "score")
    assert [tuple(row[name] for name in columns) for row in rows] == [
        (1, 1, 0, 1, 1, True, None),
        (3, 2, 1, 3, 2, True, None),
        (7, 3, 2, 7, 2, True, None),
    ]
    np.testing.assert_array_equal(rle.decode(rows[1]["counts"], 2, 3), LABELS == 3)


def test_palette_indices_are_the_labels(tmp_path: Path) -> None:
    image = Image.fromarray(LABELS.astype(np.uint8)).convert("P")
    image.putpalette([value % 256 for value in range(7, 7 + 768)])
    image.save(tmp_path / "1.png")
    dataset = MemoryDataset({"1": (2, 3)})
    assert [row["category_id"] for row in rows_of(IndexPng(tmp_path, dataset), dataset)] == [1, 3, 7]


def test_labels_above_255_are_read_from_16_bits(tmp_path: Path) -> None:
    rows = rows_of(*index_source(tmp_path, np.where(LABELS == 7, 300, LABELS).astype(np.uint16)))
    assert [row["category_id"] for row in rows] == [1, 3, 300]


def test_colours_are_refused_with_advice(tmp_path: Path) -> None:
    with pytest.raises(TransferError, match=r"1\.png has the mode RGB.*--format coco-panoptic"):
        rows_of(*index_source(tmp_path, rgb(LABELS)))


def test_an_unknown_label_is_named(tmp_path: Path) -> None:
    with pytest.raises(TransferError, match=r"1\.png: label value 8 is no class of dataset tiny .* not void \(255\)"):
        rows_of(*index_source(tmp_path, LABELS.astype(np.uint8) + (LABELS == 7)))


def test_a_label_map_of_another_size_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TransferError, match=r"1\.png: 2 x 3 pixels, but image 1 \(1\.jpg\) has 3 x 2"):
        rows_of(*index_source(tmp_path, LABELS.T.astype(np.uint8)))


def test_a_label_map_of_no_image_is_refused(tmp_path: Path) -> None:
    write_png(tmp_path / "9.png", LABELS.astype(np.uint8))
    with pytest.raises(TransferError, match=r"9\.png: no image of dataset tiny is called '9'"):
        index_source(tmp_path, LABELS.astype(np.uint8))


def test_a_folder_without_pngs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TransferError, match=r"holds no \.png file"):
        IndexPng(tmp_path, MemoryDataset({"1": (2, 3)}))


def test_label_maps_lie_flat_or_in_the_images_folders(tmp_path: Path) -> None:
    dataset = MemoryDataset({"a/1": (2, 3), "b/1": (2, 3), "b/2": (2, 3)})
    for name in ("a/1", "b/1", "2"):
        write_png(tmp_path / f"{name}.png", LABELS.astype(np.uint8))
    assert [path.parent.name for path in IndexPng(tmp_path, dataset).files()] == ["a", "b", tmp_path.name]


def test_a_stem_that_two_images_share_needs_folders(tmp_path: Path) -> None:
    write_png(tmp_path / "1.png", LABELS.astype(np.uint8))
    with pytest.raises(TransferError, match="images a/1, b/1 are all called '1'"):
        IndexPng(tmp_path, MemoryDataset({"a/1": (2, 3), "b/1": (2, 3)}))


def test_two_label_maps_of_one_image_are_refused(tmp_path: Path) -> None:
    for name in ("1.png", "x/1.png"):
        write_png(tmp_path / name, LABELS.astype(np.uint8))
    with pytest.raises(TransferError, match="has another label map"):
        IndexPng(tmp_path, MemoryDataset({"1": (2, 3)}))
