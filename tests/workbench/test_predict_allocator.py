"""Freed memory stays with the process while predictions are made, and goes back afterwards."""

import json
import subprocess
import sys

import pytest

from workbench.prediction import allocator
from workbench.prediction.allocator import freed_memory_kept

MEASURE = """
import json, re, sys
from pathlib import Path
import numpy as np
from workbench.prediction.allocator import freed_memory_kept
def resident():
    return int(re.search(r"VmRSS:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) // 1024
def use():
    np.ones(100 << 20, np.uint8)
found = [resident()]
with freed_memory_kept():
    use()
    found.append(resident())
found.append(resident())
use()
found.append(resident())
print(json.dumps(found))
"""


@pytest.mark.skipif(allocator._glibc() is None, reason="the allocator is not glibc's")
def test_a_large_freed_array_stays_until_the_end() -> None:
    done = subprocess.run([sys.executable, "-c", MEASURE], capture_output=True, text=True, check=True)
    before, inside, after, later = json.loads(done.stdout)
    assert inside - before > 90
    assert after - before < 20 and later - before < 20


def test_another_allocator_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allocator, "_glibc", lambda: None)
    with freed_memory_kept():
        pass


def test_an_error_ends_it_too(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[int, ...]] = []

    class Libc:
        def mallopt(self, *values: int) -> None:
            calls.append(values)

        def malloc_trim(self, pad: int) -> None:
            calls.append((pad,))

    monkeypatch.setattr(allocator, "_glibc", Libc)
    with pytest.raises(KeyError), freed_memory_kept():
        assert len(calls) == 2
        raise KeyError
    assert calls[2:] == [(-3, 32 << 20), (-1, 64 << 20), (0,)]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MALLOC_TRIM_THRESHOLD_", "131072"),
        ("MALLOC_MMAP_THRESHOLD_", "131072"),
        ("GLIBC_TUNABLES", "glibc.rtld.nns=2:glibc.malloc.trim_threshold=131072"),
    ],
)
def test_what_the_environment_chose_is_left_alone(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    assert allocator._glibc() is None
