"""`make fuzz`: many damaged files to every reader; prints what became of them and keeps each finding as a file.

Exit code 0 where nothing was found, 1 otherwise.
"""

import faulthandler
import os
import re
import resource
import sys
import tempfile
import time
import warnings
from pathlib import Path

import click

from tests.fuzzing.engine import Finding, fuzz

_ROOM = 6 << 30  # bytes of address space beyond what the libraries took


@click.command()
@click.option("--inputs", default=100_000, show_default=True, help="Over all readers.")
@click.option("--seed", default=0, show_default=True, help="Another one finds other things.")
@click.option("--only", default="", help="Readers whose name contains this.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("runs/fuzzing"), show_default=True)
def main(inputs: int, seed: int, only: str, out: Path) -> None:
    """Fuzz every reader."""
    from tests.fuzzing.readers import all_readers

    faulthandler.enable()
    warnings.simplefilter("ignore")
    begun, total, found = time.monotonic(), 0, 0
    with tempfile.TemporaryDirectory(prefix="fuzzing-", dir=_in_memory()) as folder:
        os.environ["WORKBENCH_CACHE"] = f"{folder}/cache"
        readers = [reader for reader in all_readers(Path(folder)) if only in reader.name]
        _limit_memory()
        shares = sum(reader.share for reader in readers)
        print(f"{'reader':26}{'inputs':>9}{'refused':>9}{'kept':>6}{'lines':>7}{'seconds':>9}{'findings':>10}")
        for reader in readers:
            tally = fuzz(reader, -int(-inputs * reader.share // shares), seed)
            total, found = total + tally.inputs, found + len(tally.findings)
            columns = f"{tally.inputs:9}{tally.refused:9}{tally.kept:6}{tally.lines:7}{tally.seconds:9.1f}"
            print(f"{reader.name:26}{columns}{len(tally.findings):10}", flush=True)
            for finding in tally.findings:
                print(f"    {finding.what}: {_keep(finding, out)}", flush=True)
    print(f"{total} inputs, {found} findings, {time.monotonic() - begun:.0f} s")
    sys.exit(1 if found else 0)


def _keep(finding: Finding, out: Path) -> Path:
    name = re.sub(r"\W+", "-", f"{finding.reader} {finding.what}").strip("-")[:100]
    out.mkdir(parents=True, exist_ok=True)
    (out / name).write_bytes(finding.data)
    (out / f"{name}.txt").write_text(finding.details, encoding="utf-8", errors="replace")
    return out / name


def _in_memory() -> Path | None:
    """Where small files cost no disk, if there is such a place."""
    folder = Path("/dev/shm")
    return folder if os.access(folder, os.W_OK) else None


def _limit_memory() -> None:
    """What takes too much memory gets a MemoryError, which is a finding."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + _ROOM, resource.RLIM_INFINITY))


if __name__ == "__main__":
    main()
