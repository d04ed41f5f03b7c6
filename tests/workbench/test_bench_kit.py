"""The kit of the benchmarks: no time without agreement, sides in turn, losses said, Markdown and JSON."""

import json
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner

from workbench.bench import measuring
from workbench.bench.measuring import Case, Disagreement, Result, Timings, measure, same
from workbench.bench.reporting import Report, Section, as_json, command_line, finish, machine, markdown


def result(ours: tuple[float, ...], theirs: tuple[float, ...] | None, **fields: object) -> Result:
    case = Case("a thing", ours=lambda: None, peer="the peer", **fields)  # type: ignore[arg-type]
    return Result(case, Timings(ours, 10 << 20), None if theirs is None else Timings(theirs, 40 << 20))


def test_what_disagrees_is_not_timed() -> None:
    calls: list[str] = []
    case = Case("x", ours=lambda: calls.append("ours") or 1, theirs=lambda: calls.append("theirs") or 2, peer="p")
    with pytest.raises(Disagreement, match="results differ: 1 by us, 2 by the peer"):
        measure(case, rounds=3)
    assert calls == ["ours", "theirs"]


def test_rounds_are_in_turn_and_the_first_changes() -> None:
    calls: list[str] = []
    case = Case("x", ours=lambda: calls.append("a"), theirs=lambda: calls.append("b"), peer="p")
    measured = measure(case, rounds=3)
    assert "".join(calls) == "ab" + "ab" + "ba" + "ab"
    assert len(measured.ours.seconds) == 3 and measured.theirs is not None and len(measured.theirs.seconds) == 3


def test_memory_is_the_peak_beyond_what_was_there() -> None:
    held = np.ones(30 << 20, np.uint8)
    case = Case("x", ours=lambda: len(np.ones(50 << 20, np.uint8)), theirs=lambda: len(np.ones(50 << 20, np.uint8)))
    measured = measure(case, rounds=1)
    if measured.ours.peak_bytes is None:
        pytest.skip("this system does not tell the peak of resident memory")
    assert 48 << 20 <= measured.ours.peak_bytes < 70 << 20 and held[0] == 1


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [({"a": [1.0]}, {"a": [1.0 + 1e-16 * 4]}), ((1, 2), (1,)), (np.zeros(2), np.zeros(3)), ({"a": 1}, {"b": 1})],
)
def test_bit_equality_forgives_nothing(ours: object, theirs: object) -> None:
    with pytest.raises(Disagreement):
        same(ours, theirs)


def test_equal_results_are_the_same_whatever_holds_them() -> None:
    same({"a": [np.array([np.nan, 1.0]), "x"]}, {"a": (np.array([np.nan, 1.0]), "x")})


def test_goals_are_met_or_named_as_missed() -> None:
    goals = (
        measuring.times(4),
        measuring.times(5),
        measuring.within(1),
        measuring.share_of_memory(0.1),
        measuring.per_second(9),
    )
    measured = result((1.0, 0.5, 3.0), (4.0, 4.0, 5.0), goals=goals, items=10)
    assert measured.ratio == 4
    assert [goal.text for goal in measured.missed] == ["at least 5x", "at most 0.1 of its memory"]
    text = markdown(Report("T", "about", [Section("S", [measured])]), {}, "cmd", "2026-01-01")
    assert "at least 4x: met" in text
    assert "- a thing: goal missed, at least 5x; measured 1 s, 4.00x, 0.25 of its memory, 10 a second." in text


def test_where_we_lose_is_said() -> None:
    report = Report("T", "about", [Section("S", [result((2.0,), (1.0,))])])
    assert "a thing: 0.50 times as fast as the peer, so slower." in markdown(report, {}, "cmd", "2026-01-01")
    won = Report("T", "about", [Section("S", [result((1.0,), (2.0,))])])
    assert "Nowhere in this run" in markdown(won, {}, "cmd", "2026-01-01")


def test_a_measurement_without_peer_has_no_ratio() -> None:
    report = Report("T", "about", [Section("S", [result((2.0,), None, goals=(measuring.within(1),))])])
    (row,) = as_json(report, {}, "cmd", "2026-01-01")["sections"][0]["results"]
    assert row["times_as_fast"] is None and row["theirs"] is None
    assert row["goals"] == [{"goal": "at most 1 s", "met": False}]


def test_a_report_is_written_as_markdown_and_json(tmp_path: Path) -> None:
    report = Report("T", "about", [Section("S", [result((1.0,), (2.0,))], ["a note"])], {"seed": 7})
    finish(report, machine(("numpy", "no-such-package")), "workbench bench x", "x", tmp_path)
    (text,), (data,) = tmp_path.glob("*-x.md"), tmp_path.glob("*-x.json")
    assert "a note" in text.read_text() and f"- numpy: {np.__version__}" in text.read_text()
    content = json.loads(data.read_text())
    assert content["command"] == "workbench bench x" and content["seed"] == 7
    assert content["sections"][0]["results"][0]["theirs"]["seconds"] == [2.0]


def test_the_command_is_repeated_without_where_it_writes(tmp_path: Path) -> None:
    @click.command()
    @click.option("--images", type=int, default=3)
    @click.option("--dtype", multiple=True)
    @click.option("--fast/--slow", default=True)
    @click.option("--out")
    @click.pass_context
    def bench(context: click.Context, **_: object) -> None:
        click.echo(command_line(context))

    given = ["--dtype", "a", "--dtype", "b", "--slow", "--out", str(tmp_path)]
    assert CliRunner().invoke(bench, given).output == "bench --dtype a --dtype b --slow\n"
