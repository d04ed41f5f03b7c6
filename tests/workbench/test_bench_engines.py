"""The benchmark of engines compares rows before it tells a time, and what an image costs the command."""

from collections.abc import Iterator
from itertools import count, repeat
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pytest
from click.testing import CliRunner

from workbench.bench import engines
from workbench.bench.engines import Command, digest, driver_note
from workbench.bench.measuring import Disagreement
from workbench.cli import main
from workbench.errors import WorkbenchError
from workbench.segments import SEGMENT_SCHEMA


def given_out(digests: Iterator[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands do nothing; their rows have these digests, and an image costs them 0.25 ms."""
    done = SimpleNamespace(returncode=0, stdout="0.25\n", stderr="")
    monkeypatch.setattr(engines, "subprocess", SimpleNamespace(run=lambda *given, **options: done))
    monkeypatch.setattr(engines, "Run", SimpleNamespace(open=lambda path: path))
    monkeypatch.setattr(engines, "digest", lambda run: next(digests))


def test_a_report_tells_ratio_cost_and_load(monkeypatch: pytest.MonkeyPatch) -> None:
    given_out(repeat("same"), monkeypatch)
    ended = CliRunner().invoke(main, ["bench", "engines", "--engine", "processes", "--rounds", "1"])
    assert ended.exit_code == 0, ended.output
    assert "predict --processes 2, 40 images" in ended.stdout
    assert "load average" in ended.stdout
    assert "0.25 ms (0.25 to 0.25)" in " ".join(ended.stdout.split())


def test_other_rows_are_told_instead_of_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    given_out(map(str, count()), monkeypatch)
    with pytest.raises(Disagreement):
        engines.benchmark(("ray",), 4, 1, "", None, lambda text: None)


def test_a_command_that_fails_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    failed = SimpleNamespace(returncode=1, stdout="", stderr="Error: no.\n")
    monkeypatch.setattr(engines, "subprocess", SimpleNamespace(run=lambda *given, **options: failed))
    with pytest.raises(WorkbenchError, match=r"predicting with ray failed: Error: no\."):
        Command(tmp_path, "ray", {}, 4).run()


def test_the_cost_is_the_median_with_its_spread() -> None:
    assert "rows 2.00 ms (1.00 to 9.00)" in driver_note([9.0, 1.0, 2.0])


def test_the_digest_is_of_all_rows_in_order() -> None:
    empty = SEGMENT_SCHEMA.empty_table()

    def run(*ids: str) -> SimpleNamespace:
        return SimpleNamespace(segments=lambda: empty, images=lambda: pa.table({"image_id": list(ids)}))

    assert digest(run("a", "b")) == digest(run("a", "b"))  # type: ignore[arg-type]
    assert digest(run("a", "b")) != digest(run("b", "a"))  # type: ignore[arg-type]
