"""What an image costs the process that hands out batches to Ray's workers and commits their rows.

    python -m tests.scale.ray_driver [--images 400 2400 8000]

Predicts small photographs with a tiny model on one Ray worker, each number of images in a process of its own, and
prints the processor's seconds of the driving process: what they grow by is an image's. Needs some minutes.
"""

import argparse
import json
import multiprocessing
import tempfile
import time
from pathlib import Path

from tests.memory.predict_memory import OPTIONS, make_dataset, make_model


def driver_seconds(folder: Path, count: int) -> float:
    """Of one prediction, with its start; the process should have done nothing else."""
    import workbench

    dataset, out = folder / str(count) / "many.toml", folder / f"run-{count}"
    settings = {"engine": "ray", "num_workers": 1, "batch_size": 8, "device": "cpu"}
    begin = time.process_time()
    workbench.predict(
        dataset, model=folder / "model", task="panoptic", out=out, progress=False, **settings, **OPTIONS["panoptic"]
    )
    return time.process_time() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs="+", default=[400, 2400, 8000])
    options = parser.parse_args()
    context, found = multiprocessing.get_context("spawn"), {}
    with tempfile.TemporaryDirectory() as name:
        make_model(Path(name) / "model")
        for count in options.images:
            make_dataset(Path(name) / str(count), count)
            with context.Pool(1) as pool:
                found[count] = round(pool.apply(driver_seconds, (Path(name), count)), 3)
    first, last = min(found), max(found)
    slope = 1000 * (found[last] - found[first]) / max(last - first, 1)
    print(json.dumps({"driver_cpu_seconds": found, "ms_an_image": round(slope, 3)}))


if __name__ == "__main__":
    main()
