"""Pre-labels as polygons: the masks to the byte where nobody touched them, filled polygons where somebody did."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from tests.reference.labelled_pets import CAT, SIZE, Pets, write_pets, write_pets_instances, write_pets_semantic
from workbench import catalog, rle
from workbench.cli import main
from workbench.errors import FiftyOneError, OptionError
from workbench.evaluation.evaluation import evaluate
from workbench.formats import open_dataset
from workbench.polygons import fill
from workbench.segments import concat, void_mask
from workbench.voxel51.prelabel import prelabel
from workbench.voxel51.pull import pull

NOTHING = {"kept": 0, "moved": 0, "relabelled": 0, "deleted": 0, "added": 0, "trimmed": 0}


def offer(pets: Pets, tolerance: float = 0.0) -> None:
    prelabel(pets.dataset, pets.run, labelled=True, polygons=tolerance)


def sample_of(fo: Any, image_id: str, name: str = "pets") -> Any:
    return fo.load_dataset(name).match({"image_id": image_id}).first()


def rows_of(definition: Path, task: Any) -> list[dict[str, Any]]:
    table = concat([table for table, _ in open_dataset(catalog.read(definition)).ground_truth(task)])
    rows: list[dict[str, Any]] = table.filter(~void_mask(table)).to_pylist()
    return rows


def pixels_of(polyline: Any) -> np.ndarray:
    return fill([np.array(shape) * SIZE[::-1] for shape in polyline.points], *SIZE)


@pytest.mark.parametrize("write", [write_pets, write_pets_instances, write_pets_semantic])
def test_without_tolerance_polygons_are_the_masks(write, tmp_path, fo):
    pets = write(tmp_path)
    offer(pets)
    predicted = {(row["image_id"], row["segment_id"]): row for row in pets.run.segments().to_pylist()}
    seen = 0
    for sample in fo.load_dataset(pets.definition.stem):
        for polyline in sample.polygon_edits.polylines:
            row = predicted[sample.image_id, polyline.segment_id]
            assert np.array_equal(pixels_of(polyline), rle.decode(row["counts"], *SIZE))
            assert (polyline.closed, polyline.filled, polyline.confidence) == (True, True, row["score"])
            seen += 1
    assert seen == len(predicted)


@pytest.mark.parametrize("write", [write_pets, write_pets_instances, write_pets_semantic])
@pytest.mark.parametrize("tolerance", [0.0, 2.0])
def test_untouched_polygons_come_back_as_the_masks_that_they_were_made_from(write, tolerance, tmp_path, fo):
    pets = write(tmp_path)
    offer(pets, tolerance)
    for sample in fo.load_dataset(pets.definition.stem).iter_samples(autosave=True):
        sample.tags.append("looked at")  # a document that was saved again
    pulled = pull(pets.dataset, tmp_path / "new.toml")
    predicted = pets.run.segments().to_pylist()
    assert pulled.counts == {**NOTHING, "kept": len(predicted)}
    key = ("image_id", "category_id", "counts")
    after = rows_of(tmp_path / "new.toml", pets.run.task)
    assert sorted(tuple(row[k] for k in key) for row in after) == sorted(
        tuple(row[k] for k in key) for row in predicted
    )


def test_points_that_moved_by_less_than_a_pixel_s_centre_change_nothing(pets, fo, tmp_path):
    offer(pets, 1.0)
    sample = sample_of(fo, "1")
    cat = sample.polygon_edits.polylines[0]
    cat.points = [[(x + 1e-9, y) for x, y in shape] for shape in cat.points]
    sample.save()
    assert pull(pets.dataset, tmp_path / "new.toml").counts == {**NOTHING, "kept": 6}


def test_every_kind_of_edit_of_a_polygon_is_told_and_nothing_else_changes(tmp_path, fo):
    pets = write_pets_instances(tmp_path)
    offer(pets)
    sample = sample_of(fo, "1", "pets_instances")
    cat, dog, _ = sample.polygon_edits.polylines
    cat.label = "dog"
    dog.points = [[(x + 1 / SIZE[1], y) for x, y in shape] for shape in dog.points]
    square = [(0, 0.8), (2 / SIZE[1], 0.8), (2 / SIZE[1], 1), (0, 1)]
    new = fo.Polyline(label="cat", points=[square], closed=True, filled=True)
    sample.polygon_edits.polylines = [cat, dog, new]
    sample.save()
    pulled = pull(pets.dataset, tmp_path / "new.toml")
    assert pulled.counts == {**NOTHING, "moved": 1, "relabelled": 1, "deleted": 1, "added": 1}
    rows, before = rows_of(tmp_path / "new.toml", "instance"), pets.run.segments().to_pylist()
    assert rows[0]["counts"] == before[0]["counts"]
    shifted = np.roll(rle.decode(before[1]["counts"], *SIZE), 1, axis=1)
    assert np.array_equal(rle.decode(rows[1]["counts"], *SIZE), shifted)
    assert (rows[2]["category_id"], rows[2]["area"], rows[2]["bbox"]) == (CAT, 4, [0.0, 8.0, 2.0, 2.0])


def test_corrected_polygons_change_the_score_by_exactly_what_they_should(tmp_path, fo):
    """The run against its own corrected pre-labels: all is right but the object that was drawn elsewhere."""
    pets = write_pets_instances(tmp_path)
    offer(pets)
    before = evaluate(pets.run, pets.dataset).metrics["instance"]["segm"]["AP"]
    sample = sample_of(fo, "1", "pets_instances")
    dog = sample.polygon_edits.polylines[1]
    dog.points = [[(0, 0.9), (1 / SIZE[1], 0.9), (1 / SIZE[1], 1), (0, 1)]]
    sample.save()
    pull(pets.dataset, tmp_path / "new.toml")
    after = evaluate(pets.run, str(tmp_path / "new.toml")).metrics["instance"]["segm"]["AP"]
    assert before not in (0.5, 1)
    assert after == 0.5  # of the cats 1, of the dog 0


def test_an_open_line_is_no_area_and_told(pets, fo, tmp_path):
    offer(pets)
    sample = sample_of(fo, "1")
    sample.polygon_edits.polylines.append(fo.Polyline(label="cat", points=[[(0, 0), (1, 1), (0, 1)]]))
    sample.save()
    with pytest.raises(FiftyOneError, match="open line"):
        pull(pets.dataset, tmp_path / "new.toml")


def test_masks_and_polygons_of_one_dataset_do_not_disturb_each_other(pets, fo, tmp_path):
    prelabel(pets.dataset, pets.run, labelled=True)
    offer(pets, 1.0)
    dataset = fo.load_dataset("pets")
    assert dataset.count("label_edits.detections") == dataset.count("polygon_edits.polylines") == 6
    assert set(dataset.active_label_schemas) == {"label_edits", "polygon_edits"}
    assert set(dataset.info["workbench"]["annotate"]["cvat"]) == {"label_edits", "polygon_edits"}
    with pytest.raises(FiftyOneError, match=r"label_edits and in polygon_edits.*--field"):
        pull(pets.dataset, tmp_path / "new.toml")
    for field in ("label_edits", "polygon_edits"):
        assert pull(pets.dataset, tmp_path / f"{field}.toml", field=field).counts == {**NOTHING, "kept": 6}


@pytest.mark.parametrize("tolerance", [-1.0, float("nan"), float("inf")])
def test_a_tolerance_is_a_number_of_pixels(pets, fo, tolerance):
    with pytest.raises(OptionError, match="tolerance in pixels"):
        offer(pets, tolerance)
    assert fo.list_datasets() == []


def test_the_command_takes_a_tolerance_or_its_default(tmp_path, fo):
    pets = write_pets(tmp_path)
    arguments = ["prelabel", "--dataset", str(pets.definition), "--run", str(pets.run.path), "--labelled", "--json"]
    for extra, tolerance in ((["--polygons"], 1.0), (["--polygons", "0.5", "--yes"], 0.5)):
        result = CliRunner().invoke(main, [*arguments, *extra])
        assert result.exit_code == 0, result.output
        assert '"field": "polygon_edits"' in result.output
        known = fo.load_dataset("pets").info["workbench"]["prelabels"].values()
        assert [about["polygons"] for about in known][-1] == tolerance


@pytest.mark.parametrize("x", [float("nan"), float("inf")])
def test_a_polygon_with_a_point_that_is_no_place_is_told(x, pets, fo, tmp_path):
    offer(pets, 1.0)
    sample = sample_of(fo, "1")
    cat = sample.polygon_edits.polylines[0]
    cat.points = [[(x, 0.5), *cat.points[0][1:]]]
    sample.save()
    with pytest.raises(FiftyOneError, match=r"(?s)image 1: object .*point 1 of a polygon of .*\[bad_polygon\]"):
        pull(pets.dataset, tmp_path / "new.toml")
    assert not (tmp_path / "new.toml").exists()
