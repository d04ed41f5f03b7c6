"""One pass finds every kind of defect, tells each once, and agrees with what the readers refuse."""

import functools
import json
import operator
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from eomt.errors import ImageInputError
from eomt.image_inputs import rgb_tensor
from tests.conftest import REPOSITORY
from tests.reference.ground_truth_rows import opened
from tests.reference.small_datasets import (
    write_ids,
    write_image,
    write_instances,
    write_json,
    write_labels,
    write_panoptic,
    write_semantic,
    write_toml,
)
from workbench import catalog
from workbench.curation.check import Report, check
from workbench.errors import DatasetError
from workbench.formats.problems import KINDS

SEGMENTS = [{"id": 1, "category_id": 1}, {"id": 2, "category_id": 90}]
SQUARE = [[1, 1, 4, 1, 4, 4, 1, 4]]


def checked(path: Path) -> Report:
    return check(catalog.read(path))


def codes(path: Path) -> dict[str, int]:
    return {finding.code: finding.count for finding in checked(path).findings}


def panoptic(folder: Path, **keys: Any) -> tuple[Path, dict[str, Any]]:
    path, content = write_panoptic(folder, {4: [[1, 2, 0]], 5: [[1, 2, 2]]}, {4: SEGMENTS, 5: SEGMENTS}, **keys)
    return path, json.loads(json.dumps(content))


def annotation(annotation_id: int, **keys: Any) -> dict[str, Any]:
    return {"id": annotation_id, "image_id": 1, "category_id": 1, "area": 9, "segmentation": SQUARE, **keys}


def test_sound_dataset_has_no_findings(tmp_path):
    report = checked(panoptic(tmp_path)[0])
    assert (report.ok, report.images, report.segments, report.findings) == (True, 2, {"panoptic": 4}, ())


def test_real_data_has_only_the_oddities_that_its_readme_names(shared_data):
    definitions = sorted((REPOSITORY / "tests/definitions").glob("*.toml"))
    found = {path.stem: codes(path) for path in definitions if path.stem != "camvid_train"}
    assert {name: odd for name, odd in found.items() if odd} == {
        "coco_ap_reference": {"area_differs": 8, "no_images_folder": 1},
        "coco_tiny_instances_train": {"area_differs": 5},
        "coco_tiny_instances_val": {"area_differs": 7},
    }


def test_bundled_data_is_sound():
    assert [codes(catalog.find(name).source) for name in ("scenes_val", "scenes_semantic_val")] == [{}, {}]


def test_each_kind_is_told_once_with_a_count_and_five_examples(tmp_path):
    annotations = [annotation(i, segmentation=[]) for i in range(1, 40)]
    (finding,) = checked(write_instances(tmp_path, {1: (6, 5)}, annotations)[0]).findings
    assert (finding.code, finding.severity, finding.count, len(finding.examples)) == ("no_mask", "error", 39, 5)
    assert finding.examples[0] == "image 1, annotation 1: segmentation is []"
    assert finding.advice == KINDS["no_mask"].advice


def test_defects_of_images(tmp_path):
    path, content = panoptic(tmp_path)
    content["images"][0]["height"] = 9
    write_json(tmp_path / "panoptic.json", content)
    (tmp_path / "images/5.png").write_bytes(b"no image")
    assert codes(path) == {"image_size": 1, "image_undecodable": 1, "map_size": 1}
    (tmp_path / "images/5.png").unlink()
    assert codes(path)["image_missing"] == 1


def test_a_folder_without_images_is_an_error(tmp_path):
    (tmp_path / "images").mkdir()
    (finding,) = checked(write_toml(tmp_path, format="images", images="images")).findings
    assert (finding.code, finding.severity, finding.count) == ("no_images", "error", 1)
    assert str(tmp_path / "images") in finding.examples[0]


def test_images_that_predict_refuses_are_found(tmp_path):
    (tmp_path / "images").mkdir()
    Image.new("I;16", (50, 40)).save(tmp_path / "images/deep.png")
    (finding,) = checked(write_toml(tmp_path, format="images", images="images")).findings
    assert (finding.code, finding.severity) == ("image_mode", "error")
    assert "deep.png has mode 'I;16', more than 8 bits" in finding.examples[0]


def test_an_image_beyond_the_pixel_limit_is_found_unless_the_limit_is_raised(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    write_image(tmp_path / "images/large.png", (20, 20))
    path = write_toml(tmp_path, format="images", images="images")
    (finding,) = checked(path).findings
    assert (finding.code, finding.severity) == ("image_too_large", "error")
    assert "WORKBENCH_MAX_PIXELS" in finding.advice
    with pytest.raises(ImageInputError, match=r"too many pixels.*WORKBENCH_MAX_PIXELS"):
        rgb_tensor(tmp_path / "images/large.png")
    monkeypatch.setenv("WORKBENCH_MAX_PIXELS", "800")
    assert codes(path) == {}
    monkeypatch.setenv("WORKBENCH_MAX_PIXELS", "many")
    with pytest.raises(DatasetError, match="WORKBENCH_MAX_PIXELS is 'many'"):
        checked(path)


def test_truncated_jpeg_is_found(tmp_path):
    path = write_semantic(tmp_path, {"a": np.ones((64, 64))})
    assert codes(path) == {}
    file = tmp_path / "images/a.jpg"
    file.write_bytes(file.read_bytes()[:-200])
    assert codes(path) == {"image_undecodable": 1}


def test_exif_rotation_is_a_warning(tmp_path):
    path = write_semantic(tmp_path, {"a": [[1, 1]]})
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (2, 1)).save(tmp_path / "images/a.jpg", exif=exif)
    report = checked(path)
    assert (report.ok, [finding.code for finding in report.findings]) == (True, ["image_rotated"])


def test_ids_that_json_and_png_do_not_share(tmp_path):
    path, _ = panoptic(tmp_path)
    write_ids(tmp_path / "panoptic/4.png", [[1, 77, 0]])
    report = checked(path)
    assert {finding.code: finding.severity for finding in report.findings} == {
        "segment_unlisted": "error",
        "segment_unpainted": "warning",
    }
    assert "image 4: segment 77 is painted" in report.findings[0].examples[0]


def test_defects_of_panoptic_records(tmp_path):
    path, content = panoptic(tmp_path)
    content["annotations"][0]["segments_info"] += [
        {"id": 1, "category_id": 1},
        {"id": 0, "category_id": 1},
        {"id": 8, "category_id": 3},
        "nonsense",
    ]
    content["annotations"].append(content["annotations"][1])
    content["annotations"].append({**content["annotations"][1], "image_id": 99})
    content["images"].append({"id": 6, "file_name": "../6.png"})
    content["images"].append({"id": 7, "file_name": "5.png", "height": 1, "width": 3})
    content["images"].append(content["images"][0])
    content["categories"].append(content["categories"][0])
    write_json(tmp_path / "panoptic.json", content)
    assert codes(path) == {
        "duplicate_segment": 1,
        "segment_void_id": 1,
        "unknown_category": 1,
        "bad_record": 1,
        "duplicate_annotation": 1,
        "annotation_of_no_image": 1,
        "unsafe_name": 1,
        "duplicate_image": 1,
        "duplicate_category": 1,
        "image_unannotated": 1,
    }


WRONG_VALUES = [
    ("iscrowd", "no", "'no'"),
    ("iscrowd", 2, "2"),
    ("iscrowd", None, "None"),
    ("isthing", "yes", "'yes'"),
    ("area", "9", "'9'"),
    ("area", float("nan"), "nan"),
    ("bbox", "x", "'x'"),
    ("bbox", [0, 0, 4], "[0, 0, 4]"),
]


@pytest.mark.parametrize(("key", "value", "shown"), WRONG_VALUES)
def test_an_instance_with_a_value_of_the_wrong_type_is_found_and_refused(tmp_path, key, value, shown):
    path, _ = write_instances(tmp_path, {1: (6, 5)}, [annotation(1), annotation(2, **{key: value})])
    (finding,) = checked(path).findings
    assert (finding.code, finding.severity, finding.count) == ("bad_record", "error", 1)
    assert f"annotation 2 has `{key}` {shown}, not " in finding.examples[0]
    with pytest.raises(DatasetError, match=f"annotation 2 has `{key}`.*correct its value"):
        list(opened(path).ground_truth("instance"))


@pytest.mark.parametrize(("key", "value", "shown"), WRONG_VALUES)
def test_a_segment_with_a_value_of_the_wrong_type_is_found_and_refused(tmp_path, key, value, shown):
    path, content = panoptic(tmp_path)
    content["annotations"][0]["segments_info"][1][key] = value
    write_json(tmp_path / "panoptic.json", content)
    (finding,) = checked(path).findings
    assert (finding.code, finding.severity, finding.count) == ("bad_record", "error", 1)
    assert f"image 4: segment 2 has `{key}` {shown}, not " in finding.examples[0]
    with pytest.raises(DatasetError, match=f"segment 2 has `{key}`.*correct its value"):
        list(opened(path).ground_truth("panoptic"))


def test_a_category_that_is_neither_thing_nor_stuff_is_found(tmp_path):
    path, content = panoptic(tmp_path)
    content["categories"].append({"id": 5, "name": "fog", "isthing": "no"})
    write_json(tmp_path / "panoptic.json", content)
    (finding,) = checked(path).findings
    assert finding.code == "bad_record"
    assert "category 5 has `isthing` 'no', not " in finding.examples[0]


@pytest.mark.parametrize(("given", "crowd"), [({}, False), ({"iscrowd": 0}, False), ({"iscrowd": True}, True)])
def test_crowds_are_marked_by_0_and_1_or_true_and_false(tmp_path, given, crowd):
    path, _ = write_instances(tmp_path, {1: (6, 5)}, [annotation(1, **given)])
    assert codes(path) == {}
    ((segments, _),) = opened(path).ground_truth("instance")
    assert segments["iscrowd"].to_pylist() == [crowd]


def test_defects_of_label_maps(tmp_path):
    labels = {"a": [[1, 9]], "b": [[1]], "c": [[1]], "d": [[1]], "e": [[1]]}
    path = write_semantic(tmp_path, labels)
    (tmp_path / "labels/b.png").unlink()
    write_image(tmp_path / "labels/c.png", (1, 1))
    (tmp_path / "labels/d.png").write_bytes(b"broken")
    write_labels(tmp_path / "labels/e.png", [[1], [1]])
    write_labels(tmp_path / "labels/z.png", [[1]])
    assert codes(path) == {
        "unknown_label": 1,
        "map_missing": 1,
        "map_mode": 1,
        "map_undecodable": 1,
        "map_size": 1,
        "map_of_no_image": 1,
    }


def test_defects_of_instances(tmp_path):
    annotations = [
        annotation(0),
        annotation(3),
        annotation(3),
        annotation(4, image_id=9),
        annotation(5, category_id=2),
        annotation(6, area=30),
        annotation(7, segmentation=[*SQUARE, [2, 2, 3, 3]]),
        annotation(8, segmentation={"size": [6, 5], "counts": [30]}, area=0),
        annotation(9, segmentation={"size": [6, 5], "counts": [29]}),
    ]
    del annotations[1]["area"]
    path, _ = write_instances(tmp_path, {1: (6, 5)}, annotations)
    report = checked(path)
    assert {finding.code: (finding.severity, finding.count) for finding in report.findings} == {
        "id_zero": ("warning", 1),
        "duplicate_id": ("error", 1),
        "instance_of_no_image": ("warning", 1),
        "unknown_category": ("error", 1),
        "area_missing": ("warning", 1),
        "area_differs": ("warning", 1),
        "odd_polygon": ("warning", 1),
        "empty_mask": ("warning", 1),
        "bad_mask": ("error", 1),
    }
    assert [finding.severity for finding in report.findings] == ["error"] * 3 + ["warning"] * 6


def test_all_missing_files_are_found_together(tmp_path):
    path = write_toml(tmp_path, images="images", panoptic="p.json", instances="i.json")
    (finding,) = checked(path).findings
    assert (finding.code, finding.count) == ("file_missing", 3)


def test_missing_images_do_not_hide_defects_of_annotations(tmp_path):
    path, _ = write_instances(tmp_path, {1: (6, 5)}, [annotation(1, segmentation=[])])
    (tmp_path / "images/1.png").unlink()
    (tmp_path / "images").rmdir()
    assert codes(path) == {"file_missing": 1, "image_missing": 1, "no_mask": 1}


def test_missing_optional_file_is_a_warning(tmp_path):
    path = write_semantic(tmp_path, {"a": [[1]]}, panoptic="p.json", optional=["panoptic"])
    report = checked(path)
    assert (report.ok, codes(path)) == (True, {"optional_missing": 1})


def test_unreadable_json_is_a_finding(tmp_path):
    path, _ = panoptic(tmp_path)
    (tmp_path / "panoptic.json").write_text("{")
    assert codes(path) == {"unreadable": 1}


def test_files_that_disagree_are_a_warning(tmp_path):
    write_instances(tmp_path, {4: (2, 2)}, [])
    path, _ = panoptic(tmp_path, instances="instances.json")
    assert codes(path) == {"image_disagreement": 1}


def test_unlabelled_images_are_checked_too(tmp_path):
    write_image(tmp_path / "photos/a.jpg", (2, 2))
    (tmp_path / "photos/b.jpg").write_bytes(b"")
    report = checked(write_toml(tmp_path, format="images", images="photos"))
    assert (report.images, [finding.code for finding in report.findings]) == (2, ["image_undecodable"])


def test_progress_reaches_the_end(tmp_path):
    told = {}
    check(catalog.read(panoptic(tmp_path)[0]), lambda what, done, total: told.update({what: (done, total)}))
    assert told == {"images": (2, 2), "panoptic annotations": (2, 2)}


@pytest.mark.parametrize("code", [code for code, kind in KINDS.items() if kind.refused and code.startswith("map_")])
def test_what_the_reader_refuses_the_check_calls_an_error(tmp_path, code):
    path = write_semantic(tmp_path, {"a": [[1, 2]]})
    file = tmp_path / "labels/a.png"
    bend = {
        "map_missing": file.unlink,
        "map_undecodable": lambda: file.write_bytes(b"broken"),
        "map_mode": lambda: write_image(file, (1, 2)),
        "map_size": lambda: write_labels(file, [[1], [2]]),
    }
    bend[code]()
    report = checked(path)
    assert (report.ok, [finding.code for finding in report.findings]) == (False, [code])
    if code != "map_size":  # the size of the image itself is read by the check alone
        with pytest.raises(DatasetError):
            list(opened(path).ground_truth("semantic"))


JUNK: list[Any] = [
    None,
    True,
    -1,
    1,
    2**70,
    3.5,
    float("inf"),
    "",
    "1",
    "../x",
    "é\0",
    [],
    [[]],
    {},
    {"a": 1},
    [[None] * 6],
]


def places(content: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where a value stands in nested lists and dictionaries, as keys from the outside in."""
    if path:
        yield path
    children = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in children:
        yield from places(value, (*path, key))


def damaged(content: Any, chance: random.Random) -> Any:
    """A copy with one value removed, doubled or replaced by junk."""
    content = json.loads(json.dumps(content))
    *outer, key = chance.choice(list(places(content)))
    parent = functools.reduce(operator.getitem, outer, content)
    action = chance.random()
    if action < 0.2:
        del parent[key]
    elif action < 0.3 and isinstance(parent, list):
        parent.append(parent[key])
    else:
        parent[key] = chance.choice(JUNK)
    return content


@pytest.mark.parametrize("file", ["panoptic.json", "instances.json"])
def test_any_damage_to_a_json_is_a_finding_and_what_is_refused_is_an_error(tmp_path, file):
    masks = [SQUARE, {"size": [1, 3], "counts": [1, 2]}, {"size": [1, 3], "counts": "12"}]
    annotations = [annotation(number, segmentation=mask, image_id=4) for number, mask in enumerate(masks, start=1)]
    write_instances(tmp_path, {4: (1, 3), 5: (1, 3)}, annotations)
    path, _ = panoptic(tmp_path, instances="instances.json")
    sound = json.loads((tmp_path / file).read_text())
    chance = random.Random(0)
    for _ in range(100):
        write_json(tmp_path / file, damaged(sound, chance))
        report = checked(path)
        try:
            for task in ("panoptic", "instance", "semantic"):
                list(opened(path).ground_truth(task))
        except DatasetError:
            assert not report.ok
