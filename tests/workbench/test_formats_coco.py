"""COCO files become the rows that the official tools would see, whatever form the file gives them."""

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pycocotools.mask as coco_mask
import pytest
from PIL import Image
from pycocotools.coco import COCO

from eomt.label_maps import masks_and_labels
from tests.conftest import REPOSITORY
from tests.reference.ground_truth_rows import class_map, masks, opened, picked, rows, tables
from tests.reference.small_datasets import write_instances, write_json, write_panoptic, write_toml
from workbench import catalog, rle
from workbench.errors import DatasetError
from workbench.formats import open_dataset
from workbench.formats.coco_masks import MaskError, segmentation_counts
from workbench.segments import check_rle

A, B, C = 300, 70_000, 5  # segment ids that need one, two and three bytes
IDS = [[A, A, 0], [B, A, C]]
SEGMENTS = [
    {"id": B, "category_id": 7, "area": 99, "bbox": [0, 1, 1, 1], "iscrowd": 1},
    {"id": A, "category_id": 1},
    {"id": C, "category_id": 90, "iscrowd": 0},
]


# Panoptic


def test_panoptic_rows_ascend_by_source_id_and_end_with_the_void(tmp_path):
    path, _ = write_panoptic(tmp_path, {4: IDS}, {4: SEGMENTS})
    found = rows(path, "panoptic")
    assert picked(found, "segment_id", "source_id", "ordinal", "category_id", "isthing", "iscrowd", "area") == [
        (1, C, 2, 90, False, False, 1),
        (2, A, 1, 1, True, False, 3),
        (3, B, 0, 7, True, True, 1),
        (0, None, 3, -1, False, False, 1),
    ]
    assert masks(found) == [
        [[0, 0, 0], [0, 0, 1]],
        [[1, 1, 0], [0, 1, 0]],
        [[0, 0, 0], [1, 0, 0]],
        [[0, 0, 1], [0, 0, 0]],
    ]


def test_declared_area_and_box_are_kept_and_counted_where_missing(tmp_path):
    path, _ = write_panoptic(tmp_path, {4: IDS}, {4: SEGMENTS})
    assert picked(rows(path, "panoptic"), "declared_area", "bbox") == [
        (None, [2, 1, 1, 1]),
        (None, [0, 0, 2, 2]),
        (99, [0, 1, 1, 1]),
        (None, [2, 0, 1, 1]),
    ]


def test_image_without_void_has_no_void_row(tmp_path):
    path, _ = write_panoptic(tmp_path, {1: [[C, C]]}, {1: [{"id": C, "category_id": 1}]})
    assert picked(rows(path, "panoptic"), "segment_id") == [(1,)]


def test_image_of_void_alone_has_one_row(tmp_path):
    path, _ = write_panoptic(tmp_path, {1: [[0, 0]]}, {1: []})
    assert picked(rows(path, "panoptic"), "segment_id", "area") == [(0, 2)]
    assert rows(path, "semantic") == rows(path, "panoptic")
    assert rows(path, "instance") == []


def test_listed_segment_without_pixels_keeps_an_empty_row_since_panopticapi_counts_a_miss(tmp_path):
    path, _ = write_panoptic(tmp_path, {1: [[C, C]]}, {1: [{"id": A, "category_id": 1}, {"id": C, "category_id": 7}]})
    found = rows(path, "panoptic")
    assert picked(found, "source_id", "area", "bbox") == [(C, 2, [0, 0, 2, 1]), (A, 0, [0, 0, 0, 0])]
    assert masks(found)[1] == [[0, 0]]
    assert picked(rows(path, "semantic"), "category_id") == [(7,)]


def test_painted_segment_that_is_not_listed_is_refused_by_default(tmp_path):
    path, _ = write_panoptic(tmp_path, {285: [[C, A]]}, {285: [{"id": C, "category_id": 1}]})
    with pytest.raises(DatasetError, match=r"image 285: segment 300 is painted .* `unlisted = \"void\"`"):
        rows(path, "panoptic")


def test_unlisted_segments_can_be_void_or_neither_void_nor_segment(tmp_path):
    for unlisted, expected in {"void": [(C, 1), (None, 2)], "uncovered": [(C, 1), (None, 1)]}.items():
        path, _ = write_panoptic(tmp_path, {1: [[C, A, 0]]}, {1: [{"id": C, "category_id": 1}]}, unlisted=unlisted)
        assert picked(rows(path, "panoptic"), "source_id", "area") == expected


def test_images_come_ascending_and_panoptic_ones_remember_their_place_in_the_list(tmp_path):
    maps = {image_id: [[C]] for image_id in (10, 9, 2)}
    path, _ = write_panoptic(tmp_path, maps, {image_id: [{"id": C, "category_id": 1}] for image_id in maps})
    assert picked(tables(path, "panoptic")[1].to_pylist(), "image_id", "ordinal") == [("2", 2), ("9", 1), ("10", 0)]
    assert picked(tables(path, "instance")[1].to_pylist(), "image_id", "ordinal") == [("2", 0), ("9", 1), ("10", 2)]
    assert [image.image_id for image in opened(path).images()] == ["2", "9", "10"]


def test_tables_hold_at_most_the_wanted_number_of_images(tmp_path):
    maps = {image_id: [[C]] for image_id in range(5)}
    path, _ = write_panoptic(tmp_path, maps, {image_id: [{"id": C, "category_id": 1}] for image_id in maps})
    assert [len(images) for _, images in opened(path).ground_truth("panoptic", 2)] == [2, 2, 1]


def test_instances_derived_from_panoptic_are_the_things_numbered_anew(tmp_path):
    path, _ = write_panoptic(tmp_path, {4: IDS}, {4: SEGMENTS})
    found = rows(path, "instance")
    assert picked(found, "segment_id", "source_id", "ordinal", "iscrowd") == [(1, A, 1, False), (2, B, 0, True)]


def test_classes_derived_from_panoptic_merge_segments_and_keep_the_void(tmp_path):
    ids = [[1, 2, 0], [3, 3, 4]]
    infos = [{"id": 1, "category_id": 7}, {"id": 2, "category_id": 90}, {"id": 3, "category_id": 7, "iscrowd": 1}]
    path, _ = write_panoptic(tmp_path, {1: ids}, {1: [*infos, {"id": 4, "category_id": 1}]})
    found = rows(path, "semantic")
    assert picked(found, "segment_id", "category_id", "source_id", "area", "iscrowd", "isthing", "bbox") == [
        (1, 1, 1, 1, False, True, [2, 1, 1, 1]),
        (2, 7, 7, 3, False, True, [0, 0, 2, 2]),
        (3, 90, 90, 1, False, False, [1, 0, 1, 1]),
        (0, -1, None, 1, False, False, [2, 0, 1, 1]),
    ]
    assert masks(found)[1] == [[1, 0, 0], [1, 1, 0]]


def test_derived_classes_are_those_of_panoptic_masks_on_real_data(shared_data):
    path = REPOSITORY / "tests/definitions/coco_stuff_sample_val.toml"
    panoptic, semantic = rows(path, "panoptic"), rows(path, "semantic")
    for image_id in {row["image_id"] for row in panoptic}:
        expected = class_map([row for row in panoptic if row["image_id"] == image_id])
        assert np.array_equal(class_map([row for row in semantic if row["image_id"] == image_id]), expected)


def test_panoptic_rows_are_the_pixels_of_the_official_sample(shared_data):
    folder = shared_data / "coco_panoptic_sample/annotations"
    official = json.loads((folder / "panoptic_val2017.json").read_text())
    found = rows(REPOSITORY / "tests/definitions/coco_panoptic_sample.toml", "panoptic")
    for annotation in official["annotations"]:
        pixels = np.asarray(Image.open(folder / "panoptic_val2017" / annotation["file_name"])).astype(int)
        ids = pixels[..., 0] + 256 * pixels[..., 1] + 256 * 256 * pixels[..., 2]
        of_image = [row for row in found if row["image_id"] == str(annotation["image_id"])]
        assert len(of_image) == len(annotation["segments_info"]) + 1
        for row in of_image:
            mask = rle.decode(row["counts"], row["height"], row["width"])
            assert np.array_equal(mask, ids == (row["source_id"] or 0))
            if row["segment_id"]:
                info = annotation["segments_info"][row["ordinal"]]
                assert (info["id"], info["category_id"], info["area"]) == (
                    row["source_id"],
                    row["category_id"],
                    row["area"],
                )
                assert (info["iscrowd"], info["bbox"]) == (row["iscrowd"], row["bbox"])


def test_ground_truth_is_what_training_targets_are_made_of(shared_data):
    """The rows and the processor's `segmentation_maps` come from one function; here they meet in the middle."""
    path = REPOSITORY / "tests/definitions/coco_stuff_sample_val.toml"
    of_image = [row for row in rows(path, "panoptic") if row["image_id"] == "139"]
    relabelled = np.zeros((of_image[0]["height"], of_image[0]["width"]), dtype=np.int64)
    for row in of_image:
        relabelled[rle.decode(row["counts"], row["height"], row["width"])] = row["segment_id"]
    classes = {row["segment_id"]: row["category_id"] for row in of_image if row["segment_id"]}
    targets, labels = masks_and_labels(relabelled, classes, ignore_index=255)
    assert [int(mask.sum()) for mask in targets] == [row["area"] for row in of_image if row["segment_id"]]
    assert (labels + 1).tolist() == [row["category_id"] for row in of_image if row["segment_id"]]


@pytest.mark.parametrize(
    ("bend", "message"),
    [
        (lambda c: c["annotations"].append(c["annotations"][0]), "has an entry already"),
        (lambda c: c["annotations"][0].update(image_id=99), "image 99 is not in `images`"),
        (lambda c: c["annotations"][0].pop("segments_info"), "needs `image_id`, `file_name`"),
        (lambda c: c["annotations"][0]["segments_info"].append(SEGMENTS[0]), "segment 70000 is listed twice"),
        (lambda c: c["annotations"][0]["segments_info"].append({"id": 0, "category_id": 1}), "has the id 0"),
        (lambda c: c["annotations"][0]["segments_info"][1].update(category_id=2), "category 2, which is not in"),
        (lambda c: c["annotations"][0]["segments_info"][1].pop("id"), "no whole `id`"),
        (lambda c: c["annotations"][0].update(file_name="9.png"), "does not exist"),
        (lambda c: c["images"][0].update(height=7), r"its PNG is \(2, 3\) .* says \(7, 3\)"),
        (lambda c: c["images"].append(c["images"][0]), "image 4 is there already"),
        (lambda c: c["images"][0].pop("file_name"), "is no image"),
        (lambda c: c["categories"].append(c["categories"][0]), "category 1 is there already"),
        (lambda c: c["categories"][0].pop("name"), "is no category"),
    ],
)
def test_defects_of_panoptic_files_are_refused(tmp_path, bend, message):
    path, content = write_panoptic(tmp_path, {4: IDS}, {4: json.loads(json.dumps(SEGMENTS))})
    content = json.loads(json.dumps(content))
    bend(content)
    write_json(tmp_path / "panoptic.json", content)
    with pytest.raises(DatasetError, match=message):
        rows(path, "panoptic")


@pytest.mark.parametrize("content", ["[]", "{", '{"images": [], "annotations": []}', '{"images": {}}'])
def test_what_is_no_coco_file_is_refused(tmp_path, content):
    path, _ = write_panoptic(tmp_path, {4: IDS}, {4: SEGMENTS})
    (tmp_path / "panoptic.json").write_text(content)
    with pytest.raises(DatasetError, match=r"panoptic\.json"):
        opened(path).images()


def test_panoptic_png_of_one_channel_or_broken_is_refused(tmp_path):
    path, _ = write_panoptic(tmp_path, {4: IDS}, {4: SEGMENTS})
    Image.fromarray(np.zeros((2, 3), np.uint8)).save(tmp_path / "panoptic/4.png")
    with pytest.raises(DatasetError, match="has the mode L, not RGB"):
        rows(path, "panoptic")
    (tmp_path / "panoptic/4.png").write_bytes((tmp_path / "images/4.png").read_bytes()[:50])
    with pytest.raises(DatasetError, match="cannot be decoded"):
        rows(path, "panoptic")


# Instances

SQUARE = [1, 1, 4, 1, 4, 4, 1, 4]


def annotation(annotation_id: int, segmentation: Any, **keys: Any) -> dict[str, Any]:
    return {"id": annotation_id, "image_id": 1, "category_id": 1, "iscrowd": 0, "segmentation": segmentation, **keys}


def official_counts(path: Path, tmp_json: str) -> dict[int, bytes]:
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(path / tmp_json))
    return {annotation_id: coco.annToRLE(one)["counts"] for annotation_id, one in coco.anns.items()}


def as_bytes(counts: Any) -> bytes:
    return counts.encode() if isinstance(counts, str) else counts


@pytest.mark.parametrize(
    ("definition", "file"),
    [
        ("coco_tiny_instances_val", "coco_tiny_instances/annotations/instances_val2017.json"),
        ("coco_ap_reference", "coco_ap_reference/annotations/instances_val2014_100.json"),
        ("fruits_nuts_val", "fruits_nuts/annotations/instances_val.json"),
        ("coco_panoptic_sample", "coco_panoptic_sample/annotations/instances_val2017.json"),
    ],
)
def test_instance_masks_are_those_of_pycocotools_byte_for_byte(shared_data, definition, file):
    table, images = tables(REPOSITORY / f"tests/definitions/{definition}.toml", "instance")
    check_rle(table, definition)
    official = json.loads((shared_data / file).read_text())
    expected = {key: as_bytes(counts) for key, counts in official_counts(shared_data, file).items()}
    assert {row["source_id"]: row["counts"] for row in table.to_pylist()} == expected
    assert sorted(images["image_id"].to_pylist()) == sorted(str(image["id"]) for image in official["images"])
    declared = {
        one["id"]: (one["category_id"], one["iscrowd"], one["area"], one["bbox"]) for one in official["annotations"]
    }
    found = picked(table.to_pylist(), "source_id", "category_id", "iscrowd", "declared_area", "bbox")
    assert {row[0]: (*row[1:4], pytest.approx(row[4])) for row in found} == declared


def test_every_form_of_a_segmentation_gives_the_same_row(tmp_path):
    polygon = coco_mask.merge(coco_mask.frPyObjects([SQUARE], 6, 5))
    mask = rle.decode(polygon["counts"], 6, 5).astype(int)
    flat = mask.ravel(order="F")
    runs = np.diff(np.flatnonzero(np.diff(flat, prepend=1 - flat[0], append=1 - flat[-1]))).tolist()
    forms = [
        [SQUARE],
        {"size": [6, 5], "counts": polygon["counts"].decode()},
        {"size": [6, 5], "counts": runs if flat[0] == 0 else [0, *runs]},
    ]
    path, _ = write_instances(tmp_path, {1: (6, 5)}, [annotation(i, form) for i, form in enumerate(forms)])
    found = rows(path, "instance")
    assert {row["counts"] for row in found} == {polygon["counts"]}
    assert picked(found, "source_id", "segment_id", "area") == [(i, i + 1, int(mask.sum())) for i in range(3)]


def test_parts_and_holes_of_a_mask_survive(tmp_path):
    ring = np.ones((7, 9), np.uint8)
    ring[2:5, 2:4] = 0
    ring[:, 6] = 0
    compressed = coco_mask.encode(np.asfortranarray(ring))
    segmentation = {"size": [7, 9], "counts": compressed["counts"].decode()}
    path, _ = write_instances(tmp_path, {1: (7, 9)}, [annotation(5, segmentation)])
    assert masks(rows(path, "instance")) == [ring.tolist()]


def test_two_polygons_are_one_object(tmp_path):
    path, _ = write_instances(tmp_path, {1: (6, 12)}, [annotation(5, [SQUARE, [7, 1, 10, 1, 10, 4, 7, 4]])])
    (row,) = rows(path, "instance")
    assert (
        row["counts"] == coco_mask.merge(coco_mask.frPyObjects([SQUARE, [7, 1, 10, 1, 10, 4, 7, 4]], 6, 12))["counts"]
    )


@pytest.mark.parametrize(
    "polygon", [[0, 0, 9e7, 0, 9e7, 9e7], [3, 3, 9e7, 9e7], [0, 0, 9e5, 9e5] * 9], ids=["far", "as a box", "to and fro"]
)
def test_a_polygon_whose_rasterising_would_take_gigabytes_is_refused_before_it_does(polygon, monkeypatch):
    monkeypatch.setattr(coco_mask, "frPyObjects", lambda *arguments: pytest.fail("rasterised"))
    with pytest.raises(MaskError, match=r"a polygon is .* pixels long, more than 5,000,000"):
        segmentation_counts([SQUARE, polygon], (6, 5))


def test_a_polygon_that_reaches_beyond_the_image_is_cut_as_pycocotools_cuts_it():
    polygon = [-1000, -1000, 100_000, -1000, 100_000, 3, -1000, 3]
    expected = coco_mask.merge(coco_mask.frPyObjects([polygon], 6, 5))["counts"]
    assert segmentation_counts([polygon], (6, 5)) == expected


def test_ordinal_is_the_place_in_the_file_and_segment_id_the_rank_of_the_id(tmp_path):
    annotations = [annotation(9, [SQUARE]), annotation(0, [SQUARE], category_id=7), annotation(4, [SQUARE], iscrowd=1)]
    path, _ = write_instances(tmp_path, {1: (6, 5)}, annotations)
    assert picked(rows(path, "instance"), "source_id", "segment_id", "ordinal", "iscrowd") == [
        (0, 1, 1, False),
        (4, 2, 2, True),
        (9, 3, 0, False),
    ]


def test_area_and_box_are_counted_where_the_file_has_none(tmp_path):
    path, _ = write_instances(
        tmp_path, {1: (6, 5)}, [annotation(3, [SQUARE]), annotation(4, [SQUARE], area=2.5, bbox=[1, 2, 3, 4.5])]
    )
    assert picked(rows(path, "instance"), "declared_area", "bbox") == [(None, [1, 1, 3, 3]), (2.5, [1, 2, 3, 4.5])]


def test_image_without_objects_is_in_the_image_table(tmp_path):
    path, _ = write_instances(tmp_path, {1: (6, 5), 2: (3, 4)}, [annotation(3, [SQUARE])])
    assert picked(tables(path, "instance")[1].to_pylist(), "image_id", "height", "width") == [("1", 6, 5), ("2", 3, 4)]


def test_size_is_read_from_the_image_where_the_file_declares_none(tmp_path):
    path, content = write_instances(tmp_path, {1: (6, 5)}, [annotation(3, [SQUARE])])
    del content["images"][0]["height"]
    write_json(tmp_path / "instances.json", content)
    assert picked(rows(path, "instance"), "height", "width") == [(6, 5)]


def test_annotation_of_an_unknown_image_is_left_out_as_by_pycocotools(tmp_path):
    path, _ = write_instances(tmp_path, {1: (6, 5)}, [annotation(3, [SQUARE]), annotation(4, [SQUARE], image_id=8)])
    assert picked(rows(path, "instance"), "source_id") == [(3,)]


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        (None, "segmentation is None"),
        ([], r"segmentation is \[\]"),
        ([[1, 2]], "pycocotools refuses"),
        ([["a", 1, 2, 3, 4, 5]], "no list of numbers"),
        ([[float("nan"), 1, 2, 3, 4, 5]], "no list of numbers"),
        ([1, 2, 3, 4], "no list of numbers"),
        ({"size": [5, 6], "counts": "0"}, r"has the size \[5, 6\], the image \[6, 5\]"),
        ({"size": [6, 5], "counts": [10, 5]}, "sum to 15, not height x width = 30"),
        ({"size": [6, 5], "counts": [10, -5, 25]}, "neither a text nor a list"),
        ({"size": [6, 5], "counts": "~~"}, "outside the code"),
        ({"size": [6, 5], "counts": "5"}, "not height x width = 30"),
        ({"size": [6, 5]}, "neither a text nor a list"),
    ],
)
def test_unusable_segmentations_are_refused(tmp_path, segmentation, message):
    path, _ = write_instances(tmp_path, {1: (6, 5)}, [annotation(2, [SQUARE]), annotation(3, segmentation)])
    with pytest.raises(DatasetError, match=message) as error:
        rows(path, "instance")
    assert "image 1, annotation 3" in str(error.value)


def test_unknown_category_and_broken_record_are_refused(tmp_path):
    for broken, message in ((annotation(3, [SQUARE], category_id=5), "category 5"), ({"id": 3}, "needs `image_id`")):
        path, _ = write_instances(tmp_path, {1: (6, 5)}, [broken])
        with pytest.raises(DatasetError, match=message):
            rows(path, "instance")


# Both files, categories, names


def test_instances_win_over_derived_ones_and_all_categories_are_known(tmp_path):
    write_instances(tmp_path, {4: (2, 3)}, [annotation(3, [[0, 0, 2, 0, 2, 2, 0, 2]], image_id=4)])
    path, _ = write_panoptic(tmp_path, {4: IDS}, {4: SEGMENTS}, instances="instances.json")
    assert opened(path).tasks == ("panoptic", "instance", "semantic")
    assert picked(rows(path, "instance"), "source_id") == [(3,)]
    assert [(c.category_id, c.name, c.isthing) for c in opened(path).categories] == [
        (1, "cat", True),
        (7, "dog", True),
        (90, "sky", False),
    ]


def test_categories_of_an_instances_file_are_things_with_colours_of_their_own(tmp_path):
    path, _ = write_instances(tmp_path, {1: (6, 5)}, [])
    categories = opened(path).categories
    assert [category.isthing for category in categories] == [True, True]
    assert len({category.color for category in categories}) == 2


def test_class_table_fills_in_what_the_json_leaves_out(tmp_path):
    (tmp_path / "classes.csv").write_text("category_id,name,isthing,color\n1,cat,0,010203\n")
    path, _ = write_instances(tmp_path, {1: (6, 5)}, [], classes="classes.csv")
    first = opened(path).categories[0]
    assert (first.isthing, first.color) == (False, (1, 2, 3))


def test_category_offset_shifts_the_ids_of_both_files(tmp_path):
    path, _ = write_panoptic(tmp_path, {4: IDS}, {4: SEGMENTS}, category_id_offset=1)
    assert [category.category_id for category in opened(path).categories] == [2, 8, 91]
    assert {row["category_id"] for row in rows(path, "panoptic")} == {-1, 2, 8, 91}


def test_text_image_ids_are_kept(tmp_path):
    path, content = write_instances(tmp_path, {1: (6, 5)}, [annotation(3, [SQUARE], image_id="ADE_val_1")])
    content["images"][0]["id"] = "ADE_val_1"
    write_json(tmp_path / "instances.json", content)
    assert picked(rows(path, "instance"), "image_id") == [("ADE_val_1",)]


def test_file_names_may_have_folders(tmp_path):
    path, content = write_instances(tmp_path, {1: (6, 5)}, [])
    (tmp_path / "images/sub").mkdir()
    (tmp_path / "images/1.png").rename(tmp_path / "images/sub/1.png")
    content["images"][0]["file_name"] = "sub/1.png"
    write_json(tmp_path / "instances.json", content)
    (image,) = opened(path).images()
    assert image.path.exists() and image.file_name == "sub/1.png"


@pytest.mark.parametrize("name", ["../secret.png", "/etc/passwd", "a/../../b.png", "..\\b.png", "", "a\0b"])
def test_image_names_that_climb_out_are_refused(tmp_path, name):
    path, content = write_instances(tmp_path, {1: (6, 5)}, [])
    content["images"][0]["file_name"] = name
    write_json(tmp_path / "instances.json", content)
    with pytest.raises(DatasetError, match="leads out of"):
        opened(path).images()


def test_panoptic_png_names_that_climb_out_are_refused(tmp_path):
    path, content = write_panoptic(tmp_path, {4: IDS}, {4: SEGMENTS})
    content["annotations"][0]["file_name"] = "../images/4.png"
    write_json(tmp_path / "panoptic.json", content)
    with pytest.raises(DatasetError, match="leads out of"):
        rows(path, "panoptic")


def test_links_that_lead_out_are_refused_unless_allowed(tmp_path):
    inside, outside = tmp_path / "data", tmp_path / "elsewhere"
    path, _ = write_instances(inside, {1: (6, 5)}, [])
    outside.mkdir()
    (inside / "images/1.png").rename(outside / "1.png")
    (inside / "images/1.png").symlink_to(outside / "1.png")
    with pytest.raises(DatasetError, match="by a link"):
        opened(path).images()
    allowed = write_toml(inside, images="images", instances="instances.json", follow_links=True)
    assert opened(allowed).images()[0].path.exists()


def test_a_folder_that_is_itself_a_link_is_followed(tmp_path):
    path, _ = write_instances(tmp_path / "data", {1: (6, 5)}, [])
    (tmp_path / "data/images").rename(tmp_path / "disk")
    (tmp_path / "data/images").symlink_to(tmp_path / "disk")
    assert opened(path).images()[0].path.exists()


def test_missing_annotation_file_names_the_remedy(tmp_path, monkeypatch):
    monkeypatch.setenv("COCO_ROOT", str(tmp_path))
    path = write_toml(tmp_path, instances="none.json")
    with pytest.raises(DatasetError, match=r"none\.json does not exist\. Correct `root` or `instances`"):
        opened(path).images()
    with pytest.raises(DatasetError, match="datasets download coco_val"):
        open_dataset(catalog.find("coco_val")).images()


def test_task_without_annotations_is_refused_with_what_there_is(tmp_path):
    path, _ = write_instances(tmp_path, {1: (6, 5)}, [])
    with pytest.raises(DatasetError, match=r"no panoptic ground truth \(it has: instance\)"):
        rows(path, "panoptic")
