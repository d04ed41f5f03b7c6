"""Pre-annotations for CVAT and Label Studio: read back by slow readers of our own, and as their own tools read them."""

import json
import math
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tests.reference import annotation_exports
from tests.reference.labelled_pets import (
    PREDICTED,
    SIZE,
    Pets,
    write_pets,
    write_pets_instances,
    write_pets_semantic,
)
from workbench import rle
from workbench.cli import main
from workbench.errors import OptionError, TransferError
from workbench.exports import brush_rle
from workbench.exports.annotation import AnnotationOptions, run_lengths
from workbench.exports.api import export
from workbench.polygons import fill
from workbench.transfer_formats import AnnotationFormat

MASKS = st.tuples(st.integers(1, 9), st.integers(1, 9)).flatmap(lambda shape: arrays.arrays(np.bool_, shape))
EXACT = AnnotationOptions(polygons=0.0)


def brush_by_bits(values: list[int], size_hw: tuple[int, int]) -> np.ndarray:
    """Label Studio's run lengths as a mask, bit by bit, as its front end reads them."""
    bits = iter("".join(f"{value:08b}" for value in values))

    def read(count: int) -> int:
        return int("".join(next(bits) for _ in range(count)), 2)

    total, value_bits = read(32), read(5) + 1
    widths = [read(4) + 1 for _ in range(4)]
    found: list[int] = []
    while len(found) < total:
        is_run = read(1)
        length = read(widths[read(2)]) + 1
        found += [read(value_bits)] * length if is_run else [read(value_bits) for _ in range(length)]
    channels = np.array(found).reshape(*size_hw, 4)
    assert (channels == channels[:, :, :1]).all()
    assert set(found) <= {0, 255}
    return np.asarray(channels[:, :, 3] > 0)


def cvat_mask(element: ElementTree.Element) -> np.ndarray:
    """A `<mask>` as a mask of the image: run after run, row by row of its box."""
    left, top, width, height = (int(element.attrib[name]) for name in ("left", "top", "width", "height"))
    values: list[bool] = []
    for index, count in enumerate(element.attrib["rle"].split(", ")):
        values += [index % 2 == 1] * int(count)
    found = np.zeros(SIZE, dtype=np.bool_)
    found[top : top + height, left : left + width] = np.array(values).reshape(height, width)
    return found


def cvat_polygon(element: ElementTree.Element) -> np.ndarray:
    points = [[float(value) for value in pair.split(",")] for pair in element.attrib["points"].split(";")]
    return fill([np.array(points)], *SIZE)


def read_cvat(folder: Path) -> dict[str, list[tuple[str, np.ndarray]]]:
    """Image name -> its labels and masks; the parts of a group are put together."""
    found: dict[str, list[tuple[str, np.ndarray]]] = {}
    for image in ElementTree.parse(folder / "annotations.xml").getroot().iter("image"):
        groups: dict[Any, tuple[str, np.ndarray]] = {}
        for number, element in enumerate(image):
            mask = cvat_mask(element) if element.tag == "mask" else cvat_polygon(element)
            key = element.attrib.get("group_id", f"alone {number}")
            before = groups.get(key, ("", np.zeros(SIZE, dtype=np.bool_)))[1]
            groups[key] = (element.attrib["label"], before | mask)
        found[image.attrib["name"]] = list(groups.values())
    return found


def read_label_studio(folder: Path) -> dict[str, list[tuple[str, np.ndarray]]]:
    found: dict[str, list[tuple[str, np.ndarray]]] = {}
    for task in json.loads((folder / "tasks.json").read_text()):
        segments: dict[str, tuple[str, np.ndarray]] = {}
        for result in task["predictions"][0]["result"]:
            value, key = result["value"], "_".join(result["id"].split("_")[:2])
            assert (result["original_height"], result["original_width"]) == SIZE
            if result["type"] == "brushlabels":
                mask = brush_by_bits(value["rle"], SIZE)
            else:
                mask = fill([np.array(value["points"]) / 100 * SIZE[::-1]], *SIZE)
            before = segments.get(key, ("", np.zeros(SIZE, dtype=np.bool_)))[1]
            segments[key] = (value[result["type"]][0], before | mask)
        found[task["data"]["image"].removeprefix("/data/local-files/?d=")] = list(segments.values())
    return found


READERS = {"cvat": read_cvat, "label-studio": read_label_studio}


def expected(pets: Pets) -> dict[str, list[tuple[str, np.ndarray]]]:
    labels = {category.category_id: category.name for category in pets.run.categories}
    names = {row["image_id"]: row["file_name"] for row in pets.run.images().to_pylist()}
    found: dict[str, list[tuple[str, np.ndarray]]] = {name: [] for name in names.values()}
    for row in pets.run.segments().to_pylist():
        found[names[row["image_id"]]].append((labels[row["category_id"]], rle.decode(row["counts"], *SIZE)))
    return found


@pytest.mark.parametrize("options", [None, EXACT])
@pytest.mark.parametrize("format_", ["cvat", "label-studio"])
@pytest.mark.parametrize("write", [write_pets, write_pets_instances, write_pets_semantic])
def test_every_mask_is_read_back_bit_by_bit(write, format_, options, tmp_path):
    pets = write(tmp_path, evaluated=False)
    found = READERS[format_](export(pets.run, format_, tmp_path / "out", options=options))
    wanted = expected(pets)
    assert found.keys() == wanted.keys()
    for name, segments in wanted.items():
        assert [label for label, _ in found[name]] == [label for label, _ in segments]
        assert all(np.array_equal(mask, other) for (_, mask), (_, other) in zip(found[name], segments, strict=True))


@given(MASKS)
def test_runs_begin_with_zeros_and_go_row_by_row(mask):
    lengths = run_lengths(mask)
    assert np.array_equal(np.repeat(np.arange(len(lengths)) % 2 == 1, lengths), mask.ravel())
    assert (lengths[1:] > 0).all()


@settings(deadline=None)
@given(MASKS)
def test_label_studio_s_run_lengths_are_the_mask(mask):
    assert np.array_equal(brush_by_bits(brush_rle.encode(mask), mask.shape), mask)


@pytest.mark.parametrize("width", [2, 4, 5, 64, 65, 16384, 16385, 40000])
def test_label_studio_s_long_runs_are_written_in_pieces(width):
    mask = np.ones((1, width), dtype=np.bool_)
    assert np.array_equal(brush_by_bits(brush_rle.encode(mask), mask.shape), mask)


def test_low_scores_are_left_out_and_scores_are_said(tmp_path):
    pets = write_pets(tmp_path, evaluated=False)
    options = AnnotationOptions(min_score=0.9)
    root = ElementTree.parse(export(pets.run, "cvat", tmp_path / "cvat", options=options) / "annotations.xml").getroot()
    kept = [score for objects in PREDICTED.values() for _, score in objects.values() if score >= 0.9]
    assert [float(element.text or "") for element in root.iterfind("image/mask/attribute[@name='score']")] == kept
    out = export(pets.run, "label-studio", tmp_path / "ls", options=options)
    tasks = json.loads((out / "tasks.json").read_text())
    assert [r["score"] for task in tasks for r in task["predictions"][0]["result"]] == kept
    assert tasks[0]["predictions"][0]["score"] == pytest.approx((0.95 + 0.99) / 2)


def test_the_task_of_cvat_is_described_with_labels_that_its_editor_takes(tmp_path):
    pets = write_pets(tmp_path, evaluated=False)
    folder = export(pets.run, "cvat", tmp_path / "cvat", options=EXACT)
    specs = json.loads((folder / "labels.json").read_text())
    assert [(spec["name"], spec["type"]) for spec in specs] == [
        ("cat", "polygon"),
        ("dog", "polygon"),
        ("sky", "polygon"),
    ]
    meta = ElementTree.parse(folder / "annotations.xml").getroot().find("meta/task")
    assert meta is not None
    assert [label.findtext("name") for label in meta.iterfind("labels/label")] == ["cat", "dog", "sky"]
    assert meta.findtext("size") == "3"


def test_label_studio_s_configuration_names_what_the_results_name(tmp_path):
    pets = write_pets(tmp_path, evaluated=False)
    for options, tag in ((None, "BrushLabels"), (EXACT, "PolygonLabels")):
        folder = export(pets.run, "label-studio", tmp_path / tag, options=options)
        view = ElementTree.parse(folder / "config.xml").getroot()
        labels = view.find(tag)
        assert labels is not None
        assert [label.attrib["value"] for label in labels] == ["cat", "dog", "sky"]
        result = json.loads((folder / "tasks.json").read_text())[0]["predictions"][0]["result"][0]
        image = view.find("Image")
        assert image is not None
        assert (labels.attrib["name"], labels.attrib["toName"]) == (result["from_name"], result["to_name"])
        assert (image.attrib["name"], image.attrib["value"]) == (result["to_name"], "$image")


@pytest.mark.parametrize("format_", ["cvat", "label-studio"])
def test_names_with_markup_and_blanks_stay_themselves(format_: AnnotationFormat, tmp_path):
    pets = write_pets(tmp_path, evaluated=False)
    categories = [{**entry, "name": f'<{entry["name"]}> & "co"'} for entry in pets.run.manifest["categories"]]
    run = pets.run.updated(categories=categories)
    found = READERS[format_](export(run, format_, tmp_path / "out"))
    assert next(iter(found.values()))[0][0] == '<cat> & "co"'


@pytest.mark.parametrize("format_", ["cvat", "label-studio"])
def test_names_that_no_xml_can_hold_are_refused_and_nothing_is_written(format_: AnnotationFormat, tmp_path):
    pets = write_pets(tmp_path, evaluated=False)
    categories = [{**entry, "name": entry["name"] + "\x1b"} for entry in pets.run.manifest["categories"]]
    with pytest.raises(TransferError, match=r"'cat\\x1b' has characters that XML cannot hold"):
        export(pets.run.updated(categories=categories), format_, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("wrong", [{"polygons": math.nan}, {"polygons": -1}, {"min_score": math.nan}, {"min_score": 2}])
def test_numbers_that_are_none_are_refused(wrong: dict[str, float]):
    with pytest.raises(OptionError, match=next(iter(wrong))):
        AnnotationOptions(**wrong)


GOLDEN = json.loads((Path(__file__).parent / "golden_annotation.json").read_text())


def test_datumaro_reads_the_masks_and_polygons_of_cvat_s_file(tmp_path):
    pets = annotation_exports.write(tmp_path)
    rows = pets.run.segments().to_pylist()
    masks = [rle.decode(row["counts"], *SIZE) for row in rows]
    read = GOLDEN["cvat"]["masks"]["1"]
    assert [entry["type"] for entry in read] == ["mask"] * 4
    assert [entry["place"] for entry in read] == [run_lengths(mask).tolist() for mask in masks]
    assert [entry["label"] for entry in read] == ["cat", "dog", "cat", "cat"]
    assert [entry["attributes"] for entry in read] == [
        {"score": str(row["score"]), "iscrowd": row["iscrowd"]} for row in rows
    ]
    polygons = [fill([np.reshape(entry["place"], (-1, 2))], *SIZE) for entry in GOLDEN["cvat"]["polygons"]["1"]]
    assert len(polygons) == 5  # the last segment has two parts
    assert np.array_equal(polygons[3] | polygons[4], masks[3])
    assert all(np.array_equal(polygon, mask) for polygon, mask in zip(polygons[:3], masks[:3], strict=True))


@pytest.mark.parametrize("kind", ["masks", "polygons"])
def test_cvat_s_file_is_the_one_that_datumaro_read(tmp_path, kind):
    """Numbers of its elements as datumaro gave them back, so that the golden reading stays one of today's file."""
    annotation_exports.write(tmp_path)
    root = ElementTree.parse(tmp_path / f"cvat-{kind}" / "annotations.xml").getroot()
    for image in root.iter("image"):
        read = GOLDEN["cvat"][kind][Path(image.attrib["name"]).stem]
        assert [element.attrib["label"] for element in image] == [entry["label"] for entry in read]
        for element, entry in zip(image, read, strict=True):
            if kind == "masks":
                assert run_lengths(cvat_mask(element)).tolist() == entry["place"]
            else:
                assert [float(v) for v in element.attrib["points"].replace(";", ",").split(",")] == entry["place"]


def test_label_studio_s_own_package_finds_nothing_wrong_and_reads_the_same(tmp_path):
    annotation_exports.write(tmp_path)
    for kind in ("masks", "polygons"):
        tasks = json.loads((tmp_path / f"label-studio-{kind}" / "tasks.json").read_text())
        for task, golden in zip(tasks, GOLDEN["label_studio"][kind], strict=True):
            assert golden["problems"] == []
            assert task["data"]["image_id"] == golden["image_id"]
            for result, read in zip(task["predictions"][0]["result"], golden["regions"], strict=True):
                assert result["value"][result["type"]] == read["label"]
                if kind == "polygons":
                    assert result["value"]["points"] == read["place"]
                    continue
                assert result["value"]["rle"] == read["rle"]  # byte for byte what the package writes
                assert run_lengths(brush_by_bits(read["rle"], SIZE)).tolist() == read["place"]


def test_options_are_refused_where_they_would_do_nothing(tmp_path):
    pets = write_pets(tmp_path, evaluated=False)
    with pytest.raises(OptionError, match="cvat and label-studio"):
        export(pets.run, "coco-panoptic", tmp_path / "out", options=EXACT)


def test_what_is_there_is_kept_unless_told_otherwise(tmp_path):
    pets = write_pets(tmp_path, evaluated=False)
    for format_ in ("cvat", "label-studio"):
        export(pets.run, format_, tmp_path / format_)
        with pytest.raises(TransferError):
            export(pets.run, format_, tmp_path / format_)
        export(pets.run, format_, tmp_path / format_, overwrite=True)


def test_the_command_writes_both_formats(tmp_path):
    pets = write_pets(tmp_path, evaluated=False)
    for format_, file in (("cvat", "annotations.xml"), ("label-studio", "tasks.json")):
        arguments = ["export", str(pets.run.path), "--format", format_, "--out", str(tmp_path / format_), "--polygons"]
        result = CliRunner().invoke(main, [*arguments, "--min-score", "0.5", "--json"])
        assert result.exit_code == 0, result.output
        assert (tmp_path / format_ / file).exists()


def test_the_prefix_is_what_label_studio_finds_before_a_file_s_name(tmp_path):
    pets = write_pets(tmp_path, evaluated=False)
    options = AnnotationOptions(image_prefix="s3://bucket/")
    tasks = json.loads((export(pets.run, "label-studio", tmp_path / "out", options=options) / "tasks.json").read_text())
    names = [row["file_name"] for row in pets.run.images().to_pylist()]
    assert [task["data"]["image"] for task in tasks] == [f"s3://bucket/{name}" for name in names]
