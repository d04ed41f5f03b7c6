"""Readers of what commands leave beside a run or a training: candidates, matches, audits, sweeps, state, manifest."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch

from tests.fuzzing import files
from tests.fuzzing.engine import Reader
from tests.fuzzing.run_readers import METRICS, manifest_of, parquet
from workbench.auditing import keeping
from workbench.auditing.ranking import AUDIT_SCHEMA
from workbench.errors import RunError
from workbench.evaluation import gates
from workbench.report.thresholds import threshold_curve
from workbench.runs import Run
from workbench.segments import candidate_table
from workbench.training import checkpoints, folder

_FLOOR = {"dataset": "0", "candidate_floor": 0.05}
_AUDIT = {"version": keeping.VERSION, "evaluated": "2026-01-01"}
_SWEEP: dict[str, Any] = {
    "main": "pq",
    "current": {"threshold": 0.8, "overlap_threshold": 0.8, "pq": 0.5},
    "best": {"threshold": 0.7, "overlap_threshold": 0.8, "pq": 0.6},
    "held_out": {"pq": 0.55},
    "points": [{"threshold": t / 10, "overlap_threshold": 0.8, "pq": t / 20} for t in (5, 7, 8)],
    "provenance": {"dataset": {"fingerprint": "0"}, "run_identity": _FLOOR},
}
_TRAINING = {"version": 1, "status": "incomplete", "identity": {"seed": 0, "dataset": "0"}, "steps": 3}
_STATE = {"training": {"model": {"weight": torch.ones(2, 3)}, "step": 3}, "recent": [{"loss": 1.0}]}


def kept_readers(base: Path) -> tuple[Reader, ...]:
    """The readers, with a run and a training of their own each below `base`."""
    here, words = (base,), (b"PAR1", b"workbench.schema_version")

    def of_run(name: str, read: Callable[[Run], object]) -> Callable[[bytes], None]:
        run = base / f"run of {Path(name).name}"
        run.mkdir(parents=True)
        whole = {
            "run.json": json.dumps({**manifest_of(base), "identity": _FLOOR}).encode(),
            "metrics.json": json.dumps(METRICS).encode(),
            "audit.json": json.dumps(_AUDIT).encode(),
            "audit.parquet": parquet(_ranking()),
            "images/part-00000.parquet": b"",  # only its name is read: the shard counts
        }
        for place, content in whole.items():
            (run / place).parent.mkdir(exist_ok=True)
            (run / place).write_bytes(content)

        def write_and_read(data: bytes) -> None:
            (run / name).parent.mkdir(exist_ok=True)
            (run / name).write_bytes(data)
            read(Run.open(run))

        return write_and_read

    def of_training(name: str, read: Callable[[Path], object]) -> Callable[[bytes], None]:
        place = base / f"training of {name}"
        place.mkdir()

        def write_and_read(data: bytes) -> None:
            (place / name).write_bytes(data)
            read(place)

        return write_and_read

    return (
        Reader("candidate shard", "bytes", (parquet(_candidates()), parquet(_candidates(), "none")),
               of_run("candidates/part-00000.parquet", lambda run: run.candidates()), here, ("part-",), words),
        Reader("match table", "bytes", (parquet(_ranking()),),
               of_run("matches.parquet", lambda run: run.matches()), here, ("matches.parquet",), words, share=0.5),
        Reader("audit summary", "json", (json.dumps(_AUDIT).encode(),),
               of_run("audit.json", keeping.kept), here, ("audit.json",)),
        Reader("audit ranking", "bytes", (parquet(_ranking()), parquet(_ranking(), "none")),
               of_run("audit.parquet", keeping.kept), here, ("audit.parquet",), words),
        Reader("audited metrics", "json", (json.dumps(METRICS).encode(),),
               of_run("metrics.json", keeping.kept), here, ("metrics.json", "audit.json"), share=0.5),
        Reader("sweep", "json", (json.dumps(_SWEEP).encode(),),
               of_run("sweep.json", lambda run: threshold_curve(run, METRICS)), here, ("sweep.json",)),
        Reader("training manifest", "json", (json.dumps(_TRAINING).encode(),),
               of_training("train.json", lambda place: folder.begin(place, _TRAINING, resume=True)), here,
               ("training of",)),
        Reader("training state", "bytes", (torch_file(_STATE),), of_training("state.pt", checkpoints.load_state), here,
               ("state.pt",), (b"cposix\nsystem\n", b"c__builtin__\neval\n", b"\x80\x02", b"R", b"."), share=0.5),
        Reader("gate", "bytes", (b"pq=0.55", b"0.5", b"miou=0.1"), _read_gate, words=(b"=", b"nan", b"1e400", b"AP")),
    )  # fmt: skip


def _read_gate(data: bytes) -> None:
    limits = gates.parse([data.decode(errors="replace")], "--fail-below")
    if gates.below({"pq": 0.6, "miou": None}, limits):
        raise RunError("below the limit")


def _candidates() -> pa.Table:
    area = int(files.MASK.sum())
    return candidate_table(
        {
            "image_id": ["1", "1"],
            "query": [3, 7],
            "category_id": [1, 1],
            "isthing": [True, True],
            "score": [0.9, 0.1],
            "area": [area] * 2,
            "height": [files.HEIGHT] * 2,
            "width": [files.WIDTH] * 2,
            "counts": [files.COUNTS] * 2,
            "gains": [files.COUNTS] * 2,
        }
    )


def _ranking() -> pa.Table:
    row = {"rank": 1, "image_id": "1", "kind": "spurious", "suspicion": 0.5, "segment_id": 1, "category_id": 1}
    return pa.Table.from_pylist(
        [row | {"name": "cat", "area": 12, "bbox": [2.0, 1.0, 4.0, 3.0], "why": "nobody else sees it"}], AUDIT_SCHEMA
    )


def torch_file(content: Any) -> bytes:
    """What `torch.save` writes."""
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()
