"""A hub id is fetched through huggingface_hub, here from a stand-in for the hub on loopback."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError

from eomt import CheckpointError, EomtConfig, EomtForUniversalSegmentation
from tests.reference.hub_server import COMMIT, serving_hub
from tests.reference.tiny_models import randomise


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """The files of the one repository on the hub, someone/tiny-eomt."""
    settings: dict[str, Any] = {"hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 2, "num_blocks": 1}
    model = EomtForUniversalSegmentation(EomtConfig(**settings, image_size=16, patch_size=8, num_queries=3))
    randomise(model, 0)
    folder = tmp_path / "hub" / "someone" / "tiny-eomt"
    model.save_pretrained(folder, max_shard_size=8000)
    return folder


@pytest.fixture
def requests(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The stand-in runs; the list fills with what it was asked for."""
    with serving_hub(tmp_path / "hub") as hub:
        hub.point_client_at(monkeypatch)
        yield hub.requests


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


def test_a_hub_that_cannot_be_reached_is_told_with_the_cause(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cause = OSError("[Errno -2] Name or service not known")

    def unreachable(*_: object, **__: object) -> str:
        raise LocalEntryNotFoundError("An error happened") from cause

    monkeypatch.setattr("huggingface_hub.hf_hub_download", unreachable)
    with pytest.raises(CheckpointError, match=r"reached \(\[Errno -2\] Name or service not known\)\. Connect"):
        EomtConfig.from_pretrained("someone/tiny-eomt", cache_dir=tmp_path / "cache", token=False)
