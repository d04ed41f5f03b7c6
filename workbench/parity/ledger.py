"""The ledger: where official tools surprise, what we do in strict and corrected mode, why, and which test pins it."""

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_HEAD = """\
# Where the official tools surprise, and what we do

`workbench evaluate` repeats the official tools to the last bit, their oddities included: a number means the same
whoever computed it. `--corrected` mends them; `metrics.json` says under `mode` which of the two was measured. A dash in
that column: nothing to mend. Each row names the test that pins it.

Versions: panopticapi as packaged in panopticapi-lite 0.2.0 (`panopticapi/evaluation.py`, single-core path), pycocotools
2.0.11 (`cocoeval.py`, `coco.py`), tidecv 1.0.1 (`quantify.py`, `ap.py`), CSAILVision/sceneparsing
(`evaluationCode/utils_eval.py`), transformers 5.23.0.

"Same" is bit-equal: sums of floats are added in the tool's own order, whatever the order of rows, shards and chunks.
TIDE's numbers are equal to 1e-12.

`workbench parity` compares with those of the tools that are installed, on the bundled scenes with worn predictions and
with such oddities put into their annotations, and prints this list with what came of it. This page is made by
`make docs` from `workbench/parity/ledger.toml`.
"""


@dataclass(frozen=True)
class Row:
    """One difference or oddity."""

    id: str
    group: str
    official: str
    """What the tool does."""
    strict: str
    corrected: str
    """Empty: as in strict mode."""
    why: str
    tests: tuple[str, ...]
    """Names of functions below tests/."""
    check: str
    """The oracle in whose comparison the row shows; empty where only tests do."""


def ledger() -> tuple[Row, ...]:
    """All rows, in the order of the page."""
    content = tomllib.loads((Path(__file__).parent / "ledger.toml").read_text(encoding="utf-8"))
    return tuple(
        Row(
            id=row["id"],
            group=group["title"],
            official=row["official"],
            strict=row["strict"],
            corrected=row.get("corrected", ""),
            why=row["why"],
            tests=tuple(row["tests"]),
            check=row.get("check", group["check"]),
        )
        for group in content["group"]
        for row in group["row"]
    )


def document() -> str:
    """The content of docs/parity.md."""
    return "".join([_HEAD, *_sections()])


def _sections() -> Iterator[str]:
    group = ""
    for row in ledger():
        if row.group != group:
            group = row.group
            yield f"\n## {group}\n\n| id | what it does | we, strict | we, corrected | why | test |\n"
            yield "| --- | --- | --- | --- | --- | --- |\n"
        tests = ", ".join(f"`{name}`" for name in row.tests)
        yield f"| {row.id} | {row.official} | {row.strict} | {row.corrected or '-'} | {row.why} | {tests} |\n"
