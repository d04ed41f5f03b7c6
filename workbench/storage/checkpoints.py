"""Checkpoints in a store, fetched into the cache: configuration, processor, safetensors; never pickles."""

import json
from pathlib import Path

from workbench.errors import MissingObjectError, ModelError, StorageError
from workbench.storage import mirror, objects
from workbench.storage.places import Place, mirror_path, url_of
from workbench.storage.services import offline

CONFIG = "config.json"
SMALL_FILES = (CONFIG, "preprocessor_config.json")
SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
MOST_SMALL_BYTES = 16 << 20
MOST_WEIGHT_BYTES = 64 << 30


def local_checkpoint(place: Place) -> str:
    """What eomt reads for a checkpoint's place: `hf://owner/name` is that hub id, any other URL a folder of the cache.

    The files are fetched where they are missing or the store has others; a place that is no URL is given back. Raises
    ModelError where it is no checkpoint, and StorageError.
    """
    url = url_of(place)
    if url is None:
        return str(place)
    scheme, _, key = url.partition("://")
    if scheme == "hf" and key.count("/") == 1:
        return key
    folder = mirror_path(url)
    if not offline():
        _fetch(url, folder)
    return str(folder)


def _fetch(url: str, folder: Path) -> None:
    listed = objects.listing(url, deep=False)
    if CONFIG not in listed:
        what = f"it holds {', '.join(sorted(listed)[:5])}" if listed else "there is nothing"
        raise ModelError(f"{url}: no checkpoint: it has no {CONFIG} ({what}). Name the folder that holds one.")
    small = [name for name in (*SMALL_FILES, INDEX) if name in listed]
    mirror.update({folder / name: listed[name] for name in small}, MOST_SMALL_BYTES)
    weights = [SINGLE] if SINGLE in listed else _shards(url, folder / INDEX) if INDEX in listed else []
    if not weights:
        raise ModelError(
            f"{url}: no weights in safetensors ({SINGLE}, or {INDEX} and its shards). Pickled ones are not fetched: "
            "download them, run `workbench models convert`, and upload what it wrote."
        )
    if lost := [name for name in weights if name not in listed]:
        raise MissingObjectError(f"{url}/{lost[0]}: no such object, but {INDEX} names it. Upload the checkpoint whole.")
    mirror.update({folder / name: listed[name] for name in weights}, MOST_WEIGHT_BYTES)
    for name in {*SMALL_FILES, SINGLE, INDEX} - listed.keys():  # of an earlier version of the checkpoint
        (folder / name).unlink(missing_ok=True)


def _shards(url: str, index: Path) -> list[str]:
    """The names of the shards: plain file names, of safetensors."""
    try:
        names = sorted({str(name) for name in json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()})
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise StorageError(f"{url}/{INDEX}: no index of shards ({type(error).__name__}: {error}).") from error
    if strange := [name for name in names if "/" in name or "\\" in name or not name.endswith(".safetensors")]:
        raise StorageError(f"{url}/{INDEX}: names {strange[0]!r}, which is no safetensors file beside it.")
    return names
