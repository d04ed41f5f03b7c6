"""Another batch size changes rounding only, by no more than docs/predict.md says."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.determinism.rounding import (
    BATCH_SIZES,
    MOST_PIXELS,
    MOST_SCORE,
    TASKS,
    Difference,
    difference,
    predict,
    random_checkpoint,
)
from workbench.prediction.defaults import BUNDLED_MODEL
from workbench.runs import Run

MODELS = ("bundled", "random weights of ViT-S's width")
SHORT = (5,)  # of six images: a whole batch and a rest of one


@pytest.fixture(scope="module")
def run_of(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str, int], Run]:
    """The run of a model, task and batch size; made once."""
    folder = tmp_path_factory.mktemp("rounding")
    models = {MODELS[0]: BUNDLED_MODEL, MODELS[1]: random_checkpoint(folder / "random", scenes)}
    made: dict[tuple[str, str, int], Run] = {}

    def run(model: str, task: str, batch_size: int) -> Run:
        key = (model, task, batch_size)
        if key not in made:
            out = folder / "-".join(map(str, key))
            made[key] = predict(scenes, out, task, models[model], batch_size=batch_size, limit=6)
        return made[key]

    return run


@pytest.mark.parametrize(
    "batch_size",
    [pytest.param(size, marks=() if size in SHORT else pytest.mark.slow) for size in BATCH_SIZES if size != 2],
)
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("model", MODELS)
def test_another_batch_size_changes_no_more_than_documented(
    model: str, task: str, batch_size: int, run_of: Callable[[str, str, int], Run]
) -> None:
    found = difference(run_of(model, task, 2), run_of(model, task, batch_size))
    assert found.rows > 0
    assert found.share <= MOST_PIXELS, str(found)
    assert found.score <= MOST_SCORE, str(found)


def test_other_rows_would_be_found(run_of: Callable[[str, str, int], Run]) -> None:
    found = difference(run_of(MODELS[0], "panoptic", 2), run_of(MODELS[1], "panoptic", 2))
    assert found.share > MOST_PIXELS
    assert found.rows_changed > 0


def test_the_same_run_is_no_difference(run_of: Callable[[str, str, int], Run]) -> None:
    run = run_of(MODELS[0], "panoptic", 2)
    images = run.images().to_pandas()
    pixels = int((images["height"] * images["width"]).sum())
    assert difference(run, run) == Difference(run.segments().num_rows, 0, pixels, 0, 0.0)


def test_the_bounds_are_the_documented_ones() -> None:
    text = " ".join((REPOSITORY / "docs" / "predict.md").read_text(encoding="utf-8").split())
    assert f"changes more than {MOST_PIXELS:g} of the pixels, or moves a score by more than {MOST_SCORE:g}." in text
