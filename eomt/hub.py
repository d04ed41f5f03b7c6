"""A checkpoint's files: found in a local folder or, through its own client and cache, on the Hugging Face hub."""

import json
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from eomt.errors import CheckpointError


@dataclass(frozen=True)
class HubOptions:
    """How a hub id is fetched; a local folder needs none of it. The names are those of huggingface_hub."""

    revision: str | None = None
    cache_dir: str | PathLike[str] | None = None
    token: str | bool | None = None
    local_files_only: bool = False


def find_file(id_or_folder: str | PathLike[str], name: str, options: HubOptions | None = None) -> Path:
    """The local path of one file of a checkpoint, fetched first if it lies on the hub.

    Raises `CheckpointError` where there is no such file, or the hub cannot be reached.
    """
    path = try_find_file(id_or_folder, name, options)
    if path is None:
        raise CheckpointError(f"{place(id_or_folder)} has no {name}.")
    return path


def try_find_file(id_or_folder: str | PathLike[str], name: str, options: HubOptions | None = None) -> Path | None:
    """As `find_file`, but None where the checkpoint exists and lacks the file."""
    folder = Path(id_or_folder)
    if folder.is_dir():
        return folder / name if (folder / name).is_file() else None
    if not _looks_like_hub_id(id_or_folder):
        raise CheckpointError(f"{id_or_folder} is neither an existing folder nor a hub id of the form 'owner/name'.")
    return _fetch(str(id_or_folder), name, options or HubOptions())


def place(id_or_folder: str | PathLike[str]) -> str:
    """How an error names a checkpoint."""
    return f"the folder {id_or_folder}" if Path(id_or_folder).is_dir() else f"{id_or_folder} (hub or its local cache)"


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; raises `CheckpointError` where it is not valid JSON or not an object."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not readable as JSON: {error}") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{path} holds a JSON {type(values).__name__}, not an object.")
    return values


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Write an object to a JSON file with sorted keys; the file appears whole or not at all."""
    part = path.with_name(f"{path.name}.part")
    part.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    part.replace(path)


def _looks_like_hub_id(id_or_folder: str | PathLike[str]) -> bool:
    parts = str(id_or_folder).split("/")
    return isinstance(id_or_folder, str) and len(parts) == 2 and all(parts) and parts[0] not in (".", "..", "~")


def _fetch(repo_id: str, name: str, options: HubOptions) -> Path | None:
    # Here and not above: the client costs half a second of import, and a local folder never needs it.
    from huggingface_hub import hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(
            hf_hub_download(
                repo_id,
                name,
                revision=options.revision,
                cache_dir=options.cache_dir,
                token=options.token,
                local_files_only=options.local_files_only,
            )
        )
    except LocalEntryNotFoundError as error:
        # Offline a file that never existed looks like one that was never fetched. With config.json at hand it is the
        # former: a checkpoint has one of several weight files, and all of them are asked for.
        if isinstance(try_to_load_from_cache(repo_id, "config.json", options.cache_dir, options.revision), str):
            return None
        raise CheckpointError(
            f"{repo_id}: {name} is not in the local cache and the hub was not asked or cannot be reached"
            f"{_cause(error)}. Connect to the internet, or give a local folder."
        ) from error
    except EntryNotFoundError:
        return None
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise CheckpointError(f"{repo_id}: cannot fetch {name} from the hub: {error}") from error


def _cause(error: Exception) -> str:
    """What the network said, on one line in parentheses; nothing where the hub was not asked."""
    return f" ({' '.join(str(error.__cause__).split()).rstrip('.')})" if error.__cause__ else ""
