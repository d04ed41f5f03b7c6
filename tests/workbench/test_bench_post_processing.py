"""The benchmark of post-processing: what it compares would notice a difference, and real outputs agree too."""

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from PIL import Image

import eomt
from eomt import EomtImageProcessor, compiled_masks
from eomt.post_processing import top_k_instances
from workbench.bench import post_processing
from workbench.bench.drawn_outputs import drawn_outputs
from workbench.bench.measuring import Disagreement
from workbench.bench.oracle import transformers_processor
from workbench.bench.post_processing import WHOLE, original_top_k, same_candidates, same_segments
from workbench.cli import main
from workbench.sample.scenes import generate

CHECKPOINT = Path(post_processing.__file__).parents[1] / "checkpoints" / "eomt_scenes_panoptic"


def test_the_command_measures_every_case_and_writes_a_report(tmp_path, monkeypatch):
    for name in ("_PANOPTIC", "_INSTANCE", "_TOP_K", "_SEMANTIC"):
        cases = [(size, goals) for size, goals in getattr(post_processing, name)]
        monkeypatch.setattr(post_processing, name, [((48, 64), cases[0][1])])
    threads = torch.get_num_threads()
    done = CliRunner().invoke(
        main,
        ["bench", "predict", "--part", "post-processing", "--rounds", "1", "--out", str(tmp_path)],
        prog_name="workbench",
    )
    assert done.exit_code == 0, done.output
    content = json.loads(next(tmp_path.glob("*-post-processing.json")).read_text())
    assert content["command"] == "workbench bench predict --part post-processing --rounds 1"
    results = [result for section in content["sections"] for result in section["results"]]
    assert [result["what"].split(",")[0] for result in results][:4] == [
        "panoptic",
        "instance",
        "top 100 instances",
        "semantic",
    ]
    assert all(result["agreement"] and result["times_as_fast"] > 0 for result in results)
    assert torch.get_num_threads() == threads


def test_a_seed_draws_the_same_outputs_again():
    first, again, other = (drawn_outputs(seed, 1, 20, 5, 32, 6).masks_queries_logits for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_pixel_a_label_and_a_score_that_differ_are_noticed():
    segment = {"id": 0, "label_id": 3, "score": 0.9}
    result = [{"segmentation": torch.zeros(4, 5), "segments_info": [segment]}]
    same_segments(result, [{"segmentation": torch.zeros(4, 5), "segments_info": [segment | {"score": 0.900001}]}])
    for other in (
        {"segmentation": torch.eye(4, 5), "segments_info": [segment]},
        {"segmentation": torch.zeros(4, 5), "segments_info": []},
        {"segmentation": torch.zeros(4, 5), "segments_info": [segment | {"label_id": 4}]},
        {"segmentation": torch.zeros(4, 5), "segments_info": [segment | {"score": 0.90001}]},
    ):
        with pytest.raises(Disagreement):
            same_segments(result, [other])


def test_a_candidate_that_differs_is_noticed():
    outputs = drawn_outputs(0, 1, 30, 5, 40, 8)
    ours, (masks, classes, scores) = top_k_instances(outputs, [(90, 64)], WHOLE)[0], original_top_k(outputs, (90, 64))
    same_candidates(ours, (masks, classes, scores))
    shifted = masks.roll(1, dims=2)
    for other in ((shifted, classes, scores), (masks, (classes + 1) % 5, scores), (masks, classes, scores + 1e-5)):
        with pytest.raises(Disagreement):
            same_candidates(ours, other)


def test_outputs_of_the_bundled_checkpoint_give_what_they_give_in_transformers():
    # In half precision, in which the file is, transformers would take its means in half precision too.
    model = eomt.load_model(CHECKPOINT, dtype=torch.float32)
    processor = EomtImageProcessor.from_pretrained(CHECKPOINT)
    theirs = transformers_processor(size=dict(processor.size))
    assert compiled_masks.trusted_kernels() is not None
    images = [Image.fromarray(generate(seed).image) for seed in range(4)]
    with torch.inference_mode():
        outputs = model(processor(images, return_tensors="pt")["pixel_values"])
    own = [image.size[::-1] for image in images]
    for sizes in (own, [(2 * height, 2 * width) for height, width in own], [(75, 90)] * 4):
        for name, options in (("panoptic", {}), ("panoptic", {"threshold": 0.3}), ("instance", {"threshold": 0.4})):
            method = f"post_process_{name}_segmentation"
            mine, other = (getattr(each, method)(outputs, sizes, **options) for each in (processor, theirs))
            assert any(result["segments_info"] for result in other)
            same_segments(mine, other)
