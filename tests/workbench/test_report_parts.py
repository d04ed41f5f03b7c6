"""Parts of a report: crops and outlines, which cases are shown, charts without inline styles, curves, sentences."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from workbench.evaluation.headlines import paths
from workbench.evaluation.matches import MATCH_SCHEMA
from workbench.report import charts, overlays
from workbench.report.content import Confused, ErrorRow
from workbench.report.curves import SizeSlice, size_slices
from workbench.report.markdown import escaped
from workbench.report.provenance import without_folders
from workbench.report.selection import error_groups
from workbench.report.svg import PALETTE, printable
from workbench.report.words import label

GREY = Image.new("RGB", (80, 60), (100, 100, 100))


def mask_at(top: int, left: int, height: int, width: int, size_hw: tuple[int, int] = (60, 80)) -> np.ndarray:
    mask = np.zeros(size_hw, dtype=bool)
    mask[top : top + height, left : left + width] = True
    return mask


@pytest.mark.parametrize("box", [(0, 0, 1, 1), (59, 79, 1, 1), (10, 20, 30, 5), (0, 0, 60, 80), (30, 0, 1, 80)])
def test_a_crop_lies_in_the_image_and_holds_the_whole_mask(box):
    mask = mask_at(*box)
    x, y, width, height = overlays.window_around([mask], mask.shape)
    assert x >= 0 and y >= 0 and x + width <= 80 and y + height <= 60
    assert mask[y : y + height, x : x + width].sum() == mask.sum()


def test_a_crop_around_a_small_object_shows_its_surroundings_and_one_around_nothing_the_image():
    assert overlays.window_around([mask_at(30, 40, 2, 2)], (60, 80))[2:] == (48, 36)
    assert overlays.window_around([np.zeros((60, 80), dtype=bool)], (60, 80)) == (0, 0, 80, 60)
    assert overlays.window_around([], (60, 80)) == (0, 0, 80, 60)


def test_a_shape_is_outlined_in_its_colour_and_tinted_within():
    drawn = np.asarray(overlays.draw(GREY, [overlays.Shape(mask_at(10, 10, 20, 20), (255, 0, 0))], 80))
    assert drawn.shape == (60, 80, 3)
    assert drawn[10, 20].tolist() == [255, 0, 0]
    assert drawn[11, 20].tolist() == [255, 255, 255]
    assert drawn[20, 20].tolist() == [159, 62, 62]  # 38 % of red over grey
    assert drawn[40, 40].tolist() == [100, 100, 100]


def test_what_is_not_the_focus_stays_faint():
    shapes = [overlays.Shape(mask_at(10, 10, 20, 20), (255, 0, 0), focus=False)]
    assert np.asarray(overlays.draw(GREY, shapes, 80))[10, 20].tolist() == [116, 90, 90]


def test_a_mask_of_one_pixel_is_still_seen_when_the_image_shrinks():
    large = Image.new("RGB", (800, 600), (100, 100, 100))
    shapes = [overlays.Shape(mask_at(300, 400, 1, 1, (600, 800)), (255, 0, 0))]
    drawn = np.asarray(overlays.draw(large, shapes, 100))
    assert (drawn == [255, 0, 0]).all(axis=2).any()


def match_rows(folder, rows):
    """(image, kind, segment, score, area, status, error type) -> matches.parquet."""
    names = ("image_id", "kind", "segment_id", "score", "area", "status", "error_type")
    records = [dict(zip(names, row, strict=True), task="panoptic", category_id=1) for row in rows]
    pq.write_table(pa.Table.from_pylist(records, schema=MATCH_SCHEMA), folder / "matches.parquet")


def test_errors_with_the_highest_score_come_first_and_other_images_before_the_same_one(tmp_path):
    shown = [("a", 1, 0.9), ("a", 2, 0.8), ("b", 1, 0.7), ("c", 1, 0.95)]
    match_rows(tmp_path, [(i, "prediction", s, score, 10, "fp", "background") for i, s, score in shown])
    (group,) = error_groups(tmp_path, "panoptic", 4)
    assert (group.name, group.total) == ("background", 4)
    found = [(example.image_id, example.segment_id) for example in group.examples]
    assert found == [("c", 1), ("a", 1), ("b", 1), ("a", 2)]


def test_missed_segments_are_shown_by_size_and_matched_ones_not_at_all(tmp_path):
    rows = [(str(area), "ground_truth", 1, None, area, "fn", "missed") for area in (5, 50, 500)]
    match_rows(tmp_path, [*rows, ("x", "prediction", 1, 0.9, 10, "tp", "matched")])
    (group,) = error_groups(tmp_path, "panoptic", 2)
    assert ([example.area for example in group.examples], group.total) == ([500, 50], 3)


def test_without_error_types_false_positives_and_negatives_are_shown(tmp_path):
    match_rows(
        tmp_path,
        [("a", "prediction", 1, 0.9, 10, "fp", "background"), ("a", "ground_truth", 1, None, 9, "fn", "missed")],
    )
    older = pq.read_table(tmp_path / "matches.parquet").drop_columns(["error_type", "error_segment_id"])
    pq.write_table(older, tmp_path / "matches.parquet")
    assert [group.name for group in error_groups(tmp_path, "panoptic", 2)] == ["fp", "fn"]


def test_size_slices_count_found_ground_truth_by_area(tmp_path):
    areas = [(255, "tp"), (256, "fn"), (1023, "tp"), (9216, "tp"), (9216, "void")]
    match_rows(tmp_path, [(str(i), "ground_truth", 1, None, area, s, "x") for i, (area, s) in enumerate(areas)])
    assert [(s.segments, s.found, s.recall) for s in size_slices(tmp_path, "panoptic")] == [
        (1, 1, 1.0),
        (2, 1, 0.5),
        (0, 0, None),
        (1, 1, 1.0),
    ]


CELLS = (Confused(1, 1, 90), Confused(1, 2, 10), Confused(2, 2, 5), Confused(3, 3, 7), Confused(2, None, 5))
ERRORS = (ErrorRow("missed", "Missed", "", 0, 4), ErrorRow("background", "Background", "", 3, 0))


def drawn_charts(name: str) -> list[str | None]:
    return [
        charts.error_chart(ERRORS, "a"),
        charts.confusion_chart(CELLS, {1: name, 2: "b", 3: "c"}, "b"),
        charts.size_chart([SizeSlice("small", 4, 1)], "c"),
        charts.calibration_chart({"bins": [{"n": 2, "score": 0.9, "precision": 0.5}]}, "d"),
        charts.difference_chart([(name, 0.1, 0.05, 0.2), ("b", -0.1, None, None)], "e", "PQ, points"),
    ]


def test_charts_take_all_colours_from_the_page_and_have_no_inline_style():
    for svg in drawn_charts("a"):
        assert svg is not None and svg.startswith("<svg")
        assert "style" not in svg and "<metadata" not in svg
        assert "var(--ink)" in svg or "var(--muted)" in svg
        assert not any(color in svg for color in PALETTE.values())


@pytest.mark.parametrize("name", ["$\\frac{1}{2}$", "</svg><script>", "日本語", "a\x00\x1b[31mb", "%s {} \\n"])
def test_charts_take_any_name_as_text(name):
    for svg in drawn_charts(name):
        assert svg is not None and "<script" not in svg and "\x00" not in svg
    assert printable("a\x00\nb") == "a\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}b"


def test_nothing_to_plot_gives_no_chart():
    empty = [charts.error_chart((), "a"), charts.confusion_chart((), {}, "b"), charts.size_chart((), "c")]
    assert [*empty, charts.calibration_chart(None, "d"), charts.precision_recall_chart(None, "e")] == [None] * 5


def test_the_confusion_matrix_shows_the_categories_that_are_confused_most():
    assert charts.busiest(CELLS, 2) == [1, 2, None]
    assert charts.busiest(CELLS, 9) == [1, 2, 3, None]
    assert charts.busiest(CELLS[:1], 9) == [1]


def test_markdown_keeps_names_as_text():
    assert escaped("a|b\n<i>*c*") == "a\\|b \\<i\\>\\*c\\*"


def test_folders_of_this_machine_are_left_out_of_names_but_hub_ids_stay():
    assert without_folders("/home/me/models/mine") == "mine"
    assert without_folders("tue-mps/coco_panoptic_eomt_large_640") == "tue-mps/coco_panoptic_eomt_large_640"
    assert without_folders(None) is None


def test_every_headline_number_has_a_label_of_its_own():
    labels = [label(name) for name in paths()]
    assert len(set(labels)) == len(labels)
    names = ("pq_things", "boundary_pq", "AP", "bbox_AP50", "boundary_APs", "miou", "boundary_miou")
    assert [label(name) for name in names] == [
        "PQ things",
        "Boundary PQ",
        "AP masks",
        "AP50 boxes",
        "APs outlines",
        "mIoU",
        "Boundary mIoU",
    ]
