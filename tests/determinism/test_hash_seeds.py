"""Neither the hash seed of Python nor a process's number of threads reaches a file, from prediction to report."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

SEEDS_AND_THREADS = ((0, 1), (1, 2))
IMAGES = 5
_COMMANDS = [
    ["predict", "--dataset", "scenes_val", "--limit", str(IMAGES), "--out", "run", "--batch-size", "2"],
    ["evaluate", "run", "--errors", "--confidence", "0.9", "--resamples", "20", "--json"],
    ["export", "run", "--format", "coco-panoptic", "--out", "panoptic.json"],
    ["export", "run", "--format", "label-studio", "--out", "label_studio"],
    ["report", "run", "--out", "report", "--tiles", "1"],
]
# In one process: importing torch takes longer than the work.
_PROGRAM = """
import json, sys
from workbench.cli import main
for arguments in json.loads(sys.argv[1]):
    main(arguments, standalone_mode=False)
"""
_SESSIONS = re.compile(rb'"sessions": \[.*?\n    \]', re.DOTALL)
_TIME = re.compile(rb"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d)?(\+00:00| UTC)?")


def files_of(folder: Path) -> dict[str, bytes]:
    """Everything that was written, times left out, and run.json's record of the session; locks name their process."""
    return {
        str(path.relative_to(folder)): _TIME.sub(b"TIME", _SESSIONS.sub(b"", path.read_bytes()))
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock" and not path.is_relative_to(folder / "cache")
    }


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, bytes]]:
    """What each process wrote."""
    found = []
    for seed, threads in SEEDS_AND_THREADS:
        folder = tmp_path_factory.mktemp("process") / "here"  # the same name for all: reports name the folder
        folder.mkdir()
        environment = {
            **os.environ,
            "PYTHONPATH": str(REPOSITORY),
            "WORKBENCH_CACHE": str(folder / "cache"),
            "PYTHONHASHSEED": str(seed),
            "OMP_NUM_THREADS": str(threads),
        }
        command = [sys.executable, "-c", _PROGRAM, json.dumps(_COMMANDS)]
        ended = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
        assert ended.returncode == 0, ended.stderr
        found.append(files_of(folder))
    return found


def test_every_file_is_the_same_for_all_of_them(written: list[dict[str, bytes]]) -> None:
    first, *others = written
    names = {"run/predictions/part-00000.parquet", "run/metrics.json", "panoptic.json", "report/index.html"}
    assert names <= set(first)
    for other in others:
        assert list(other) == list(first)
        assert [name for name in first if other[name] != first[name]] == []
