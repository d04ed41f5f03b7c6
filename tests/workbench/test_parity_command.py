"""`workbench parity` must pass with what is installed, name what differs, and say what it could not compare."""

import json

import pytest
from click.testing import CliRunner

from workbench.cli import main
from workbench.parity import checks, oracles
from workbench.parity.checks import Check


@pytest.fixture(autouse=True)
def without_transformers(monkeypatch):
    """Its comparison is tested by itself below."""
    monkeypatch.setitem(checks.PACKAGES, "transformers", ())


def test_every_installed_oracle_passes_and_the_rest_is_said():
    done = CliRunner().invoke(main, ["parity", "--json", "--seed", "1"])
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    outcomes = {(check["oracle"], check["outcome"]) for check in report["checks"]}
    assert outcomes == {
        ("panopticapi", "pass"),
        ("pycocotools", "pass"),
        ("tidecv", "pass"),
        ("transformers", "not installed"),
    }
    assert all(check["numbers"] > 0 for check in report["checks"] if check["outcome"] == "pass")
    assert all(report["oddities"].values()), report["oddities"]
    rows = {row["id"]: row["outcome"] for row in report["ledger"]}
    assert (rows["PQ4"], rows["AP1"], rows["TIDE3"], rows["SEM1"]) == ("pass", "pass", "pass", "tests")
    assert rows["EOMT11"] == "not installed"


def test_a_number_that_differs_fails_with_the_name_of_the_tool(monkeypatch):
    scores = oracles.panopticapi_scores

    def off_by_one_bit(files):
        found = scores(files)
        found["all"]["pq"] += 1e-15
        return found

    monkeypatch.setattr(oracles, "panopticapi_scores", off_by_one_bit)
    done = CliRunner().invoke(main, ["parity"])
    assert done.exit_code == 1
    assert "differ from those of panopticapi" in done.stderr
    assert "FAIL" in done.stdout


def test_nothing_compared_is_no_pass():
    assert Check("tidecv", "1.0.1", "nothing", numbers=0).passed is False
    assert Check("tidecv", None, "nothing").passed is None


def test_shapes_that_differ_are_a_difference(monkeypatch):
    found = checks._check("pycocotools", "shapes", lambda: iter([([1.0, 2.0], [1.0])]))
    assert found.passed is False
    found = checks._check("pycocotools", "not a number", lambda: iter([([1.0, 2.0], [1.0, float("nan")])]))
    assert found.passed is False


@pytest.mark.slow
def test_transformers_gives_the_logits_of_the_bundled_checkpoint(monkeypatch):
    monkeypatch.setitem(checks.PACKAGES, "transformers", ("transformers",))
    done = CliRunner().invoke(main, ["parity", "--json"])
    (check,) = [check for check in json.loads(done.stdout)["checks"] if check["oracle"] == "transformers"]
    assert check["outcome"] == "pass"
