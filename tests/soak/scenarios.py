"""The commands that are put under faults, what each makes, and the small world that they share.

A world is a folder of one data set of 12 images, runs over it, files to import, and earlier exports. It always lies at
the same path, so that every result can be compared with the undisturbed one to the last byte.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.reference.tiny_training import tiny_config
from workbench.evaluation import keeping
from workbench.prediction.defaults import BUNDLED_MODEL
from workbench.sample.writing import make_dataset

IMAGES = 12
DATASET = "data/scenes_val.toml"
_PREDICT = ("predict", "--dataset", DATASET, "--model", BUNDLED_MODEL, "--workers", "2")
_EVALUATION = (
    *(keeping.METRICS, keeping.MATCHES, keeping.PER_CATEGORY, keeping.PER_IMAGE, keeping.DETECTIONS),
    *(keeping.ERRORS, keeping.CONFUSION, keeping.SLICES),
)
_AUDIT = ("audit.parquet", "audit_images.parquet", "audit.csv", "audit.json")

WORLD: tuple[tuple[str, ...], ...] = (
    (*_PREDICT, "--out", "runs/earlier", "--keep-candidates"),
    (*_PREDICT, "--out", "runs/plain", "--task", "instance"),
    (*_PREDICT, "--out", "runs/few", "--limit", "3"),
    ("evaluate", "runs/earlier"),
    ("export", "runs/earlier", "--format", "coco-panoptic", "--out", "sources/panoptic.json"),
    ("export", "runs/plain", "--format", "coco-results", "--out", "sources/results.json"),
    ("export", "runs/earlier", "--format", "index-png", "--out", "sources/labels"),
    ("export", "runs/few", "--format", "coco-panoptic", "--out", "exports/panoptic.json"),
    ("export", "runs/few", "--format", "index-png", "--out", "exports/labels"),
    ("export", "runs/few", "--format", "coco-results", "--out", "exports/results.json"),
)
"""The commands that make a world, in an empty one."""


@dataclass(frozen=True)
class Scenario:
    """A command in the world."""

    name: str
    arguments: tuple[str, ...]
    outputs: tuple[str, ...]
    """The names of what it makes or changes; all else stays as it is."""
    seal: Callable[[Path], bool] | None = None
    """Whether the outputs claim to be whole: they are the new ones or the earlier ones then, all of them."""
    run: str | None = None
    """The run folder that it fills shard by shard."""
    again: tuple[str, ...] = ()
    """Options that a second attempt needs."""

    @property
    def command(self) -> str:
        """The subcommand."""
        return self.arguments[0]

    @property
    def repeated(self) -> tuple[str, ...]:
        """The command of a second attempt."""
        return (*self.arguments, *self.again)


def _exists(name: str) -> Callable[[Path], bool]:
    return lambda world: (world / name).exists()


def _says_complete(name: str) -> Callable[[Path], bool]:
    def is_complete(world: Path) -> bool:
        manifest = world / name
        return manifest.exists() and json.loads(manifest.read_text())["status"] == "complete"

    return is_complete


def _prediction(name: str, *options: str) -> Scenario:
    return Scenario(
        f"predict {name}",
        (*_PREDICT, "--out", "runs/new", *options),
        ("runs/new",),
        _says_complete("runs/new/run.json"),
        "runs/new",
    )


def _import(format_: str, source: str) -> Scenario:
    return Scenario(
        f"import {format_}",
        ("import", source, "--dataset", DATASET, "--format", format_, "--out", "runs/imported"),
        ("runs/imported",),
        _says_complete("runs/imported/run.json"),
        "runs/imported",
    )


def _export(format_: str, run: str, out: str, *more: str, fresh: bool = False) -> Scenario:
    arguments = ("export", run, "--format", format_, "--out", out)
    yes = ("--yes",)
    return Scenario(
        f"export {format_}",
        arguments if fresh else (*arguments, *yes),
        (out, *more),
        _exists(out),
        again=yes if fresh else (),
    )


def _evaluation(name: str, run: str, *options: str) -> Scenario:
    outputs = tuple(f"{run}/{file}" for file in _EVALUATION)
    return Scenario(name, ("evaluate", run, *options), outputs, _exists(f"{run}/{keeping.METRICS}"))


SCENARIOS: tuple[Scenario, ...] = (
    _prediction("panoptic"),
    _prediction("instance", "--task", "instance"),
    _prediction("candidates", "--keep-candidates"),
    _evaluation("evaluate first", "runs/plain"),
    _evaluation("evaluate again", "runs/earlier", "--boundary", "--confidence", "0.9", "--resamples", "100"),
    _import("coco-results", "sources/results.json"),
    _import("coco-panoptic", "sources/panoptic.json"),
    _import("index-png", "sources/labels"),
    _export("coco-panoptic", "runs/earlier", "exports/panoptic.json", "exports/panoptic"),
    _export("index-png", "runs/earlier", "exports/labels"),
    _export("coco-results", "runs/plain", "exports/results.json"),
    _export("cvat", "runs/plain", "exports/cvat", fresh=True),
    Scenario(
        "train",
        (
            *("train", "--dataset", DATASET, "--val", DATASET, "--eval-limit", "4", "--config", "tiny.json"),
            *("--steps", "12", "--batch-size", "2", "--save-every", "3", "--eval-every", "4", "--out", "trainings/new"),
        ),
        ("trainings/new",),
        _says_complete("trainings/new/train.json"),
    ),
    Scenario(
        "audit",
        ("audit", "runs/earlier", "--out", "reports/audit"),
        (*(f"runs/earlier/{file}" for file in _AUDIT), "reports/audit"),
    ),
    Scenario(
        "sweep",
        ("sweep", "runs/earlier"),
        ("runs/earlier/sweep.json", "runs/earlier/sweep.parquet"),
        _exists("runs/earlier/sweep.json"),
    ),
    Scenario("report", ("report", "runs/earlier", "--out", "reports/report"), ("reports/report",)),
)


def named(names: Sequence[str]) -> list[Scenario]:
    """Those scenarios, in that order."""
    of_name = {scenario.name: scenario for scenario in SCENARIOS}
    return [of_name[name] for name in names]


def lay_out(world: Path) -> None:
    """What no command makes: the data set, and the configuration of a model to train."""
    make_dataset(world / "data", IMAGES, seed=3)
    tiny_config(world)
