"""The push benchmark: both ways write the same, and nothing is left in the database."""

from typing import Any

import pytest
from click.testing import CliRunner

from workbench.cli import main


# pycocotools' decode, which the documented way calls, builds its arrays in a way that numpy 2 frowns on.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_both_ways_are_measured_and_their_datasets_deleted(fo: Any) -> None:
    done = CliRunner().invoke(main, ["bench", "push", "--images", "2", "--masks", "2", "--rounds", "1"])
    assert done.exit_code == 0, done.output
    assert "every label, box, score and mask" in done.stdout
    assert fo.list_datasets() == []
