"""The packages' source holds nothing that runs what a file says: pickle, eval, shells, unchecked loads."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

_REPOSITORY = Path(__file__).parents[2]
_SOURCES = sorted(file for package in ("eomt", "workbench") for file in (_REPOSITORY / package).rglob("*.py"))
_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "yaml", "pty"}
_CALLS = {"eval", "exec", "os.system", "os.popen", "pandas.read_pickle", "pd.read_pickle", "torch.hub.load"}
_SAFE: dict[str, tuple[str, bool]] = {"torch.load": ("weights_only", True), "np.load": ("allow_pickle", False)}
"""Calls that must say this."""


def findings(source: str) -> Iterator[str]:
    """What a module does that none may."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [name.name for name in node.names]
            yield from (f"imports {name}" for name in names if name.partition(".")[0] in _MODULES)
        elif isinstance(node, ast.Call):
            yield from _in_call(node)


def _in_call(node: ast.Call) -> Iterator[str]:
    name = ast.unparse(node.func)
    said = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
    if name in _CALLS or said.get("shell") == "True":
        yield f"calls {name}"
    if name in _SAFE:
        keyword, value = _SAFE[name]
        if said.get(keyword) != str(value):
            yield f"calls {name} without {keyword}={value}"
    if name.endswith("Image.open") and "formats" not in said:
        yield f"calls {name} without formats"


@pytest.mark.parametrize("path", _SOURCES, ids=lambda path: str(path.relative_to(_REPOSITORY)))
def test_nothing_runs_what_a_file_says(path: Path) -> None:
    found = list(findings(path.read_text(encoding="utf-8")))
    if path.name == "ray_worker.py":  # what workers of one cluster send each other, as Ray itself does; no file
        found = [finding for finding in found if finding != "imports pickle"]
    if path.parent.name in ("bench", "parity"):  # these read their own files with the tools that they compare
        found = [finding for finding in found if "Image.open" not in finding]
    assert not found


@pytest.mark.parametrize(
    "source",
    [
        *("import pickle", "from pickle import loads", "import yaml", "eval('1')", "exec(text)", "os.system('ls')"),
        *("torch.load(path)", "torch.load(path, weights_only=False)", "np.load(file, allow_pickle=True)"),
        *("subprocess.run('ls', shell=True)", "Image.open(path)", "pd.read_pickle(path)"),
    ],
)
def test_each_kind_would_be_found(source: str) -> None:
    assert list(findings(source))


def test_what_is_safe_is_not_found() -> None:
    source = "torch.load(p, weights_only=True); np.load(p, allow_pickle=False); model.eval(); Image.open(p, formats=F)"
    assert not list(findings(source))
