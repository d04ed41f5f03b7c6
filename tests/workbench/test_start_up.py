"""What a first prediction does not wait for, and how long it takes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from workbench.bench import start_up
from workbench.bench.start_up import Start
from workbench.cli import main
from workbench.errors import WorkbenchError

NOT_NEEDED = ("torch._dynamo", "scipy.optimize", "sympy", "transformers", "torchvision", "fiftyone", "matplotlib")
PREDICT = """
import json, sys
from workbench.cli import main
main(["predict", "--dataset", "scenes_val", "--limit", "1", "--out", sys.argv[1]], standalone_mode=False)
print(json.dumps([name for name in sys.argv[2:] if name in sys.modules]))
"""

WRITE_NOTHING = "import sys, pathlib; pathlib.Path(sys.argv[-1], 'predictions').mkdir(parents=True)"


def test_predicting_imports_no_compiler_of_torch_and_nothing_of_training(tmp_path: Path) -> None:
    command = [sys.executable, "-c", PREDICT, str(tmp_path / "run"), *NOT_NEEDED]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.splitlines()[-1]) == []


def test_the_benchmark_tells_seconds_of_a_process_and_of_the_processor(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(start_up, "_COMMAND", (sys.executable, "-c", WRITE_NOTHING, "--device", "cpu"))
    arguments = ["bench", "start-up", "--rounds", "1", "--out", str(tmp_path)]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    content = json.loads(next(tmp_path.glob("*-start-up.json")).read_text())
    warm, cold = content["sections"]
    assert warm["results"][0]["goals"] and "Of the processor" in cold["notes"][0]


def test_a_command_that_fails_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(start_up, "_COMMAND", (sys.executable, "-c", "raise SystemExit('no model')"))
    with pytest.raises(WorkbenchError, match="no model"):
        Start(tmp_path, cold=True).run()
