"""A checkpoint before its weights are loaded: configuration, processor, its own task, a hash of its weights."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eomt.auto import load_config
from eomt.configuration import EomtConfig
from eomt.hub import HubOptions, find_file, try_find_file
from eomt.image_processing import EomtImageProcessor
from eomt.resizing import canvas_size
from eomt.weight_files import INDEX, ORIGINAL, ORIGINAL_INDEX, SINGLE, shard_names
from workbench.errors import ModelError, did_you_mean
from workbench.formats.base import TASKS, Task
from workbench.storage import local_path, url_of
from workbench.storage.checkpoints import local_checkpoint

BUNDLED_CHECKPOINTS = Path(__file__).parent.parent / "checkpoints"
TASK_KEY = "segmentation_task"
"""In config.json: what a checkpoint of `workbench train` was trained for."""
_BLOCK = 1 << 20


@dataclass(frozen=True)
class Checkpoint:
    """Where a model comes from and what its small files say of it."""

    model_id: str
    """As the user named it: a hub id, a folder, or the name of a bundled checkpoint."""
    place: str
    """What eomt reads: the hub id or the folder."""
    config: EomtConfig
    processor: EomtImageProcessor

    @property
    def short_name(self) -> str:
        """The last part of its id, for the names of run folders."""
        return Path(self.place).resolve().name if Path(self.place).is_dir() else self.place.rpartition("/")[2]

    @property
    def own_task(self) -> Task | None:
        """The task it was trained for as far as its files tell.

        `workbench train` writes it into config.json; else crops are for semantic segmentation, else the name tells.
        """
        noted = [task for task in TASKS if task == self.config.extra.get(TASK_KEY)]
        if noted:
            return noted[0]
        if self.processor.do_split_image:
            return "semantic"
        return task_in_name(self.short_name)

    def weights_sha256(self) -> str:
        """As `sha256_of` its weight files."""
        return sha256_of(weight_files(self.place))

    def settings(self) -> dict[str, Any]:
        """What the configuration and the processor add to a run's identity, as JSON values."""
        config = json.dumps(self.config.to_dict(), sort_keys=True)
        return {
            "config_sha256": hashlib.sha256(config.encode()).hexdigest(),
            "processor": self.processor.to_dict(),
        }


def task_in_name(name: str) -> Task | None:
    """The task that a checkpoint's name speaks of, where it is exactly one."""
    named = [task for task in TASKS if task in name.lower()]
    return named[0] if len(named) == 1 else None


def place_of(model_id: str) -> str:
    """What eomt reads for a bundled name, a folder (~ is expanded) or a hub id.

    A bundled name means the same wherever a command runs: a folder of that name is written as a path, `./NAME`. A
    remote checkpoint is fetched, and its local folder given; hf://owner/name is the hub id. Raises StorageError.
    """
    if url_of(model_id) is not None:
        return local_checkpoint(model_id)
    if model_id in {folder.name for folder in BUNDLED_CHECKPOINTS.iterdir()}:
        return str(BUNDLED_CHECKPOINTS / model_id)
    folder = local_path(model_id).expanduser()
    return str(folder) if folder.is_dir() else model_id


def open_checkpoint(model_id: str) -> Checkpoint:
    """The checkpoint of that hub id, folder or bundled name, without its weights.

    Raises CheckpointError where its files cannot be found or read, ModelError where its processor does not make what
    its model takes.
    """
    place = place_of(model_id)
    bundled = [folder.name for folder in BUNDLED_CHECKPOINTS.iterdir()]
    if "/" not in place and not Path(place).exists():  # a hub id is owner/name
        raise ModelError(
            f"{model_id} is neither an existing folder, nor a hub id of the form owner/name, nor bundled. "
            f"{did_you_mean(model_id, bundled)} `workbench models list` lists the published ones too."
        )
    if try_find_file(place, "config.json") is None:
        raise ModelError(
            f"{model_id} has no config.json. If its weights are the original repository's, "
            f"`workbench models convert {model_id} OUT` brings them to the published layout."
        )
    checkpoint = Checkpoint(model_id, place, load_config(place), EomtImageProcessor.from_pretrained(place))
    check_input_size(model_id, checkpoint.processor, checkpoint.config)
    return checkpoint


def check_input_size(model_id: str, processor: EomtImageProcessor, config: EomtConfig) -> None:
    """Raise ModelError where the processor does not make what the model takes."""
    if not (processor.do_pad or processor.do_split_image):
        raise ModelError(
            f"{model_id}: its processor neither pads nor splits images, so that they do not fit the model's "
            'fixed input. Set "do_pad": true in its preprocessor_config.json (semantic crops: "do_split_image").'
        )
    made = canvas_size(processor.size)
    made = (made[0], made[0]) if processor.do_split_image else made
    if made != config.image_size_hw:
        raise ModelError(
            f"{model_id}: its processor makes inputs of {made[0]}x{made[1]} pixels (height x width), its "
            f"model takes {config.image_size_hw[0]}x{config.image_size_hw[1]}. Correct size in "
            "preprocessor_config.json, or image_size in config.json."
        )


def weight_files(place: str, options: HubOptions | None = None) -> list[Path]:
    """The local paths of a checkpoint's file of weights, or of its shards by name; those that eomt would read.

    Raises CheckpointError where there are none.
    """
    for single, index in ((SINGLE, INDEX), (ORIGINAL, ORIGINAL_INDEX)):
        if path := try_find_file(place, single, options):
            return [path]
        if path := try_find_file(place, index, options):
            return [find_file(place, shard, options) for shard in shard_names(path)]
    return [find_file(place, SINGLE, options)]


def sha256_of(files: Sequence[Path]) -> str:
    """Hex digest of the file of weights; of several shards, of their digests in the order of their names."""
    digests = [_sha256(path) for path in files]
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
