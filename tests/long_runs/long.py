"""`make long-runs`: 50,000 images through the whole pipeline with a simulated model, then read from many shards.

Prints memory, file handles and what progress told as the run went on, then the seconds that its rows take to be read;
exit code 1 where memory or handles grow, progress was untrue, or many shards are slower than they may be.
"""

import os
import sys
import tempfile
from pathlib import Path

import click

from tests.long_runs import cutting, watching
from tests.long_runs.simulated import make_dataset, predict
from tests.long_runs.watching import Watch
from workbench import store
from workbench.prediction.pipeline import IMAGES_PER_SHARD

MOST_GROWTH_MB = 32.0
"""From a fifth of the images on: 0.8 kB an image of 40,000 would be found."""
MOST_HANDLES_MORE = 4
"""Images and a shard that are just being read and written, two at a time each."""
MOST_TIMES_SLOWER = 1.25
"""1,000 shards against 10 of the same size, per row."""
MOST_MS_PER_SHARD = 6.0
"""What a shard may cost beyond its rows: the same rows in 1,000 against 10."""
_BATCH_SIZE = 8


@click.command()
@click.option("--images", default=50_000, show_default=True)
@click.option("--shards", default=1_000, show_default=True)
def main(images: int, shards: int) -> None:
    """Run long and read much."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["WORKBENCH_CACHE"] = f"{folder}/cache"
        problems = watched_run(Path(folder), images) + timed_reads(Path(folder), shards)
    for problem in problems:
        print(f"WRONG: {problem}")
    sys.exit(1 if problems else 0)


def watched_run(folder: Path, images: int) -> list[str]:
    """Predict `images` images into `folder / "run"`; what was wrong meanwhile."""
    watch = Watch(folder / "run", images // 10)
    predict(make_dataset(folder / "data", images), folder / "run", watch)
    print(f"{'images':>8}{'on disk':>9}{'MB':>7}{'handles':>9}{'threads':>9}{'seconds':>9}{'told left':>11}")
    for sample in watch.samples:
        print(
            f"{sample.done:8}{sample.committed:9}{sample.memory:7.0f}{sample.handles:9}{sample.threads:9}"
            f"{sample.seconds:9.1f}{sample.told_left:11.0f}",
            flush=True,
        )
    growth = watching.growth_mb(watch.samples)
    print(f"memory rises by {growth:.1f} MB from a fifth of the images on (allowed: {MOST_GROWTH_MB:.0f})")
    problems = watching.wrong_counts(watch, IMAGES_PER_SHARD, _BATCH_SIZE) + watching.wrong_times(watch.samples)
    if growth > MOST_GROWTH_MB:
        problems.append(f"memory rises by {growth:.1f} MB")
    handles = [sample.handles for sample in watch.samples]
    if max(handles) - handles[0] > MOST_HANDLES_MORE:
        problems.append(f"file handles: {handles}")
    return problems


def timed_reads(folder: Path, shards: int) -> list[str]:
    """Read the run's rows in a hundredth of `shards`, in `shards`, and a hundredth of the rows; what is too slow."""
    store.sync_folder = lambda path: None  # thousands of writes that no power cut will meet
    cuts = cutting.cuts(folder, shards)
    print(f"{'CPU seconds per million rows':32}" + "".join(f"{name:>14}" for name in cutting.WAYS))
    timings = cutting.timings(cuts)
    for name, timing in timings.items():
        print(f"{name:32}" + "".join(f"{1e6 * each / timing.rows:14.3f}" for each in timing.seconds.values()))
    return cutting.too_slow(*timings.values(), MOST_TIMES_SLOWER, MOST_MS_PER_SHARD)


if __name__ == "__main__":
    main()
