"""Compiling a kernel once per machine, as `eomt` does it: see `eomt.jit`, which costs no torch."""

from eomt.jit import compiled as compiled
from eomt.jit import inlined as inlined
