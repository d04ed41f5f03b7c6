"""Compare checkpoints on the hub with what is published of them: configurations, outputs on one image, scores."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any, Literal

import torch

import workbench
from eomt import EomtImageProcessor, load_model
from eomt.auto import load_config
from eomt.errors import EomtError
from eomt.image_inputs import rgb_tensor
from eomt.outputs import EomtForUniversalSegmentationOutput
from workbench import catalog
from workbench.curation.fetching import fetch
from workbench.errors import DatasetError, WorkbenchError
from workbench.files.cache import cache_folder
from workbench.formats import open_dataset
from workbench.models.published import PublishedModel

TOLERANCE = 1e-2
"""Absolute and relative, as the values were published."""

Outcome = Literal["passed", "failed", "skipped", "unreachable"]


@dataclass(frozen=True)
class Check:
    """One comparison: what of what, how it went, and the numbers or the reason."""

    model_id: str
    what: str
    outcome: Outcome
    detail: str


def check_configurations(models: Iterable[PublishedModel]) -> Iterator[Check]:
    """Each model's configuration file against the table behind `workbench models list`."""
    for model in models:
        expected = {
            "model_type": "eomt_dinov3" if model.backbone == "DINOv3" else "eomt",
            "hidden_size": model.architecture.hidden_size,
            "num_hidden_layers": model.architecture.num_hidden_layers,
            "num_attention_heads": model.architecture.num_attention_heads,
            "num_blocks": model.architecture.num_blocks,
            "num_queries": model.num_queries,
            "num_labels": model.num_labels,
            "image_size": model.image_size,
        }
        try:
            config = load_config(model.model_id)
        except EomtError as error:
            yield Check(model.model_id, "configuration", "failed", str(error))
            continue
        wrong = [f"{n} is {getattr(config, n)}, not {v}" for n, v in expected.items() if getattr(config, n) != v]
        yield _check(model.model_id, "configuration", wrong, f"{len(expected)} values")


def find_image(expected: Mapping[str, Any]) -> Path:
    """The image of the expected outputs, from the dataset where that is present, else fetched once and kept.

    Raises DatasetError where it cannot be fetched.
    """
    definition = catalog.find(expected["dataset"])
    there = definition.resolve(definition.images or ".") / expected["file"]
    if there.is_file():
        return there
    target = cache_folder() / "verify-hub" / str(expected["file"])
    target.parent.mkdir(parents=True, exist_ok=True)
    fetch(expected["url"], target)
    return target


def check_outputs(expected: Mapping[str, Any], image_file: Path, size_hw: Sequence[int]) -> Iterator[Check]:
    """A model's logits and segments on the image, in float32 on the CPU."""
    model_id = expected["model"]
    image = rgb_tensor(image_file, where=str(image_file))
    if list(image.shape[1:]) != list(size_hw):
        yield Check(model_id, "outputs", "failed", f"{image_file} is {tuple(image.shape[1:])}, not {tuple(size_hw)}")
        return
    try:
        model = load_model(model_id, dtype=torch.float32)
        processor = EomtImageProcessor.from_pretrained(model_id)
    except EomtError as error:
        yield Check(model_id, "outputs", "failed", str(error))
        return
    inputs = processor(images=[image], return_tensors="pt")
    with torch.inference_mode():
        outputs = model(**inputs)
    yield from _check_logits(expected, outputs)
    yield from _check_segments(expected, outputs, processor, (int(size_hw[0]), int(size_hw[1])))


def check_score(expected: Mapping[str, Any], runs: Path) -> Check:
    """A model's score over a whole dataset, through predict and evaluate; skipped where the dataset is absent."""
    model_id, what = expected["model"], f"{expected['metric']} on {expected['dataset']}"
    try:
        dataset = open_dataset(catalog.find(expected["dataset"]))
        present = expected["task"] in dataset.tasks and bool(dataset.images())
        reason = f"no {expected['task']} ground truth in {dataset.definition.root}"
    except DatasetError as error:
        present, reason = False, str(error)
    if not present:
        return Check(model_id, what, "skipped", reason)
    try:
        out = runs / f"{expected['dataset']}-{expected['task']}-{model_id.rpartition('/')[2]}"
        run = workbench.predict(expected["dataset"], model=model_id, task=expected["task"], dtype="float32", out=out)
        metrics = workbench.evaluate(run).metrics
    except (WorkbenchError, EomtError) as error:
        return Check(model_id, what, "failed", str(error))
    score = reduce(lambda part, key: part[key], expected["metric"].split("."), metrics)
    near = abs(score - expected["target"]) <= expected["tolerance"]
    detail = f"{100 * score:.2f}, published {100 * expected['target']:.1f}"
    return Check(model_id, what, "passed" if near else "failed", detail)


def _check_logits(expected: Mapping[str, Any], outputs: EomtForUniversalSegmentationOutput) -> Iterator[Check]:
    assert outputs.masks_queries_logits is not None and outputs.class_queries_logits is not None
    for kind, logits in (("mask", outputs.masks_queries_logits), ("class", outputs.class_queries_logits)):
        if shape := expected.get(f"{kind}_shape"):
            wrong = [] if list(logits.shape) == shape else [f"shape {list(logits.shape)}, not {shape}"]
            yield _check(expected["model"], f"shape of {kind} logits", wrong, f"{shape}")
        if values := expected.get(f"{kind}_logits"):
            first = logits.flatten(0, -2)[0, : len(values)].tolist()
            yield _check(expected["model"], f"{kind} logits", _far(first, values), f"{len(values)} values")


def _check_segments(
    expected: Mapping[str, Any],
    outputs: EomtForUniversalSegmentationOutput,
    processor: EomtImageProcessor,
    size_hw: tuple[int, int],
) -> Iterator[Check]:
    model_id = expected["model"]
    if "corner" in expected:
        corner = processor.post_process_semantic_segmentation(outputs, [size_hw])[0][:10, :10]
        classes = corner.unique().tolist()
        wrong = [] if classes == [expected["corner"]] else [f"classes {classes}, not {expected['corner']}"]
        yield _check(model_id, "class of the top left corner", wrong, str(expected["corner"]))
    if "labels" in expected:
        post_process = getattr(processor, f"post_process_{expected['task']}_segmentation")
        segments = post_process(outputs, [size_hw])[0]["segments_info"]
        labels = [segment["label_id"] for segment in segments]
        wrong = [] if labels == expected["labels"] else [f"labels {labels}, not {expected['labels']}"]
        wrong = wrong or _far([segment["score"] for segment in segments], expected["scores"])
        yield _check(model_id, f"{expected['task']} segments", wrong, f"{len(labels)} segments")


def _far(values: Sequence[float], expected: Sequence[float]) -> list[str]:
    return [
        f"{value:.6g}, not {other:.6g}"
        for value, other in zip(values, expected, strict=True)
        if not math.isclose(value, other, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    ]


def _check(model_id: str, what: str, wrong: Sequence[str], detail: str) -> Check:
    return Check(model_id, what, "failed" if wrong else "passed", "; ".join(wrong) or detail)
