"""`import eomt` is light, and offers what it says."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import eomt


def test_importing_the_package_and_its_numpy_parts_costs_no_torch() -> None:
    code = "import sys, eomt, eomt.label_maps; print('torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"


@pytest.mark.parametrize("name", eomt.__all__)
def test_every_exported_name_loads(name: str) -> None:
    assert getattr(eomt, name).__name__ == name
    assert name in dir(eomt)


def test_type_checkers_see_the_same_names() -> None:
    tree = ast.parse(Path(eomt.__file__).read_text(encoding="utf-8"))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    seen = {alias.asname: node.module for node in imports for alias in node.names if alias.asname}
    assert seen == {name: f"eomt.{module}" for name, module in eomt._HOME.items()}


def test_a_name_that_does_not_exist_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'EomtModel'"):
        eomt.EomtModel  # noqa: B018
