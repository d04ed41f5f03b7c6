"""`workbench.predict` takes a checkpoint of EoMT on DINOv3 as it takes any other."""

from pathlib import Path

import numpy as np
import torch

import workbench
from eomt import EomtDinov3Config, EomtDinov3ForUniversalSegmentation, EomtImageProcessor
from eomt.image_inputs import rgb_tensor
from tests.reference.few_scenes import unlabelled_scenes
from tests.reference.tiny_models import randomise
from workbench import rle


def test_semantic_maps_of_a_dinov3_checkpoint_are_what_the_documented_pipeline_gives(tmp_path: Path) -> None:
    config = EomtDinov3Config(
        hidden_size=24,
        num_attention_heads=2,
        num_hidden_layers=3,
        num_blocks=2,
        image_size=64,
        patch_size=16,
        num_queries=6,
        intermediate_size=40,
        id2label={0: "one", 1: "two", 2: "three"},
    )
    model = EomtDinov3ForUniversalSegmentation(config).eval()
    randomise(model, 0)
    model.attn_mask_probs.zero_()
    processor = EomtImageProcessor(size={"shortest_edge": 64, "longest_edge": 64}, do_pad=True)
    model.save_pretrained(tmp_path / "dinov3")
    processor.save_pretrained(tmp_path / "dinov3")
    dataset = unlabelled_scenes(tmp_path / "data", 3)

    run = workbench.predict(
        dataset, model=tmp_path / "dinov3", task="semantic", out=tmp_path / "run", batch_size=1, progress=False
    )

    frame = run.segments().to_pandas()
    records = run.images().to_pylist()
    assert [record["status"] for record in records] == ["ok"] * 3
    seen = set()
    for record in records:
        image = rgb_tensor(tmp_path / "data" / "images" / record["file_name"])
        with torch.inference_mode():
            outputs = model(**processor([image], return_tensors="pt"))
        expected = processor.post_process_semantic_segmentation(outputs, [tuple(image.shape[1:])])[0].numpy()
        painted = np.full(expected.shape, -1)
        for row in frame[frame["image_id"] == record["image_id"]].itertuples():
            painted[rle.decode(row.counts, row.height, row.width) > 0] = row.category_id - 1
        assert np.array_equal(painted, expected)
        seen |= set(np.unique(expected))
    assert len(seen) > 1
