"""All compiled kernels at once: `python -m workbench.kernels` compiles them ahead of their first use on a machine."""

import importlib

MODULES = (
    "eomt.mask_kernels",
    "workbench.evaluation.boundary_kernels",
    "workbench.evaluation.instance_kernels",
    "workbench.evaluation.kernels",
    "workbench.evaluation.map_kernels",
    "workbench.label_map_kernels",
    "workbench.mask_rle_kernels",
    "workbench.rle_kernels",
    "workbench.sweeping.kernels",
)


def compile_all() -> None:
    """Compile what is not on disk yet: some 25 seconds of a core the first time, then one. Raises ImportError without
    numba."""
    for name in MODULES:
        importlib.import_module(name)
    importlib.import_module("eomt.jit").compile_waiting()


if __name__ == "__main__":
    compile_all()
