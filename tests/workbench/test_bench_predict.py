"""The end-to-end benchmark: rows are compared first, drawn models segment, and a difference is noticed."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from eomt.post_processing import panoptic_segments
from workbench import rle
from workbench.bench import fitted_model, jpeg_files, predict
from workbench.bench.fitted_model import CLASSES, CONFIDENT, published_config, published_processor
from workbench.bench.measuring import Disagreement
from workbench.bench.row_agreement import agreed_quality, agreement_of, check_same_rows
from workbench.cli import main

TINY = {"hidden_size": 384, "num_hidden_layers": 2, "num_attention_heads": 6, "num_blocks": 1}


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Size s is a shallow model, of 160 pixels; it has to be wider than its 200 queries."""
    monkeypatch.setitem(fitted_model.ARCHITECTURES, "s", TINY)
    monkeypatch.setattr(predict.Plan, "edge", 160)
    monkeypatch.setattr(predict.Plan.__init__, "__defaults__", (160,))


def rows(*given: tuple[str, int, float | None, np.ndarray]) -> pa.Table:
    return pa.Table.from_pylist(
        [
            {
                "image_id": image,
                "category_id": category,
                "score": score,
                "height": mask.shape[0],
                "width": mask.shape[1],
                "counts": rle.encode(mask),
            }
            for image, category, score, mask in given
        ]
    )


def block(width: int, height: int = 20) -> np.ndarray:
    mask = np.zeros((40, 40), bool)
    mask[:height, :width] = True
    return mask


@pytest.mark.parametrize("task", ["panoptic", "instance", "semantic"])
def test_the_command_compares_rows_and_writes_a_report(tiny: None, tmp_path: Path, task: str) -> None:
    arguments = ["bench", "predict", "--part", "end-to-end", "--task", task, "--rounds", "1", "--images", "2"]
    threads = torch.get_num_threads()
    done = CliRunner().invoke(main, [*arguments, "--device", "cpu", "--out", str(tmp_path)])
    assert done.exit_code == 0, done.output
    content = json.loads(next(tmp_path.glob("*-predict-cpu-s-*.json")).read_text())
    (section,) = content["sections"]
    (result,) = section["results"]
    assert result["what"].startswith(task) and result["times_as_fast"] > 0 and result["items"] == 2
    assert result["agreement"] == agreement_of(mask_scores=task == "instance")
    assert "on a GPU only" in section["notes"][0]
    assert torch.get_num_threads() == threads


def test_reduced_precision_tells_how_alike_the_rows_are(tiny: None, tmp_path: Path) -> None:
    arguments = ["bench", "predict", "--part", "end-to-end", "--task", "panoptic", "--rounds", "1", "--images", "2"]
    done = CliRunner().invoke(main, [*arguments, "--device", "cpu", "--dtype", "bfloat16", "--out", str(tmp_path)])
    assert done.exit_code == 0, done.output
    (section,) = json.loads(next(tmp_path.glob("*-predict-cpu-s-*.json")).read_text())["sections"]
    assert [result["peer"] for result in section["results"]][1] == "workbench in float32"
    notes = [note for note in section["notes"] if "PQ of ours against" in note]
    assert len(notes) == 2 and all(0.8 < float(note.rpartition(": ")[2].rstrip(".")) <= 1 for note in notes)


def test_a_fitted_model_is_sure_of_some_queries_and_segments_other_images_too(tiny: None, tmp_path: Path) -> None:
    records = jpeg_files.write(tmp_path / "images", 2, seed=4)
    processor = published_processor("panoptic", 160)
    pixels = processor([record.path for record in records], return_tensors="pt").pixel_values
    model = fitted_model.fitted_model(published_config("s", 160), 0, pixels[0])
    with torch.inference_mode():
        outputs = model(pixel_values=pixels)
    scores, classes = outputs.class_queries_logits.softmax(-1).max(-1)
    sure = ((scores > 0.8) & (classes < CLASSES)).sum(-1)
    assert ((sure >= CONFIDENT) & (sure < 2 * CONFIDENT)).all()
    sizes = [record.size_hw or (0, 0) for record in records]
    for found in panoptic_segments(outputs, sizes, processor.size):
        assert len(found.scores) > 3  # borders are wide on so coarse a grid, and few masks keep 0.8 of their pixels


def test_images_are_drawn_again_from_their_seed(tmp_path: Path) -> None:
    first, again, other = (jpeg_files.write(tmp_path / str(i), 2, seed) for i, seed in enumerate((5, 5, 6)))
    assert first[1].path.read_bytes() == again[1].path.read_bytes() != other[1].path.read_bytes()
    with Image.open(first[1].path) as image:
        assert (image.height, image.width) == first[1].size_hw == (640, 480)
    assert 50_000 < first[0].path.stat().st_size < 300_000


def test_the_same_rows_in_another_order_agree_and_a_few_pixels_do_not_matter() -> None:
    ours = rows(("1", 3, 0.9, block(10)), ("1", 3, 0.9, block(20)), ("2", 4, None, block(5)))
    nearly = block(20)
    nearly[0, :9] = False
    check_same_rows(ours, rows(("2", 4, None, block(5)), ("1", 3, 0.900001, nearly), ("1", 3, 0.9, block(10))))


def test_a_turned_pixel_moves_a_score_by_no_more_than_half_its_share() -> None:
    nearly = block(20)
    nearly[0, :4] = False  # 4 of 400 pixels: up to 0.005
    ours = rows(("1", 3, 0.9, block(20)))
    check_same_rows(ours, rows(("1", 3, 0.9049, nearly)), mask_scores=True)
    for score, mask in ((0.9049, block(20)), (0.9052, nearly)):
        with pytest.raises(Disagreement):
            check_same_rows(ours, rows(("1", 3, score, mask)), mask_scores=True)
    with pytest.raises(Disagreement):  # the score of a panoptic segment is its class's alone
        check_same_rows(ours, rows(("1", 3, 0.9049, nearly)))


def test_small_masks_in_different_places_are_not_alike() -> None:
    mask, elsewhere = block(2), block(2)[::-1, ::-1]
    with pytest.raises(Disagreement):
        check_same_rows(rows(("1", 3, 0.9, mask)), rows(("1", 3, 0.9, elsewhere)))


@given(st.integers(0, 5), st.integers(0, 5), st.integers(1, 30), st.floats(0.5, 1), st.floats(0, 1))
def test_no_honest_score_is_beyond_what_the_turned_pixels_make_of_it(
    lost: int, gained: int, both: int, mean: float, class_score: float
) -> None:
    """Two masks that share `both` pixels of that mean probability; the others' is one half."""
    masks = np.zeros((2, 8, 8), bool)
    masks.reshape(2, -1)[:, :both] = True
    masks[0].reshape(-1)[both : both + lost] = True
    masks[1].reshape(-1)[both + lost : both + lost + gained] = True
    scores = [class_score * (mean * both + 0.5 * turned) / (both + turned) for turned in (lost, gained)]
    ours, theirs = (rows(("1", 3, score, mask)) for score, mask in zip(scores, masks, strict=True))
    check_same_rows(ours, theirs, mask_scores=True)


def test_a_report_says_what_was_compared() -> None:
    assert agreement_of(mask_scores=False) == "rows but for 10 pixels of a mask, scores to 1e-5"
    assert agreement_of(mask_scores=True).endswith("scores to 1e-5 beyond what these pixels make of them")


@pytest.mark.parametrize(
    "theirs",
    [
        [],
        [("1", 3, 0.9, block(10))],
        [("1", 3, 0.9, block(10)), ("1", 3, 0.9, block(10))],
        [("1", 3, 0.9, block(10)), ("1", 4, 0.9, block(20))],
        [("1", 3, 0.9, block(10)), ("1", 3, 0.9001, block(20))],
        [("1", 3, 0.9, block(10)), ("1", 3, None, block(20))],
        [("1", 3, 0.9, block(10)), ("1", 3, 0.9, block(21))],
    ],
)
def test_rows_that_differ_are_noticed(theirs: list[tuple[str, int, float | None, np.ndarray]]) -> None:
    ours = rows(("1", 3, 0.9, block(10)), ("1", 3, 0.9, block(20)))
    with pytest.raises(Disagreement):
        check_same_rows(ours, rows(*theirs) if theirs else ours.slice(0, 0))


def test_agreed_quality_is_pq_on_paper() -> None:
    ours = rows(("1", 3, 0.9, block(10)), ("1", 4, 0.8, block(40)), ("2", 3, 0.8, block(40)))
    assert agreed_quality(ours, ours) == 1.0
    theirs = rows(("1", 3, 0.9, block(8)), ("1", 5, 0.8, block(40)), ("2", 3, 0.8, block(40, height=9)))
    assert agreed_quality(ours, theirs) == pytest.approx(0.8 / (1 + 4 / 2))
