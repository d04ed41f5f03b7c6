"""`make verify-hub`: download published checkpoints and compare them with what is published of them.

Exit codes: 0 all that could run passed; 1 a check failed; 77 nothing failed, but the hub or the image was out of reach.
Scores need the datasets (`workbench datasets download coco_val ade20k_val`) and hours on a CPU; those whose dataset is
absent are skipped, which is no failure.
"""

import tomllib
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import click
import huggingface_hub.constants

from tests.hub.checks import Check, Outcome, check_configurations, check_outputs, check_score, find_image
from workbench.errors import DatasetError
from workbench.models.published import PUBLISHED

SKIPPED = 77  # as automake's tests say it
_EXPECTED = Path(__file__).parent / "published.toml"
_TIMEOUT_SECONDS = 20


@click.command()
@click.option(
    "--expected", type=click.Path(exists=True, path_type=Path), default=_EXPECTED, help="What to compare with."
)
@click.option("--scores/--no-scores", default=True, help="Predict and evaluate whole datasets too, where present.")
@click.option("--runs", type=click.Path(path_type=Path), default=Path("runs/verify-hub"), help="Where the runs go.")
def main(expected: Path, scores: bool, runs: Path) -> None:
    """Compare published checkpoints with what is published of them."""
    if reason := why_unreachable():
        click.echo(f"Skipped: {reason}. verify-hub needs the internet, or HF_ENDPOINT naming a mirror of the hub.")
        raise SystemExit(SKIPPED)
    outcomes: list[Outcome] = []
    for check in all_checks(tomllib.loads(expected.read_text(encoding="utf-8")), scores, runs):
        outcomes.append(check.outcome)
        click.echo(f"{check.outcome:12}{check.model_id}: {check.what}: {check.detail}")
    counts = [f"{outcomes.count(outcome)} {outcome}" for outcome in get_args(Outcome)]
    click.echo(", ".join(counts))
    raise SystemExit(1 if "failed" in outcomes else SKIPPED if "unreachable" in outcomes else 0)


def why_unreachable() -> str | None:
    """Why the hub cannot be asked; None where it answers, whatever the answer."""
    if huggingface_hub.constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    endpoint = huggingface_hub.constants.ENDPOINT
    try:
        urllib.request.urlopen(endpoint, timeout=_TIMEOUT_SECONDS).close()
    except urllib.error.HTTPError as error:
        error.close()
    except OSError as error:
        return f"{endpoint} does not answer ({getattr(error, 'reason', None) or error})"
    return None


def all_checks(expected: Mapping[str, Any], scores: bool, runs: Path) -> Iterator[Check]:
    """Every check in the order of the file, configurations first."""
    if expected.get("check_configurations"):
        yield from check_configurations(PUBLISHED)
    try:
        image = find_image(expected["image"])
    except DatasetError as error:
        yield Check("all models", "outputs", "unreachable", str(error))
    else:
        for outputs in expected.get("outputs", ()):
            yield from check_outputs(outputs, image, expected["image"]["size_hw"])
    if scores:
        for score in expected.get("scores", ()):
            yield check_score(score, runs)


if __name__ == "__main__":
    main()
