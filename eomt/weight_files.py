"""Files of weights: one safetensors file or its shards, read and written; the original's `pytorch_model.bin`, read."""

from collections.abc import Callable
from os import PathLike
from pathlib import Path

from huggingface_hub import split_torch_state_dict_into_shards
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from eomt.errors import CheckpointError
from eomt.hub import HubOptions, find_file, place, read_json, try_find_file, write_json
from eomt.pickled_tensors import load_tensors

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
ORIGINAL = "pytorch_model.bin"
ORIGINAL_INDEX = "pytorch_model.bin.index.json"


def read_weights(id_or_folder: str | PathLike[str], options: HubOptions | None = None) -> dict[str, Tensor]:
    """All tensors of a checkpoint by name, on the CPU, memory-mapped: a tensor that is not used is not read.

    Takes `model.safetensors`, else the shards of its index, else `pytorch_model.bin` or its shards (tensors only, never
    other pickled objects). Raises `CheckpointError` where there is none of them or one is damaged.
    """
    if path := try_find_file(id_or_folder, SINGLE, options):
        return _read_safetensors(path)
    if path := try_find_file(id_or_folder, INDEX, options):
        return _read_shards(id_or_folder, path, options, _read_safetensors)
    if path := try_find_file(id_or_folder, ORIGINAL, options):
        return _read_pickle(path)
    if path := try_find_file(id_or_folder, ORIGINAL_INDEX, options):
        return _read_shards(id_or_folder, path, options, _read_pickle)
    raise CheckpointError(
        f"{place(id_or_folder)} has no weights: neither {SINGLE} nor {ORIGINAL}, nor an index of either's shards."
    )


def write_weights(state: dict[str, Tensor], folder: Path, max_shard_size: int | str) -> None:
    """Write tensors by name, in shards with an index where they are larger than `max_shard_size` (bytes or "5GB").

    Each file appears whole or not at all, so that weights which are mapped from this very folder stay intact; weight
    files that an earlier save left and this one did not overwrite are removed.
    """
    shards = split_torch_state_dict_into_shards(
        state, max_shard_size=max_shard_size, filename_pattern="model{suffix}.safetensors"
    )
    written = set(shards.filename_to_tensors)
    for name, keys in shards.filename_to_tensors.items():
        part = folder / f"{name}.part"
        save_file({key: state[key].contiguous() for key in keys}, part, metadata={"format": "pt"})
        part.replace(folder / name)
    if shards.is_sharded:
        write_json(folder / INDEX, {"metadata": shards.metadata, "weight_map": shards.tensor_to_filename})
        written.add(INDEX)
    for file in (folder / SINGLE, folder / INDEX, *folder.glob("model-*-of-*.safetensors")):
        if file.name not in written:
            file.unlink(missing_ok=True)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError) as error:
        raise _damaged(path, error) from error


def _read_shards(
    id_or_folder: str | PathLike[str],
    index: Path,
    options: HubOptions | None,
    read: Callable[[Path], dict[str, Tensor]],
) -> dict[str, Tensor]:
    state: dict[str, Tensor] = {}
    for name in shard_names(index):
        state |= read(find_file(id_or_folder, name, options))
    return state


def shard_names(index: Path) -> list[str]:
    """The files that an index of shards names, sorted. Raises CheckpointError where one lies outside its folder."""
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict):
        raise CheckpointError(f"{index} has no weight_map, which names the shard of each weight.")
    names = sorted({str(name) for name in weight_map.values()})
    for name in names:
        if Path(name).name != name:
            raise CheckpointError(f"{index} names the shard {name!r}, which is outside its folder.")
    return names


def _read_pickle(path: Path) -> dict[str, Tensor]:
    try:
        content = load_tensors(path, mmap=True)
    except Exception as error:  # of a damaged archive torch raises what it likes
        raise _damaged(path, error) from error
    state = content.get("state_dict", content) if isinstance(content, dict) else None
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise CheckpointError(f"{path} does not hold a state dict: names and tensors, nothing else.")
    return dict(state)


def _damaged(path: Path, error: Exception) -> CheckpointError:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return CheckpointError(f"{path} is damaged or incomplete ({reason}); copy or download it again.")
