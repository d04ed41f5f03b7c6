"""Kernels that are compiled ahead are all that there are, and each is compiled when it is needed."""

import subprocess
import sys
from pathlib import Path

from eomt.jit import compiled, inlined
from workbench.kernels import MODULES

REPOSITORY = Path(__file__).parents[2]


def test_every_module_with_kernels_is_compiled_ahead() -> None:
    sources = [*REPOSITORY.glob("eomt/**/*.py"), *REPOSITORY.glob("workbench/**/*.py")]
    with_kernels = [path for path in sources if "\n@compiled(" in path.read_text(encoding="utf-8")]
    names = [".".join(path.relative_to(REPOSITORY).with_suffix("").parts) for path in with_kernels]
    assert sorted(names) == sorted(MODULES)


def test_the_command_compiles_them() -> None:
    subprocess.run([sys.executable, "-m", "workbench.kernels"], check=True, capture_output=True)


def test_a_kernel_on_demand_is_compiled_when_it_is_called() -> None:
    traced = []

    @compiled("int64(int64)", on_demand=True)
    def twice(number: int) -> int:
        """Its docstring."""
        return _double(number)

    @inlined
    def _double(number: int) -> int:
        return 2 * number

    traced.append(twice(21))  # `_double` was not there when `twice` was defined
    assert traced == [42]
    assert twice.__doc__ == "Its docstring."
