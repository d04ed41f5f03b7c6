"""Writes the tables of docs/scale.md from reports and the capacity model: `python -m tests.scale_document`.

A table stands between `<!-- table: NAME -->` and `<!-- end -->`.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from workbench.bench.capacity import MEASURED, Capacity, gpu_fleet
from workbench.bench.fleet_report import table

REPOSITORY = Path(__file__).parents[1]
DOCUMENT = REPOSITORY / "docs" / "scale.md"
REPORTS = REPOSITORY / "reports" / "benchmarks"
_PLACE = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->\n)", re.DOTALL)


def written(text: str) -> str:
    """The document with every table as it is now."""
    tables = {**Capacity(MEASURED, gpu_fleet(MEASURED)).tables(), **dict(_from_reports())}
    return _PLACE.sub(lambda found: f"{found[1]}\n{tables[found[2]]}\n{found[3]}", text)


def newest(name: str) -> dict[str, Any]:
    """The newest committed report of that name."""
    content: dict[str, Any] = json.loads(sorted(REPORTS.glob(f"*-{name}.json"))[-1].read_text(encoding="utf-8"))
    return content


def stages() -> dict[str, dict[str, float]]:
    """Milliseconds an image of each stage, by the report's section."""
    return {
        section["title"]: {
            result["what"]: 1000 * result["ours"]["median_seconds"] / result["items"] for result in section["results"]
        }
        for section in newest("stages-cpu")["sections"]
    }


def _from_reports() -> Iterator[tuple[str, str]]:
    yield "stages", _stage_table()
    yield "bytes", _bytes_table()
    yield "simulation", table(newest("fleet")["scenarios"])


def _stage_table() -> str:
    found = stages()
    panoptic, instance = (found[f"Around the model, {task}"] for task in ("panoptic", "instance"))
    lines = ["| stage, one CPU core | panoptic | instance |\n", "| --- | --: | --: |\n"]
    lines += [f"| {name} | {panoptic[name]:.1f} ms | {instance[name]:.1f} ms |\n" for name in panoptic]
    shards = found["Shards on disk"]
    committed = [shards[f"a shard of drawn {task} scenes"] for task in ("panoptic", "instance")]
    lines.append(f"| write, in shards of 512 | {committed[0]:.2f} ms | {committed[1]:.2f} ms |\n")
    for name, stage in found.items():
        if name.startswith("EoMT-"):
            lines.append(f"| forward pass of {name} at 640 | {stage['model']:,.0f} ms | the same |\n")
    return "".join(lines)


def _bytes_table() -> str:
    lines = ["| images of | bytes an image | masks | boxes | the rest |\n", "| --- | --: | --: | --: | --: |\n"]
    for name, columns in newest("stages-cpu")["bytes_an_image"].items():
        total, masks, boxes = columns["files"], columns["counts"], columns["bbox"]
        rest = total - masks - boxes
        shares = " | ".join(f"{part / total:.0%}" for part in (masks, boxes, rest))
        lines.append(f"| {name} | {total:,.0f} | {shares} |\n")
    return "".join(lines)


if __name__ == "__main__":
    DOCUMENT.write_text(written(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")
