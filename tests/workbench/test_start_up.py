"""What a first prediction does not wait for."""

import json
import subprocess
import sys
from pathlib import Path

NOT_NEEDED = ("torch._dynamo", "scipy.optimize", "sympy", "transformers", "torchvision", "fiftyone", "matplotlib")
PREDICT = """
import json, sys
from workbench.cli import main
main(["predict", "--dataset", "scenes_val", "--limit", "1", "--out", sys.argv[1]], standalone_mode=False)
print(json.dumps([name for name in sys.argv[2:] if name in sys.modules]))
"""


def test_predicting_imports_no_compiler_of_torch_and_nothing_of_training(tmp_path: Path) -> None:
    command = [sys.executable, "-c", PREDICT, str(tmp_path / "run"), *NOT_NEEDED]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.splitlines()[-1]) == []
