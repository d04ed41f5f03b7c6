"""docs/datasets.md tells every key of a definition, every built-in dataset and every code of a check."""

import dataclasses
import re

from tests.conftest import REPOSITORY
from workbench import catalog
from workbench.catalog.definitions import Archive, DatasetDefinition
from workbench.formats.problems import KINDS

TEXT = (REPOSITORY / "docs/datasets.md").read_text()
NAMED = set(re.findall(r"`([\w.]+)`", TEXT))


def test_every_key_of_a_definition_is_told():
    keys = {field.name for record in (DatasetDefinition, Archive) for field in dataclasses.fields(record)}
    assert keys - {"source"} <= NAMED


def test_every_built_in_dataset_is_told():
    built_in = {path.stem for path in catalog.built_in_folder().glob("*.toml")}
    assert built_in <= NAMED


def test_every_code_of_a_check_is_told_with_its_severity_and_advice():
    rows = re.findall(r"^\| `(\w+)` \| (error|warning) \| (.*) \|$", TEXT, re.MULTILINE)
    assert rows == [(code, kind.severity, kind.advice) for code, kind in KINDS.items()]


def test_the_python_example_runs(capsys):
    (example,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    names: dict[str, object] = {}
    exec(example, names)
    assert "dataset" in names
