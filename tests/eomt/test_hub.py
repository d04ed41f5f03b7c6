"""A hub id is fetched through huggingface_hub, here from a stand-in for the hub on loopback."""

import hashlib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import huggingface_hub.constants
import pytest
import torch

from eomt import CheckpointError, EomtConfig, EomtForUniversalSegmentation
from tests.reference.tiny_models import randomise

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """The files of the one repository on the hub, someone/tiny-eomt."""
    settings: dict[str, Any] = {"hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 2, "num_blocks": 1}
    model = EomtForUniversalSegmentation(EomtConfig(**settings, image_size=16, patch_size=8, num_queries=3))
    randomise(model, 0)
    model.save_pretrained(tmp_path / "repository", max_shard_size=8000)
    return tmp_path / "repository"


@pytest.fixture
def requests(repository: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The stand-in runs; the list fills with what it was asked for."""
    asked: list[str] = []

    class Hub(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.answer(body=False)

        def do_GET(self) -> None:
            self.answer(body=True)

        def answer(self, body: bool) -> None:
            asked.append(f"{self.command} {self.path}")
            owner, name, resolve, revision, file = (self.path.lstrip("/").split("/", 4) + [""] * 5)[:5]
            known = (owner, name, resolve, revision) in (
                ("someone", "tiny-eomt", "resolve", "main"),
                ("someone", "tiny-eomt", "resolve", COMMIT),
            )
            if not known or not (repository / file).is_file():
                self.send_response(404)
                self.send_header("X-Error-Code", "EntryNotFound" if known else "RepoNotFound")
                self.send_header("X-Repo-Commit", COMMIT)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            content = (repository / file).read_bytes()
            self.send_response(200)
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if body:
                self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            """Stay quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr(
        huggingface_hub.constants,
        "HUGGINGFACE_CO_URL_TEMPLATE",
        f"http://127.0.0.1:{server.server_port}/{{repo_id}}/resolve/{{revision}}/{{filename}}",
    )
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
    yield asked
    server.shutdown()
    server.server_close()


def test_a_sharded_model_is_fetched_by_id(repository: Path, requests: list[str], tmp_path: Path) -> None:
    expected = EomtForUniversalSegmentation.from_pretrained(repository).state_dict()
    loaded = EomtForUniversalSegmentation.from_pretrained(
        "someone/tiny-eomt", cache_dir=tmp_path / "cache", token=False
    )
    assert all(torch.equal(tensor, expected[key]) for key, tensor in loaded.state_dict().items())
    assert any("GET" in request and "model-00002-of" in request for request in requests)


def test_a_fetched_model_loads_again_without_the_network(requests: list[str], tmp_path: Path) -> None:
    EomtForUniversalSegmentation.from_pretrained("someone/tiny-eomt", cache_dir=tmp_path / "cache", token=False)
    requests.clear()
    EomtForUniversalSegmentation.from_pretrained(
        "someone/tiny-eomt", cache_dir=tmp_path / "cache", local_files_only=True
    )
    assert requests == []


def test_a_revision_is_asked_for(requests: list[str], tmp_path: Path) -> None:
    EomtConfig.from_pretrained("someone/tiny-eomt", revision=COMMIT, cache_dir=tmp_path / "cache", token=False)
    assert any(f"/resolve/{COMMIT}/config.json" in request for request in requests)


def test_a_file_that_the_repository_lacks_is_named(repository: Path, requests: list[str], tmp_path: Path) -> None:
    (repository / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"someone/tiny-eomt \(hub or its local cache\) has no config\.json"):
        EomtConfig.from_pretrained("someone/tiny-eomt", cache_dir=tmp_path / "cache", token=False)


def test_a_repository_that_does_not_exist_is_named(requests: list[str], tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="someone/else: cannot fetch"):
        EomtConfig.from_pretrained("someone/else", cache_dir=tmp_path / "cache", token=False)


def test_offline_with_a_configuration_but_no_weights_says_so(requests: list[str], tmp_path: Path) -> None:
    EomtConfig.from_pretrained("someone/tiny-eomt", cache_dir=tmp_path / "cache", token=False)
    with pytest.raises(CheckpointError, match=r"someone/tiny-eomt \(hub or its local cache\) has no weights: neither"):
        EomtForUniversalSegmentation.from_pretrained(
            "someone/tiny-eomt", cache_dir=tmp_path / "cache", local_files_only=True
        )


def test_without_network_and_cache_the_remedy_is_told(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"not in the local cache.*give a local folder"):
        EomtConfig.from_pretrained("someone/tiny-eomt", cache_dir=tmp_path / "cache", local_files_only=True)
