"""`make verify-hub` finds what differs from what is published; here with a stand-in for the hub and tiny checkpoints.

Expected outputs come from transformers, as those of the published checkpoints do.
"""

import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image

import tests.reference.torchvision_part  # noqa: F401 (transformers needs it)
from eomt import (
    EomtConfig,
    EomtDinov3Config,
    EomtDinov3ForUniversalSegmentation,
    EomtForUniversalSegmentation,
    EomtImageProcessor,
)
from tests.conftest import REPOSITORY
from tests.hub import verify
from tests.hub.checks import check_configurations, check_score
from tests.reference.hub_server import Hub, serving_hub
from tests.reference.tiny_models import randomise
from workbench import catalog
from workbench.models.published import PUBLISHED, published
from workbench.prediction.checkpoint import BUNDLED_CHECKPOINTS
from workbench.prediction.defaults import BUNDLED_MODEL

PANOPTIC, INSTANCE, SEMANTIC = "someone/panoptic", "someone/instance", "someone/semantic"
SIZES: dict[str, Any] = {
    "hidden_size": 24,
    "num_attention_heads": 2,
    "num_hidden_layers": 3,
    "num_blocks": 2,
    "image_size": 64,
    "patch_size": 16,
    "num_queries": 8,
    "num_labels": 5,
}
SIZE_HW = [48, 80]


def save(folder: Path, task: str) -> None:
    """A checkpoint whose segments are certain enough to survive the default thresholds."""
    if task == "instance":
        model: Any = EomtDinov3ForUniversalSegmentation(EomtDinov3Config(**SIZES, intermediate_size=40))
    else:
        model = EomtForUniversalSegmentation(EomtConfig(**SIZES))
    randomise(model.eval(), 3)
    with torch.no_grad():
        model.class_predictor.weight.mul_(8)
        model.mask_head.fc3.weight.mul_(40)
    model.attn_mask_probs.zero_()
    model.save_pretrained(folder)
    split = task == "semantic"
    size = {"shortest_edge": 64, "longest_edge": None if split else 64}
    EomtImageProcessor(size=size, do_split_image=split, do_pad=not split).save_pretrained(folder)


def their_outputs(folder: Path, task: str, image: Image.Image) -> dict[str, Any]:
    """An entry under `outputs` in the file of expectations, by transformers."""
    import transformers

    name = "EomtDinov3" if task == "instance" else "Eomt"
    model = getattr(transformers, f"{name}ForUniversalSegmentation").from_pretrained(folder).eval()
    processor = transformers.EomtImageProcessor.from_pretrained(folder)
    with torch.no_grad():
        outputs = model(**processor(images=image, return_tensors="pt"))
    masks, classes = outputs.masks_queries_logits, outputs.class_queries_logits
    entry: dict[str, Any] = {
        "task": task,
        "mask_shape": list(masks.shape),
        "mask_logits": masks[0, 0, 0, :5].tolist(),
        "class_shape": list(classes.shape),
        "class_logits": classes[0, 0, :5].tolist(),
    }
    result = getattr(processor, f"post_process_{task}_segmentation")(outputs, target_sizes=[tuple(SIZE_HW)])[0]
    if task == "semantic":
        return entry | {"corner": int(result[0, 0])}
    segments = result["segments_info"]
    return entry | {
        "labels": [segment["label_id"] for segment in segments],
        "scores": [segment["score"] for segment in segments],
    }


def write_toml(path: Path, image_url: str, outputs: list[dict[str, Any]]) -> Path:
    """Expectations like published.toml's; JSON's lists, numbers and texts are TOML's too."""
    lines = ["[image]", 'dataset = "coco_val"', 'file = "photo.png"', f'url = "{image_url}"', f"size_hw = {SIZE_HW}"]
    for entry in outputs:
        lines += ["[[outputs]]", *(f"{name} = {json.dumps(value)}" for name, value in entry.items())]
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Hub, list[dict[str, Any]]]]:
    """A hub with a checkpoint for each task and the image, and what transformers makes of them."""
    folder = tmp_path_factory.mktemp("hub")
    image = Image.effect_noise((SIZE_HW[1], SIZE_HW[0]), 80).convert("RGB")
    outputs = []
    for model_id in (PANOPTIC, INSTANCE, SEMANTIC):
        task = model_id.rpartition("/")[2]
        save(folder / model_id, task)
        outputs.append({"model": model_id, **their_outputs(folder / model_id, task, image)})
    (folder / "data" / "images").mkdir(parents=True)
    image.save(folder / "data" / "images" / "photo.png")
    with serving_hub(folder) as hub:
        yield hub, outputs


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nothing is fetched yet, and COCO is nowhere."""
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COCO_ROOT", str(tmp_path / "coco"))
    return tmp_path / "cache"


def image_url(hub: Hub) -> str:
    return f"{hub.url}/data/images/resolve/main/photo.png"


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(verify.main, [str(argument) for argument in arguments])


def test_it_downloads_and_compares_in_a_process_of_its_own(
    served: tuple[Hub, list[dict[str, Any]]], cache: Path, tmp_path: Path
) -> None:
    hub, outputs = served
    assert [len(entry.get("labels", ())) > 0 for entry in outputs] == [True, True, False]
    hub.requests.clear()
    expected = write_toml(tmp_path / "expected.toml", image_url(hub), outputs)
    process = subprocess.run(
        [sys.executable, "-m", "tests.hub.verify", "--expected", str(expected)],
        cwd=REPOSITORY,
        env=os.environ | {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_DISABLE_XET": "1"},
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stdout + process.stderr
    assert "15 passed, 0 failed, 0 skipped, 0 unreachable" in process.stdout
    for model_id in (PANOPTIC, INSTANCE, SEMANTIC):
        assert f"GET /{model_id}/resolve/" in " ".join(hub.requests)
    assert (cache / "verify-hub" / "photo.png").is_file()


def test_whatever_differs_is_named_with_both_values(
    served: tuple[Hub, list[dict[str, Any]]], cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub, outputs = served
    hub.point_client_at(monkeypatch, tmp_path / "hf")
    panoptic, instance, semantic = (dict(entry) for entry in outputs)
    panoptic["mask_logits"] = [value * 1.03 + 0.03 for value in panoptic["mask_logits"]]
    panoptic["labels"] = [*panoptic["labels"], 1]
    instance["scores"] = [score - 0.03 for score in instance["scores"]]
    semantic["class_shape"] = [1, 8, 6]
    semantic["corner"] += 1
    result = run("--expected", write_toml(tmp_path / "expected.toml", image_url(hub), [panoptic, instance, semantic]))
    assert result.exit_code == 1
    failed = [line for line in result.stdout.splitlines() if line.startswith("failed")]
    assert [re.sub(r"^failed +(\S+): ([^:]+):.*", r"\1 \2", line) for line in failed] == [
        f"{PANOPTIC} mask logits",
        f"{PANOPTIC} panoptic segments",
        f"{INSTANCE} instance segments",
        f"{SEMANTIC} shape of class logits",
        f"{SEMANTIC} class of the top left corner",
    ]
    assert all(", not " in line for line in failed)


def test_a_checkpoint_that_is_not_there_is_a_failure(
    served: tuple[Hub, list[dict[str, Any]]], cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub, outputs = served
    hub.point_client_at(monkeypatch, tmp_path / "hf")
    gone = {**outputs[0], "model": "someone/gone"}
    result = run("--expected", write_toml(tmp_path / "expected.toml", image_url(hub), [gone]))
    assert result.exit_code == 1
    assert "someone/gone: outputs: someone/gone: cannot fetch" in result.stdout


def test_without_the_hub_it_says_that_it_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")  # nothing listens there
    result = run()
    assert result.exit_code == verify.SKIPPED == 77
    assert result.stdout.startswith("Skipped: http://127.0.0.1:9 does not answer (")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert run().stdout.startswith("Skipped: HF_HUB_OFFLINE is set.")


def test_without_the_image_its_checks_are_told_to_be_out_of_reach(
    served: tuple[Hub, list[dict[str, Any]]], cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub, outputs = served
    hub.point_client_at(monkeypatch, tmp_path / "hf")
    result = run("--expected", write_toml(tmp_path / "expected.toml", f"{hub.url}/no/such.png", outputs))
    assert result.exit_code == verify.SKIPPED
    assert re.search(r"unreachable +all models: outputs: .*404", result.stdout)


def test_the_image_is_taken_from_the_dataset_where_that_is_present(
    served: tuple[Hub, list[dict[str, Any]]], cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub, outputs = served
    hub.point_client_at(monkeypatch, tmp_path / "hf")
    (tmp_path / "coco" / "val2017").mkdir(parents=True)
    photo = hub.folder / "data" / "images" / "photo.png"
    (tmp_path / "coco" / "val2017" / "photo.png").write_bytes(photo.read_bytes())
    result = run("--expected", write_toml(tmp_path / "expected.toml", f"{hub.url}/no/such.png", outputs[:1]))
    assert result.exit_code == 0, result.stdout


def test_configurations_are_compared_with_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    large, semantic = published("tue-mps/coco_panoptic_eomt_large_640"), published(PUBLISHED[12].model_id)
    assert large is not None and semantic is not None
    EomtConfig.from_size("large", num_labels=133).save_pretrained(tmp_path / "hub" / large.model_id)
    EomtConfig.from_size("large", num_labels=150).save_pretrained(tmp_path / "hub" / semantic.model_id)
    with serving_hub(tmp_path / "hub") as hub:
        hub.point_client_at(monkeypatch, tmp_path / "hf")
        good, bad = check_configurations([large, semantic])
    assert (good.outcome, bad.outcome) == ("passed", "failed")
    assert bad.detail == "num_queries is 200, not 100; image_size is 640, not 512"


def test_scores_go_through_predict_and_evaluate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_empty_folder: Path
) -> None:
    bundled = BUNDLED_CHECKPOINTS / BUNDLED_MODEL
    (tmp_path / "hub" / "someone").mkdir(parents=True)
    (tmp_path / "hub" / "someone" / "panoptic").symlink_to(bundled)
    stated = re.search(r"PQ on `scenes_val` \| (\d\.\d{3}) \|", (bundled / "README.md").read_text(encoding="utf-8"))
    assert stated is not None
    expected = {
        "model": PANOPTIC,
        "dataset": "scenes_val",
        "task": "panoptic",
        "metric": "panoptic.all.pq",
        "target": float(stated[1]),
        "tolerance": 0.003,
    }
    with serving_hub(tmp_path / "hub") as hub:
        hub.point_client_at(monkeypatch, tmp_path / "hf")
        check = check_score(expected, tmp_path / "runs")
        assert (check.outcome, check.what) == ("passed", "panoptic.all.pq on scenes_val"), check.detail
        wrong = check_score({**expected, "target": 0.99}, tmp_path / "runs")  # the run is complete and read again
    assert wrong.outcome == "failed"
    assert wrong.detail.endswith(", published 99.0")


def test_scores_of_absent_datasets_are_skipped_with_the_place(cache: Path, tmp_path: Path) -> None:
    for expected in tomllib.loads((REPOSITORY / "tests" / "hub" / "published.toml").read_text())["scores"][:2]:
        check = check_score(expected, tmp_path / "runs")
        assert check.outcome == "skipped"
        assert str(tmp_path / "coco") in check.detail


def test_the_published_expectations_name_published_models_and_known_datasets() -> None:
    expected = tomllib.loads((REPOSITORY / "tests" / "hub" / "published.toml").read_text())
    assert {entry["model"] for entry in expected["outputs"] + expected["scores"]} <= {m.model_id for m in PUBLISHED}
    for entry in expected["outputs"]:
        known = published(entry["model"])
        assert known is not None and known.task == entry["task"]
        if "class_shape" in entry:
            assert entry["class_shape"][1:] == [known.num_queries, known.num_labels + 1]
            assert entry["mask_shape"][2:] == [known.image_size // 4] * 2
        assert len(entry.get("labels", ())) == len(entry.get("scores", ()))
    assert {entry["dataset"] for entry in expected["scores"]} <= set(catalog.names())
