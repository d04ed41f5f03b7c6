"""`workbench models convert`: any form of checkpoint into the published layout, compared with what it was made of."""

import os
from collections.abc import Mapping
from fnmatch import fnmatch
from pathlib import Path

import torch
from torch import Tensor

from eomt.auto import load_model
from eomt.modeling import EomtForUniversalSegmentation
from eomt.processor_settings import FILE_NAME as PROCESSOR
from eomt.weight_files import INDEX, SINGLE
from workbench.errors import ModelError, OptionError, did_you_mean
from workbench.files.replacing import new_folder, recover
from workbench.models.card import CARD, model_card
from workbench.models.conversion import Conversion
from workbench.models.form import weights_of
from workbench.models.loading import Source, load, processor_for
from workbench.prediction.checkpoint import check_input_size, open_checkpoint, place_of, sha256_of, weight_files
from workbench.prediction.device import DTYPES
from workbench.storage import plain_path

_ROUNDING = 1e-5
"""Of the largest logit: equal weights at other addresses may be summed in another order."""
_OURS = {"config.json", PROCESSOR, CARD, SINGLE, INDEX}
_SHARDS = "model-*-of-*.safetensors"


def convert(
    source: str,
    out: str | os.PathLike[str],
    *,
    backbone: str | None = None,
    config: str | os.PathLike[str] | None = None,
    classes: str | None = None,
    image_size: int | None = None,
    task: str | None = None,
    dtype: str | None = None,
    max_shard_size: str = "5GB",
    replace: bool = False,
) -> Conversion:
    """Write a checkpoint in the published layout, with its processor and a model card, into the folder `out`.

    Args:
        source: a hub id, folder or bundled name; an original `pytorch_model.bin`, a DINOv3 delta, or published files.
        out: appears when all is written and compared.
        backbone: for a delta, the DINOv3 model that it was trained from.
        config: a `config.json` where the source has none or another one is meant.
        classes: class names by index: a CSV, or the name of a built-in class table such as "coco_panoptic".
        image_size: for a delta, the edge of the input.
        task: decides the processor where the source has none; by default what the source's or the target's name says.
        dtype: "float32", "bfloat16" or "float16"; by default the source's.
        max_shard_size: such as "5GB"; larger weights are cut into several files.
        replace: write even where `out` holds a checkpoint already.

    Raises OptionError, ModelError or CheckpointError; nothing is left at `out` then that was not there before.
    """
    folder, place = plain_path(out).expanduser(), place_of(source)
    _check_target(folder, place, replace)
    weights = weights_of(place)
    dtype = dtype or weights.dtype
    if dtype not in DTYPES:
        raise OptionError(f"no dtype {dtype!r} for weights. {did_you_mean(dtype, DTYPES)}")
    origin = Source(place, weights, backbone, Path(config) if config else None, classes, image_size)
    model = load(origin)
    processor, chosen_task = processor_for(origin, model.config, task, (Path(place).name, folder.name))
    check_input_size(source, processor, model.config)
    source_sha256 = sha256_of(weight_files(place))
    with new_folder(folder) as part:
        processor.save_pretrained(part)
        difference = _write_and_compare(model, part, DTYPES[dtype], max_shard_size)
        written = Conversion(
            folder=folder,
            source=source,
            form=weights.form,
            task=chosen_task,
            parameters=sum(parameter.numel() for parameter in model.parameters()),
            dtype=dtype,
            largest_difference=difference,
            source_sha256=source_sha256,
            weights_sha256=sha256_of(weight_files(str(part))),
        )
        (part / CARD).write_text(model_card(written, model.config, backbone), encoding="utf-8")
        open_checkpoint(str(part))
    return written


def _write_and_compare(
    model: EomtForUniversalSegmentation, folder: Path, dtype: torch.dtype, max_shard_size: str
) -> float:
    """Save the model with its parameters in `dtype`; the largest difference that this makes to a logit.

    Raises ModelError unless the files hold exactly the weights that were to be written and give their logits.
    """
    before = _logits(model)
    for parameter in model.parameters():  # and not the buffers: probabilities and loss weights stay exact
        parameter.data = parameter.data.to(dtype)
    model.save_pretrained(folder, max_shard_size=max_shard_size)
    for parameter in model.parameters():
        parameter.data = parameter.data.float()
    intended = before if dtype == torch.float32 else _logits(model)
    written = load_model(folder, dtype=torch.float32)
    _compare(written, model.state_dict(), intended)
    return max(float((mine - theirs).abs().max()) for mine, theirs in zip(before, intended, strict=True))


def _compare(
    written: EomtForUniversalSegmentation, weights: Mapping[str, Tensor], logits: tuple[Tensor, Tensor]
) -> None:
    state = written.state_dict()
    wrong = [key for key, tensor in weights.items() if not torch.equal(state[key], tensor)]
    differences = [
        float((mine - theirs).abs().max() / theirs.abs().max().clamp(min=1))
        for mine, theirs in zip(_logits(written), logits, strict=True)
    ]
    if wrong or not max(differences) < _ROUNDING:  # "not less" so that NaN fails too
        raise ModelError(
            f"the written files differ from the source: {len(wrong)} weights ({', '.join(wrong[:5])}), logits by "
            f"{max(differences):.2g} of the largest. Nothing was kept; please report this as a defect."
        )


@torch.inference_mode()
def _logits(model: EomtForUniversalSegmentation) -> tuple[Tensor, Tensor]:
    """Mask and class logits of one random image, the same in every call."""
    config = model.config
    image = torch.randn(1, config.num_channels, *config.image_size_hw, generator=torch.Generator().manual_seed(0))
    with torch.random.fork_rng([]):  # attention masks of a probability between 0 and 1 are drawn
        torch.manual_seed(0)
        outputs = model(image)
    assert outputs.masks_queries_logits is not None and outputs.class_queries_logits is not None
    return outputs.masks_queries_logits, outputs.class_queries_logits


def _check_target(folder: Path, place: str, replace: bool) -> None:
    recover(folder)
    if not folder.exists():
        return
    if not folder.is_dir():
        raise OptionError(f"{folder} is a file; name a folder.")
    if Path.cwd().is_relative_to(folder.resolve()):
        raise OptionError(f"{folder} is or holds the current folder, which cannot be replaced; name another folder.")
    if Path(place).is_dir() and folder.samefile(place):
        raise OptionError(f"{folder} is the source itself; write to another folder.")
    files = sorted(path.name for path in folder.iterdir())
    if files and not replace:
        raise OptionError(f"{folder} is there already. Write to another folder, or replace it with --yes.")
    others = [name for name in files if name not in _OURS and not fnmatch(name, _SHARDS)]
    if others:
        raise OptionError(f"{folder} holds more than a checkpoint ({others[0]}), which --yes does not delete.")
