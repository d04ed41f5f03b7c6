"""Label maps, index and instance-id ones, become rows; unlabelled folders have images and no ground truth."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.conftest import REPOSITORY
from tests.reference.ground_truth_rows import class_map, masks, opened, picked, rows, tables
from tests.reference.small_datasets import (
    write_classes,
    write_image,
    write_json,
    write_labels,
    write_semantic,
    write_toml,
)
from workbench.errors import DatasetError

LABELS = [[2, 2, 0], [1, 2, 255]]


def test_one_row_a_class_ranked_by_label_and_one_for_the_void(tmp_path):
    path = write_semantic(tmp_path, {"a": LABELS}, void=[0])
    found = rows(path, "semantic")
    assert picked(found, "segment_id", "ordinal", "category_id", "source_id", "isthing", "area", "declared_area") == [
        (1, 0, 1, 1, False, 1, None),
        (2, 1, 2, 2, True, 3, None),
        (0, 2, -1, None, False, 2, None),  # 0 and the ignore index, together
    ]
    assert masks(found)[2] == [[0, 0, 1], [0, 0, 1]]
    assert picked(found, "bbox") == [([0, 1, 1, 1],), ([0, 0, 2, 2],), ([2, 0, 1, 2],)]


def test_ignore_index_is_an_ordinary_class_where_the_table_has_it(tmp_path):
    path = write_semantic(tmp_path, {"a": LABELS}, void=[0])
    write_classes(tmp_path / "classes.csv", "1,wall,0\n2,door,1\n255,sign,1\n")
    assert picked(rows(path, "semantic"), "category_id", "area") == [(1, 1), (2, 3), (255, 1), (-1, 1)]


def test_zero_can_be_a_class_and_void_any_label(tmp_path):
    path = write_semantic(tmp_path, {"a": [[0, 11], [1, 11]]}, void=[11])
    write_classes(tmp_path / "classes.csv", "0,sky,0\n1,road,0\n")
    assert picked(rows(path, "semantic"), "category_id", "segment_id") == [(0, 1), (1, 2), (-1, 0)]


def test_labels_of_the_class_table_stand_in_for_category_ids(tmp_path):
    path = write_semantic(tmp_path, {"a": [[1, 2]]})
    write_classes(tmp_path / "classes.csv", "70,sky,0,2\n80,road,0,1\n", "category_id,name,isthing,label")
    assert picked(rows(path, "semantic"), "category_id", "source_id") == [(80, 1), (70, 2)]


def test_more_classes_than_the_ignore_index_do_not_vanish(tmp_path):
    """`eomt.label_maps` drops a label whose value minus one is the ignore index; readers relabel so that none is."""
    labels = np.arange(300).reshape(15, 20) + 1
    path = write_semantic(tmp_path, {"a": np.zeros((15, 20), np.uint8)}, ignore_index=-1)
    write_labels(tmp_path / "labels/a.png", labels, np.uint16)
    write_classes(tmp_path / "classes.csv", "".join(f"{i},class {i},0\n" for i in range(1, 301)))
    assert picked(rows(path, "semantic"), "category_id") == [(i,) for i in range(1, 301)]


@pytest.mark.parametrize("mode", ["L", "P", "I;16", "1"])
def test_every_one_channel_png_is_read_by_its_values(tmp_path, mode):
    labels = np.array(LABELS if mode != "1" else [[1, 0, 0], [1, 1, 0]])
    path = write_semantic(tmp_path, {"a": labels}, void=[0])
    if mode == "P":
        image = Image.fromarray(labels.astype(np.uint8))
        image = image.convert("P")
        image.putdata(labels.ravel().tolist())
    else:
        image = Image.fromarray(labels.astype({"I;16": np.uint16, "1": bool}.get(mode, np.uint8)))
    image.save(tmp_path / "labels/a.png")
    with Image.open(tmp_path / "labels/a.png") as saved:
        assert saved.mode == mode
    expected = {int(label) for label in np.unique(labels)} - {0, 255}
    assert {row["source_id"] for row in rows(path, "semantic")} == expected | {None}


def test_coloured_label_map_unknown_label_and_missing_map_are_refused(tmp_path):
    path = write_semantic(tmp_path, {"a": [[1, 9]]})
    with pytest.raises(DatasetError, match="image a: its label map holds 9"):
        rows(path, "semantic")
    write_image(tmp_path / "labels/a.png", (1, 2))
    with pytest.raises(DatasetError, match="has the mode RGB"):
        rows(path, "semantic")
    (tmp_path / "labels/a.png").unlink()
    with pytest.raises(DatasetError, match="does not exist"):
        rows(path, "semantic")


def test_images_in_subfolders_have_their_path_as_id(tmp_path):
    for city in ("ulm", "aachen"):
        write_image(tmp_path / f"images/{city}/{city}_1_leftImg8bit.png", (1, 2))
        write_labels(tmp_path / f"labels/{city}/{city}_1_gtFine_labelIds.png", [[1, 2]])
        write_labels(tmp_path / f"labels/{city}/{city}_1_gtFine_instanceIds.png", [[1, 2]])
    write_image(tmp_path / "images/preview.png", (1, 2))  # lacks the suffix: no image of the dataset
    write_classes(tmp_path / "classes.csv")
    path = write_toml(
        tmp_path,
        format="ade20k",
        images="images",
        images_suffix="_leftImg8bit",
        annotations="labels",
        annotations_suffix="_gtFine_labelIds.png",
        classes="classes.csv",
    )
    records = opened(path).images()
    assert [(image.image_id, image.ordinal) for image in records] == [("aachen/aachen_1", 0), ("ulm/ulm_1", 1)]
    assert records[0].file_name == "aachen/aachen_1_leftImg8bit.png"
    assert picked(rows(path, "semantic"), "image_id", "category_id")[0] == ("aachen/aachen_1", 1)
    assert opened(path).problems() == []


def test_two_files_with_one_stem_are_refused(tmp_path):
    path = write_semantic(tmp_path, {"a": [[1]]})
    write_image(tmp_path / "images/a.png", (1, 1))
    with pytest.raises(DatasetError, match=r"a\.jpg and a\.png both are image a"):
        opened(path).images()


@pytest.mark.parametrize("definition", ["ade20k_sample", "camvid_val"])
def test_rows_paint_the_label_maps_of_real_data(shared_data, definition):
    path = REPOSITORY / f"tests/definitions/{definition}.toml"
    void = opened(path).definition.void[0]
    table = rows(path, "semantic")
    for record in opened(path).images()[::20]:
        official = np.asarray(Image.open(Path(str(record.path).replace("images", "annotations")).with_suffix(".png")))
        painted = class_map([row for row in table if row["image_id"] == record.image_id])
        assert np.array_equal(painted, np.where(official == void, -1, official.astype(int)))


def test_panoptic_and_instance_files_join_the_label_maps_by_stem_and_offset(tmp_path):
    """As Mask2Former's preparation of ADE20K writes them: image ids are stems, categories count from 0."""
    path = write_semantic(
        tmp_path,
        {"a": LABELS},
        void=[0],
        category_id_offset=1,
        panoptic="p.json",
        instances="i.json",
        optional=["panoptic"],
    )
    head = {
        "images": [{"id": "a", "file_name": "a.jpg", "height": 2, "width": 3}],
        "categories": [{"id": 0, "name": "wall", "isthing": 0}, {"id": 1, "name": "door", "isthing": 1}],
    }
    mask = {"size": [2, 3], "counts": [0, 1, 1, 2, 2]}
    write_json(
        tmp_path / "i.json",
        {**head, "annotations": [{"id": 1, "image_id": "a", "category_id": 1, "segmentation": mask}]},
    )
    assert opened(path).tasks == ("instance", "semantic")
    assert picked(rows(path, "instance"), "image_id", "category_id", "area") == [("a", 2, 3)]
    infos = [{"id": 500, "category_id": 0}, {"id": 2, "category_id": 1}]
    write_json(
        tmp_path / "p.json", {**head, "annotations": [{"image_id": "a", "file_name": "a.png", "segments_info": infos}]}
    )
    (tmp_path / "p").mkdir()
    ids = np.array([[2, 2, 0], [500, 2, 0]])
    Image.fromarray(np.stack([ids % 256, ids // 256, 0 * ids], -1).astype(np.uint8)).save(tmp_path / "p/a.png")
    assert opened(path).tasks == ("panoptic", "instance", "semantic")
    assert picked(rows(path, "panoptic"), "category_id", "isthing") == [(2, True), (1, False), (-1, False)]
    assert picked(rows(path, "semantic"), "category_id") == [(1,), (2,), (-1,)]  # still the label maps' own


# Instance-id maps


INSTANCE_IDS = [[5, 5, 300], [9, 0, 300]]


def write_instance_maps(folder: Path, content: Any, **keys: Any) -> Path:
    path = write_semantic(folder, {"a": [[0, 0, 0]] * 2}, instance_id_to_semantic_id="map.json", **keys)
    write_labels(folder / "labels/a.png", INSTANCE_IDS, np.uint16)
    write_json(folder / "map.json", content)
    return path


@pytest.mark.parametrize("content", [{"5": 2, "9": 1, "300": 2}, {"a": {"5": 2, "9": 1, "300": 2}}])
def test_instance_ids_give_all_three_kinds_of_ground_truth(tmp_path, content):
    path = write_instance_maps(tmp_path, content)
    assert opened(path).tasks == ("panoptic", "instance", "semantic")
    assert picked(rows(path, "panoptic"), "segment_id", "source_id", "category_id", "isthing", "area") == [
        (1, 5, 2, True, 2),
        (2, 9, 1, False, 1),
        (3, 300, 2, True, 2),
        (0, None, -1, False, 1),
    ]
    assert picked(rows(path, "instance"), "segment_id", "source_id") == [(1, 5), (2, 300)]
    assert picked(rows(path, "semantic"), "category_id", "area") == [(1, 1), (2, 4), (-1, 1)]


def test_an_instance_id_is_never_taken_for_the_ignore_index(tmp_path):
    for ignore_index in (4, 5, 8, 9, 255, 299, 300):
        path = write_instance_maps(tmp_path, {"5": 2, "9": 1, "300": 2}, ignore_index=ignore_index)
        assert picked(rows(path, "panoptic"), "source_id") == [(5,), (9,), (300,), (None,)]


def test_instance_id_without_a_known_class_is_refused(tmp_path):
    for content in ({"5": 2, "9": 1}, {"5": 2, "9": 1, "300": 77}):
        with pytest.raises(DatasetError, match="image a: its label map holds 300"):
            rows(write_instance_maps(tmp_path, content), "panoptic")


@pytest.mark.parametrize(
    ("content", "message"),
    [([1], "not a map"), ({"x": 1}, "not a map"), ({"5": "2"}, "not a map"), ({"b": {"5": 2}}, "no map for 1 images")],
)
def test_what_is_no_instance_map_is_refused(tmp_path, content, message):
    with pytest.raises(DatasetError, match=message):
        rows(write_instance_maps(tmp_path, content), "panoptic")


# Unlabelled folders


def test_unlabelled_folder_lists_images_and_has_no_ground_truth(tmp_path):
    for name in ("b.jpg", "a.PNG", "sub/c.webp"):
        write_image(tmp_path / "photos" / name, (2, 3))
    (tmp_path / "photos/notes.txt").touch()
    (tmp_path / "photos/.hidden.jpg").touch()
    dataset = opened(write_toml(tmp_path, format="images", images="photos"))
    assert [image.image_id for image in dataset.images()] == ["a", "b", "sub/c"]
    assert (dataset.tasks, dataset.categories) == ((), ())
    with pytest.raises(DatasetError, match="unlabelled images"):
        next(dataset.ground_truth("semantic"))


def test_unlabelled_folder_with_a_class_table_has_categories(tmp_path):
    write_image(tmp_path / "photos/a.jpg", (2, 3))
    write_classes(tmp_path / "classes.csv")
    dataset = opened(write_toml(tmp_path, format="images", images="photos", classes="classes.csv"))
    assert [category.name for category in dataset.categories] == ["wall", "door", "cat"]


def test_missing_folder_of_images_is_told(tmp_path):
    with pytest.raises(DatasetError, match="no such folder of images"):
        opened(write_toml(tmp_path, format="images", images="photos")).images()


def test_links_that_lead_out_of_the_folder_are_refused(tmp_path):
    write_image(tmp_path / "elsewhere/a.jpg", (2, 3))
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/a.jpg").symlink_to(tmp_path / "elsewhere/a.jpg")
    with pytest.raises(DatasetError, match="by a link"):
        opened(write_toml(tmp_path, format="images", images="photos")).images()
    assert len(opened(write_toml(tmp_path, format="images", images="photos", follow_links=True)).images()) == 1


def test_image_table_follows_the_list_of_images(tmp_path):
    path = write_semantic(tmp_path, {"b": [[1, 1]], "a": [[2], [2]]})
    assert picked(tables(path, "semantic")[1].to_pylist(), "image_id", "file_name", "height", "width", "ordinal") == [
        ("a", "a.jpg", 2, 1, 0),
        ("b", "b.jpg", 1, 2, 1),
    ]


def test_per_image_maps_name_images_in_subfolders_by_their_id(tmp_path):
    write_image(tmp_path / "images/x/a.jpg", (1, 2))
    write_labels(tmp_path / "labels/x/a.png", [[1, 2]])
    write_classes(tmp_path / "classes.csv")
    (tmp_path / "map.json").write_text(json.dumps({"x/a": {"1": 3, "2": 3}}))
    keys = {"images": "images", "annotations": "labels", "classes": "classes.csv"}
    path = write_toml(tmp_path, format="ade20k", instance_id_to_semantic_id="map.json", **keys)
    assert picked(rows(path, "semantic"), "image_id", "category_id", "area") == [("x/a", 3, 2)]
