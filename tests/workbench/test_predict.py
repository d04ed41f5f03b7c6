"""`workbench.predict` from images on disk to rows on disk, with the bundled checkpoint on a few bundled scenes."""

import errno
import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import workbench
from eomt import EomtConfig, EomtForUniversalSegmentation, EomtImageProcessor
from eomt.image_inputs import rgb_tensor
from tests.reference.few_scenes import coco_scenes, unlabelled_scenes
from workbench import rle, store
from workbench.errors import DatasetError, ModelError, OptionError, RunError
from workbench.prediction.checkpoint import BUNDLED_CHECKPOINTS
from workbench.prediction.defaults import BUNDLED_MODEL
from workbench.prediction.model import Predictor
from workbench.prediction.progress import Progress
from workbench.runs import Run

CHECKPOINT = BUNDLED_CHECKPOINTS / BUNDLED_MODEL


class Notes(Progress):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def predict(dataset: Path, out: Path, **options: Any) -> Run:
    return workbench.predict(dataset, **{"model": BUNDLED_MODEL, "out": out, "progress": False, **options})


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return coco_scenes(tmp_path_factory.mktemp("dataset") / "scenes", 5)


@pytest.fixture(scope="module")
def panoptic_run(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return predict(dataset, tmp_path_factory.mktemp("runs") / "panoptic")


def masks_of(run: Run, image_id: str) -> np.ndarray:
    rows = run.segments().to_pandas().query("image_id == @image_id")
    return np.stack([rle.decode(row.counts, row.height, row.width) for row in rows.itertuples()])


def test_panoptic_rows_are_what_the_documented_pipeline_gives(dataset: Path, panoptic_run: Run) -> None:
    model = EomtForUniversalSegmentation.from_pretrained(CHECKPOINT, dtype=torch.float32)
    processor = EomtImageProcessor.from_pretrained(CHECKPOINT)
    stuff = {
        i for i, name in model.config.id2label.items() if name in {"sky", "grass", "water", "sand", "road", "wall"}
    }
    frame = panoptic_run.segments().to_pandas()
    category_of = {c.name: c.category_id for c in panoptic_run.categories}
    assert len(frame) > 10
    for record in panoptic_run.images().to_pylist():
        image = rgb_tensor(dataset.parent / "images" / record["file_name"])
        with torch.inference_mode():
            # Twice in one batch: a batch of one rounds differently.
            outputs = model(**processor([image, image], return_tensors="pt"))
        size = tuple(image.shape[1:])
        result = processor.post_process_panoptic_segmentation(outputs, [size, size], stuff_classes=stuff)[0]
        rows = frame[frame["image_id"] == record["image_id"]]
        assert (record["height"], record["width"]) == size
        assert [category_of[model.config.id2label[s["label_id"]]] for s in result["segments_info"]] == rows[
            "category_id"
        ].tolist()
        assert [s["score"] for s in result["segments_info"]] == pytest.approx(rows["score"].tolist(), abs=1e-6)
        for segment, mask in zip(result["segments_info"], masks_of(panoptic_run, record["image_id"]), strict=True):
            assert np.array_equal(result["segmentation"].numpy() == segment["id"], mask)


def test_panoptic_segments_do_not_overlap_and_stuff_is_merged(panoptic_run: Run) -> None:
    frame = panoptic_run.segments().to_pandas()
    for image_id, rows in frame.groupby("image_id"):
        assert masks_of(panoptic_run, image_id).sum(0).max() == 1
        assert not rows[~rows["isthing"]]["category_id"].duplicated().any()
        assert rows["segment_id"].tolist() == list(range(1, len(rows) + 1))
    assert frame["isthing"].tolist() == [frame_id < 100 for frame_id in frame["category_id"]]
    assert frame["score"].between(0.8, 1).all()
    assert frame["declared_area"].isna().all()
    assert frame["source_id"].isna().all()


def test_boxes_are_counted_from_the_masks(panoptic_run: Run) -> None:
    for row in panoptic_run.segments().to_pylist():
        rows, columns = np.nonzero(rle.decode(row["counts"], row["height"], row["width"]))
        x, y, w, h = row["bbox"]
        assert (x, y, x + w - 1, y + h - 1) == (columns.min(), rows.min(), columns.max(), rows.max())
        assert row["area"] == len(rows)


def test_instance_rows_are_ranked_candidates_without_empty_masks(dataset: Path, tmp_path: Path) -> None:
    run = predict(dataset, tmp_path / "run", task="instance", top_k=20)
    frame = run.segments().to_pandas()
    assert frame["isthing"].all()
    assert (frame["area"] > 0).all()
    for _, rows in frame.groupby("image_id"):
        assert 0 < len(rows) <= 20
        assert rows["score"].is_monotonic_decreasing
    above = predict(dataset, tmp_path / "above", task="instance", top_k=20, threshold=0.3).segments().to_pandas()
    expected = frame[frame["score"] >= 0.3].drop(columns=["segment_id", "ordinal", "bbox"])
    assert above.drop(columns=["segment_id", "ordinal", "bbox"]).equals(expected.reset_index(drop=True))


def test_semantic_rows_are_one_a_class_and_cover_the_image(dataset: Path, tmp_path: Path) -> None:
    run = predict(dataset, tmp_path / "run", task="semantic")
    frame = run.segments().to_pandas()
    assert frame["score"].isna().all()
    for _, rows in frame.groupby("image_id"):
        assert not rows["category_id"].duplicated().any()
        assert rows["area"].sum() == rows["height"].iloc[0] * rows["width"].iloc[0]


def test_the_manifest_says_how_the_run_was_made(dataset: Path, panoptic_run: Run) -> None:
    manifest = json.loads((panoptic_run.path / "run.json").read_text())
    assert manifest["status"] == "complete"
    assert manifest["dataset"] == {"name": "few_scenes", "definition": str(dataset), "format": "coco"}
    identity = manifest["identity"]
    assert {
        "task": "panoptic",
        "threshold": 0.8,
        "mask_threshold": 0.5,
        "overlap_threshold": 0.8,
    }.items() <= identity.items()
    assert identity["limit"] is None
    assert identity["dtype"] == "float32"
    assert identity["processor"]["size"] == {"shortest_edge": 192, "longest_edge": 192}
    assert "top_k" not in identity
    assert len(identity["weights_sha256"]) == len(identity["dataset"]) == 64
    (session,) = manifest["provenance"]["sessions"]
    assert session["images"] == 5
    assert session["started"] <= session["finished"]
    assert session["device"] == "cpu"
    assert session["versions"]["torch"] == torch.__version__
    assert panoptic_run.dataset.source == dataset


def test_the_same_command_again_finds_the_run_complete(dataset: Path, panoptic_run: Run) -> None:
    before = (panoptic_run.path / "run.json").read_bytes()
    progress = Notes()
    assert predict(dataset, panoptic_run.path, progress=progress).complete
    assert any("complete already" in note for note in progress.notes)
    assert (panoptic_run.path / "run.json").read_bytes() == before


def test_another_command_does_not_touch_a_run(dataset: Path, panoptic_run: Run) -> None:
    with pytest.raises(RunError, match=r"made differently.*threshold is 0\.8 there, 0\.5 now"):
        predict(dataset, panoptic_run.path, threshold=0.5)
    with pytest.raises(RunError, match="a run is there already"):
        predict(dataset, panoptic_run.path, resume=False)


@pytest.mark.usefixtures("in_empty_folder")
def test_the_default_folder_is_numbered_and_found_again(dataset: Path) -> None:
    def name(**options: Any) -> str:
        return str(workbench.predict(dataset, model=BUNDLED_MODEL, limit=1, progress=False, **options).path)

    first = f"runs/few_scenes-panoptic-{BUNDLED_MODEL}"
    assert name() == first
    assert name() == first
    assert name(threshold=0.5) == f"{first}-2"
    assert name(threshold=0.5) == f"{first}-2"
    assert name(resume=False) == f"{first}-3"


@pytest.mark.parametrize("batch_size", [1, 3, 4])
def test_the_batch_size_changes_rounding_only(
    dataset: Path, panoptic_run: Run, tmp_path: Path, batch_size: int
) -> None:
    frame = predict(dataset, tmp_path / "run", batch_size=batch_size).segments().to_pandas()
    expected = panoptic_run.segments().to_pandas()
    assert frame["category_id"].equals(expected["category_id"])
    assert frame["score"].tolist() == pytest.approx(expected["score"].tolist(), abs=1e-5)


def test_rows_do_not_depend_on_the_limit(dataset: Path, panoptic_run: Run, tmp_path: Path) -> None:
    limited = predict(dataset, tmp_path / "run", limit=3).segments()
    assert limited.equals(panoptic_run.segments().slice(0, limited.num_rows))


def test_chosen_images_give_the_rows_that_they_have_in_the_whole_run(
    dataset: Path, panoptic_run: Run, tmp_path: Path
) -> None:
    chosen = predict(dataset, tmp_path / "run", images=["5", "000002.jpg"])
    assert chosen.images()["image_id"].to_pylist() == chosen.manifest["identity"]["images"] == ["2", "5"]
    whole = panoptic_run.segments().to_pandas().query("image_id in ['2', '5']").reset_index(drop=True)
    found = chosen.segments().to_pandas()
    assert found["counts"].equals(whole["counts"])
    assert predict(dataset, tmp_path / "run", images=["000005.jpg", "2"]).complete  # the same run
    with pytest.raises(RunError, match=r"made differently.*images is"):
        predict(dataset, tmp_path / "run", images=["5"])


def test_images_that_cannot_be_predicted_say_why_and_the_rest_goes_on(tmp_path: Path) -> None:
    dataset = coco_scenes(tmp_path / "data", 6, declared_hw={5: (100, 100)})
    images = tmp_path / "data" / "images"
    (images / "000001.jpg").write_bytes((images / "000001.jpg").read_bytes()[:900])
    (images / "000002.jpg").write_text("no image")
    (images / "000003.jpg").unlink()
    Image.new("I;16", (50, 40)).save(images / "000004.png")
    (images / "000004.png").replace(images / "000004.jpg")
    run = predict(dataset, tmp_path / "run")
    assert run.complete
    rows = run.images().to_pylist()
    assert [row["status"] for row in rows] == ["failed"] * 5 + ["ok"]
    assert [row["height"] for row in rows[:5]] == [None] * 5
    for row, reason in zip(
        rows,
        [
            "truncated",
            "cannot identify image file",
            "No such file",
            "more than 8 bits",
            "the annotations declare 100x100",
        ],
        strict=False,
    ):
        assert row["file_name"] in row["error"]
        assert reason in row["error"]
    whole = predict(coco_scenes(tmp_path / "whole", 6), tmp_path / "whole_run")
    only_last = whole.segments().to_pandas().query("image_id == '6'").reset_index(drop=True)
    assert run.segments().to_pandas().equals(only_last)


def test_a_vanished_images_folder_stops_the_run_instead_of_failing_every_image(tmp_path: Path) -> None:
    dataset = coco_scenes(tmp_path / "data", 3)
    (tmp_path / "data" / "images").rename(tmp_path / "data" / "moved")
    with pytest.raises(DatasetError, match="images"):
        predict(dataset, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_an_images_folder_unmounted_in_the_middle_stops_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = coco_scenes(tmp_path / "data", 3)
    monkeypatch.setattr("workbench.prediction.session._announcement", lambda *_: unmount(tmp_path / "data" / "images"))
    with pytest.raises(DatasetError, match="not there"):
        predict(dataset, tmp_path / "run")


def unmount(folder: Path) -> str:
    folder.rename(folder.with_name("moved"))
    return ""


def test_greyscale_palette_and_transparent_images_are_predicted(tmp_path: Path) -> None:
    dataset = unlabelled_scenes(tmp_path / "data", 1)
    image = Image.open(tmp_path / "data" / "images" / "000001.jpg")
    for mode, suffix in [("L", "png"), ("P", "png"), ("RGBA", "png"), ("CMYK", "jpg")]:
        image.convert(mode).save(tmp_path / "data" / "images" / f"{mode}.{suffix}")
    run = predict(dataset, tmp_path / "run", task="semantic")
    assert run.images()["status"].to_pylist() == ["ok"] * 5


def test_an_unlabelled_folder_takes_the_categories_of_the_table_that_fits(tmp_path: Path) -> None:
    run = predict(unlabelled_scenes(tmp_path / "data", 1), tmp_path / "run")
    assert [c.category_id for c in run.categories] == [1, 3, 9, 16, 25, 37, 101, 105, 110, 111, 118, 130]
    assert run.segments().num_rows > 0


def test_an_image_one_pixel_too_long_is_predicted(tmp_path: Path) -> None:
    dataset = unlabelled_scenes(tmp_path / "data", 1)
    Image.new("RGB", (193, 70), "white").save(tmp_path / "data" / "images" / "long.png")  # 70 x 192 / 193 rounds to 70
    run = predict(dataset, tmp_path / "run", task="semantic")
    assert run.images()["status"].to_pylist() == ["ok", "ok"]
    assert {(row["height"], row["width"]) for row in run.segments().to_pylist() if row["image_id"] == "long"} == {
        (70, 193)
    }


def test_an_image_too_thin_for_the_model_fails_and_says_so(tmp_path: Path) -> None:
    dataset = unlabelled_scenes(tmp_path / "data", 1)
    Image.new("RGB", (3000, 2), "white").save(tmp_path / "data" / "images" / "thin.png")
    images = predict(dataset, tmp_path / "run", task="semantic").images()
    assert images["status"].to_pylist() == ["ok", "failed"]
    reason = images["error"].to_pylist()[1]
    assert "thin.png: 3000 x 2 pixels: its shorter side would be 0 pixels at the model's size" in reason


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (700, 3)])
def test_images_of_odd_shapes_never_stop_a_run(tmp_path: Path, size: tuple[int, int]) -> None:
    dataset = unlabelled_scenes(tmp_path / "data", 1)
    Image.new("RGB", size, "white").save(tmp_path / "data" / "images" / "odd.png")
    run = predict(dataset, tmp_path / "run", task="semantic")
    assert run.images().num_rows == 2
    assert run.images()["status"].to_pylist()[0] == "ok"


def split_checkpoint(folder: Path) -> Path:
    """A tiny random model that cuts images into crops; this seed gives maps of several classes."""
    torch.manual_seed(1)
    labels = dict(
        enumerate(["person", "car", "boat", "tree", "house", "ball", "sky", "grass", "water", "sand", "road", "wall"])
    )
    config = EomtConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, num_blocks=1, image_size=64, patch_size=16,
        num_queries=7, id2label=labels,
    )  # fmt: skip
    model = EomtForUniversalSegmentation(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter)
    model.save_pretrained(folder)
    EomtImageProcessor(
        size={"shortest_edge": 64, "longest_edge": None}, do_split_image=True, do_pad=False
    ).save_pretrained(folder)
    return folder


def test_split_images_give_what_the_documented_pipeline_gives(dataset: Path, tmp_path: Path) -> None:
    checkpoint = split_checkpoint(tmp_path / "split_model")
    run = predict(dataset, tmp_path / "run", model=checkpoint, batch_size=3)
    assert run.task == "semantic"
    model, processor = (
        EomtForUniversalSegmentation.from_pretrained(checkpoint),
        EomtImageProcessor.from_pretrained(checkpoint),
    )
    category_ids = [c.category_id for c in run.categories]
    seen = set()
    for record in run.images().to_pylist():
        image = rgb_tensor(dataset.parent / "images" / record["file_name"])
        inputs = processor([image], return_tensors="pt")
        assert len(inputs.pixel_values) > 1
        with torch.inference_mode():
            outputs = model(**inputs)
        (expected,) = processor.post_process_semantic_segmentation(outputs, [tuple(image.shape[1:])])
        rows = run.segments().to_pandas().query("image_id == @record['image_id']")
        for category_id, mask in zip(rows["category_id"], masks_of(run, record["image_id"]), strict=True):
            agreement = (expected.numpy() == category_ids.index(category_id)) == mask
            assert agreement.mean() > 0.999  # crops beyond a batch of three round differently from all at once
            seen.add(category_id)
    assert len(seen) > 1


def test_a_split_checkpoint_refuses_other_tasks(dataset: Path, tmp_path: Path) -> None:
    checkpoint = split_checkpoint(tmp_path / "split_model")
    with pytest.raises(OptionError, match="cuts images into crops"):
        predict(dataset, tmp_path / "run", model=checkpoint, task="panoptic")


@pytest.mark.parametrize(
    ("file", "key", "value", "message"),
    [
        ("preprocessor_config.json", "do_pad", False, "neither pads nor splits"),
        ("preprocessor_config.json", "size", {"shortest_edge": 256, "longest_edge": 256}, "256x256.*takes 192x192"),
        ("config.json", "id2label", {str(i): f"LABEL_{i}" for i in range(12)}, "does not name its 12 classes"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused_before_a_folder_is_made(
    dataset: Path, tmp_path: Path, file: str, key: str, value: Any, message: str
) -> None:
    checkpoint = tmp_path / "model"
    checkpoint.mkdir()
    for source in CHECKPOINT.glob("*.*"):
        (checkpoint / source.name).write_bytes(source.read_bytes())
    content = json.loads((checkpoint / file).read_text())
    content.pop("label2id", None)
    (checkpoint / file).write_text(json.dumps({**content, key: value}))
    with pytest.raises(ModelError, match=message):
        predict(dataset, tmp_path / "run", model=checkpoint)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"task": "panoptical"}, "Did you mean 'panoptic'"),
        ({"task": "semantic", "threshold": 0.5}, "no meaning for semantic"),
        ({"threshold": 1.5}, "from 0 to 1"),
        ({"threshold": math.nan}, "from 0 to 1"),
        ({"task": "instance", "top_k": 0}, "--top-k is 0"),
        ({"limit": 0}, "--limit is 0"),
        ({"images": ["1", "strange"]}, "no image 'strange'"),
        ({"images": []}, "no image is chosen"),
        ({"workers": 0}, "--workers is 0"),
        ({"batch_size": 0}, "batch size 0"),
        ({"batch_size": "many"}, "batch size 'many'"),
        ({"dtype": "float64"}, "no dtype 'float64'"),
        ({"device": "warp"}, "device 'warp' cannot be used"),
        ({"classes": "some"}, "no way 'some'"),
    ],
)
def test_wrong_options_are_told_before_a_folder_is_made(
    dataset: Path, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(OptionError, match=message):
        predict(dataset, tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


def test_a_dataset_without_images_is_refused(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "empty.toml").write_text('format = "images"\nroot = "."\nimages = "images"\n')
    with pytest.raises(DatasetError, match="it has no images"):
        predict(tmp_path / "empty.toml", tmp_path / "run", task="semantic")


def test_an_error_in_the_middle_keeps_the_batches_before_it(
    dataset: Path, panoptic_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = Predictor.forward
    calls = iter(range(9))

    def fail_at_the_second(self: Predictor, images: Any) -> Any:
        if next(calls) == 1:
            raise ModelError("out of memory")
        return forward(self, images)

    monkeypatch.setattr(Predictor, "forward", fail_at_the_second)
    with pytest.raises(ModelError, match="out of memory"):
        predict(dataset, tmp_path / "run")
    run = Run.open(tmp_path / "run")
    assert not run.complete
    assert run.images().num_rows == 2
    resumed = predict(dataset, tmp_path / "run")
    assert resumed.complete
    assert resumed.segments().equals(panoptic_run.segments())


def test_a_full_disk_is_one_message_and_a_resume_completes_the_run(
    dataset: Path, panoptic_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workbench.prediction.pipeline.IMAGES_PER_SHARD", 2)
    write = store.write_parquet
    calls = iter(range(9))

    def fill_up_at_the_fourth(table: Any, path: Path) -> None:
        write(table, path)
        if next(calls) == 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(store, "write_parquet", fill_up_at_the_fourth)
    with pytest.raises(RunError, match=r"cannot be written \(No space left on device\).*run the same command again"):
        predict(dataset, tmp_path / "run")
    monkeypatch.undo()
    assert Run.open(tmp_path / "run").images().num_rows == 2
    resumed = predict(dataset, tmp_path / "run")
    assert resumed.segments().equals(panoptic_run.segments())
