"""Damaged files to every reader: never a traceback, a hang, much memory or a write elsewhere. The short form.

`make fuzz` is the long one. What it once found stands in `corpus/` and in `cases.py`, and is tried here each time.
"""

import json
import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzzing import engine
from tests.fuzzing.cases import CASES, READ
from tests.fuzzing.engine import Reader, examine, fuzz, warm_up
from tests.fuzzing.mutation import mutate
from tests.fuzzing.readers import all_readers, make_dataset
from tests.fuzzing.run_readers import manifest_of
from workbench.errors import DatasetError, WorkbenchError
from workbench.imports.api import import_predictions
from workbench.training.history import read_entries
from workbench.transfer_formats import TransferFormat

INPUTS = 200  # of each reader
NAMES = (
    *("rle", "dataset definition", "class table", "training recipe", "COCO instances", "COCO panoptic", "panoptic PNG"),
    *("index PNG", "instance ids", "import coco-results", "import coco-panoptic", "import panoptic PNG"),
    *("import index-png", "datasets check", "import command", "run manifest", "segment shard", "image shard"),
    *("metrics", "candidate shard", "match table", "audit summary", "audit ranking", "audited metrics", "sweep"),
    *("training manifest", "training state", "gate", "config.json", "preprocessor_config.json", "safetensors"),
    *("weight index", "weight index of a run", "pytorch_model.bin", "image", "archive"),
)
# Of Pillow and torch, on damaged files: what the commands' users would see as a warning, before the error.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def readers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Reader]:
    made = {reader.name: reader for reader in all_readers(tmp_path_factory.mktemp("fuzzing"))}
    for reader in made.values():
        warm_up(reader)
    return made


def test_every_reader_is_listed(readers: dict[str, Reader]) -> None:
    assert tuple(readers) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_damaged_files_are_read_or_refused(readers: dict[str, Reader], name: str) -> None:
    tally = fuzz(readers[name], round(INPUTS * min(1.0, readers[name].share)))
    assert not tally.findings, "\n".join(f"{finding.what}\n{finding.details}" for finding in tally.findings)
    assert tally.refused > 0
    assert tally.lines > 0


@pytest.mark.parametrize("name", NAMES)
def test_whole_files_are_read(readers: dict[str, Reader], name: str) -> None:
    assert examine(readers[name], readers[name].seeds[0]) == (None, None)


@pytest.mark.parametrize(("name", "data"), CASES, ids=[f"{name} {number}" for number, (name, _) in enumerate(CASES)])
def test_what_was_once_found_is_read_or_refused(readers: dict[str, Reader], name: str, data: bytes) -> None:
    finding, answer = examine(readers[name], data)
    assert finding is None, finding.details
    assert answer is not None or data in READ


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.binary(max_size=40))
def test_any_bytes_are_an_rle_or_none(readers: dict[str, Reader], data: bytes) -> None:
    assert examine(readers["rle"], data)[0] is None


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(head=st.sampled_from([b"\6\x08", b"\1\1", b"\0\x05"]), counts=st.text("0123NOPQRSnopq", max_size=20))
def test_any_numbers_are_an_rle_or_none(readers: dict[str, Reader], head: bytes, counts: str) -> None:
    assert examine(readers["rle"], head + counts.encode())[0] is None


@pytest.mark.parametrize(
    "line", [b'{"step": 2', b"[1]", b"7", b"null", b'{"loss": 1}', b'{"step": "2"}', b"\xff", b"[" * 60_000]
)
def test_a_training_s_curve_ends_before_a_line_that_is_no_entry(line: bytes, tmp_path: Path) -> None:
    (tmp_path / "history.jsonl").write_bytes(b'{"step": 1}\n' + line + b'\n{"step": 3}\n')
    assert read_entries(tmp_path / "history.jsonl") == [{"step": 1}]


@pytest.mark.parametrize("format", ["coco-results", "coco-panoptic", "index-png"])
def test_what_is_no_prediction_is_no_import(format: TransferFormat, tmp_path: Path) -> None:
    definition = make_dataset(tmp_path / "dataset")
    sources = {name: tmp_path / name for name in ("missing", "empty folder", "binary", "run folder")}
    sources["empty folder"].mkdir()
    sources["binary"].write_bytes(bytes(range(256)))
    (sources["run folder"] / "images").mkdir(parents=True)
    (sources["run folder"] / "run.json").write_text(json.dumps(manifest_of(tmp_path)))
    for name, source in sources.items():
        with pytest.raises(WorkbenchError, match=name):
            import_predictions(source, definition, format, tmp_path / "imported")
        assert not (tmp_path / "imported" / "run.json").exists()


def careless(tmp_path: Path, read: Callable[[bytes], None]) -> engine.Finding | None:
    return examine(Reader("careless", "bytes", (b"",), read, (tmp_path / "own",), ("file.txt",)), b"x")[0]


def test_a_traceback_is_found(tmp_path: Path) -> None:
    def read(data: bytes) -> None:
        int(data)

    found = careless(tmp_path, read)
    assert found is not None and found.what.startswith("ValueError at test_readers.py")


def test_an_error_without_the_place_is_found(tmp_path: Path) -> None:
    def read(data: bytes) -> None:
        raise DatasetError("it is broken")

    found = careless(tmp_path, read)
    assert found is not None and found.what == "no place in: it is broken"


def test_a_hang_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "SECONDS", 0.05)
    found = careless(tmp_path, lambda data: time.sleep(5))
    assert found is not None and found.what == "no answer in 0.05 s"


def test_a_write_elsewhere_is_found(tmp_path: Path) -> None:
    def write(name: str) -> Callable[[bytes], None]:
        def read(data: bytes) -> None:
            (tmp_path / name).write_bytes(data)

        return read

    (tmp_path / "own").mkdir()
    found = careless(tmp_path, write("elsewhere"))
    assert found is not None and found.what.startswith("open of")
    assert careless(tmp_path, write("own/inside")) is None


def test_much_memory_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    peaks = iter((100.0, 100.0 + engine.MEGABYTES + 1))
    monkeypatch.setattr(engine, "_peak", lambda: next(peaks))
    found = fuzz(Reader("careless", "bytes", (b"",), lambda data: None), 3).findings
    assert "of memory" in found[0].what


def test_inputs_that_reach_new_lines_are_damaged_further(readers: dict[str, Reader]) -> None:
    assert fuzz(readers["run manifest"], 100).kept > 1


def test_the_same_seed_makes_the_same_inputs() -> None:
    made = [mutate(b'{"a": [1, 2]}', random.Random(3), "json", (), b"[]") for _ in range(2)]
    assert made[0] == made[1] != b'{"a": [1, 2]}'
