"""Peak memory of `predict` must not grow with the number of images, but for what it knows of each.

    python -m tests.memory.predict_memory [--images 1000 10000] [--task panoptic instance] [--model FOLDER]

Predicts small photographs of noise, each file linked many times, with a tiny model of random weights, or another one
whose classes are the bundled sample's, in a process of its own. Prints that process's peak resident memory and the
rows. Exits with 1 where memory grows by more than `BYTES_ALLOWED` an image and `NOISE_MB` of the allocator's moods.
Takes some minutes.
"""

import argparse
import json
import multiprocessing
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from tests.memory.evaluate_memory import peak_mb

BYTES_ALLOWED = 4096
"""An image: its entry in the annotations' JSON, its record and path, its place in the list of batches."""
NOISE_MB = 30
SIZE_HW = (96, 128)
DISTINCT_IMAGES = 16
CATEGORIES = [{"id": i + 1, "name": f"class {i}", "isthing": int(i < 3)} for i in range(4)]
OPTIONS = {
    "panoptic": {"threshold": 0.0, "overlap_threshold": 0.0},  # weights are random: no query is sure
    "instance": {"top_k": 50},
}


def make_dataset(folder: Path, count: int) -> Path:
    """A COCO dataset without objects of so many images; returns its TOML file."""
    (folder / "images").mkdir(parents=True)
    names = [f"{i:06}.jpg" for i in range(count)]
    for i, name in enumerate(names):
        if i < DISTINCT_IMAGES:
            noise = np.random.default_rng(i).integers(0, 256, (SIZE_HW[0] // 8, SIZE_HW[1] // 8, 3), np.uint8)
            Image.fromarray(noise).resize(SIZE_HW[::-1], Image.Resampling.BICUBIC).save(folder / "images" / name)
        else:
            os.link(folder / "images" / names[i % DISTINCT_IMAGES], folder / "images" / name)
    images = [{"id": i, "file_name": name, "height": SIZE_HW[0], "width": SIZE_HW[1]} for i, name in enumerate(names)]
    content = {"images": images, "annotations": [], "categories": CATEGORIES}
    (folder / "instances.json").write_text(json.dumps(content))
    definition = folder / "many.toml"
    definition.write_text('format = "coco"\nroot = "."\nimages = "images"\ninstances = "instances.json"\n')
    return definition


def make_model(folder: Path) -> None:
    """A checkpoint of two narrow layers, for images of 96x96 pixels."""
    from eomt import EomtConfig, EomtForUniversalSegmentation, EomtImageProcessor

    shape = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "num_blocks": 1}
    names = {i: str(category["name"]) for i, category in enumerate(CATEGORIES)}
    config = EomtConfig(image_size=96, num_queries=20, num_upscale_blocks=1, id2label=names, **shape)
    EomtForUniversalSegmentation(config).save_pretrained(folder)
    EomtImageProcessor(size={"shortest_edge": 96, "longest_edge": 96}, do_pad=True).save_pretrained(folder)


def measure(folder: Path, count: int, task: str, model: Path) -> tuple[float, float, int]:
    """Peak resident MB, seconds and rows of one prediction; the process should have done nothing else."""
    os.environ["WORKBENCH_CACHE"] = str(folder / "cache")
    import torch

    import workbench

    torch.set_num_threads(1)
    started = time.perf_counter()
    dataset, out = folder / str(count) / "many.toml", folder / f"{task}-{count}"
    run = workbench.predict(dataset, model=model, task=task, out=out, progress=False, workers=1, **OPTIONS[task])
    seconds = time.perf_counter() - started
    return peak_mb(), seconds, run.store.count_segments()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs="+", default=[1000, 10000])
    parser.add_argument("--task", nargs="+", choices=tuple(OPTIONS), default=list(OPTIONS))
    parser.add_argument("--model", type=Path, help="A checkpoint's folder instead of the tiny one.")
    options = parser.parse_args()
    context, failed = multiprocessing.get_context("spawn"), False
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with context.Pool(1) as pool:  # not here: a process starts with the peak of the one that started it
            pool.apply(make_model, (folder / "model",))
        for count in options.images:
            make_dataset(folder / str(count), count)
        for task in options.task:
            peaks = []
            for count in options.images:
                with context.Pool(1) as pool:
                    peak, seconds, rows = pool.apply(measure, (folder, count, task, options.model or folder / "model"))
                print(f"{task:8} {count:6} images {rows:8} rows {peak:5.0f} MB {seconds:6.1f} s", flush=True)
                peaks.append(peak)
            growth, more = peaks[-1] - peaks[0], options.images[-1] - options.images[0]
            allowed = NOISE_MB + BYTES_ALLOWED * more / 1024**2
            print(f"{task:8} grows by {growth:.0f} MB over {more} more images (allowed: {allowed:.0f} MB)", flush=True)
            failed |= growth > allowed
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
