"""Readers of checkpoints and images: config.json, preprocessor_config.json, weights of both kinds, photos."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save

from eomt import image_inputs
from eomt.auto import load_config, load_model
from eomt.errors import ImageInputError
from eomt.image_processing import EomtImageProcessor
from tests.fuzzing import files
from tests.fuzzing.engine import Reader
from tests.reference.tiny_eomt import tiny_model
from workbench.formats.pictures import UNDECODABLE, decode_fully
from workbench.models.form import weights_of
from workbench.prediction.checkpoint import sha256_of, weight_files


def model_readers(base: Path) -> tuple[Reader, ...]:
    """The readers of a tiny checkpoint below `base`, a file each; and of images."""
    model = tiny_model()
    model.save_pretrained(base / "whole")
    EomtImageProcessor().save_pretrained(base / "whole")
    config, processor = ((base / "whole" / name).read_bytes() for name in ("config.json", "preprocessor_config.json"))
    # A few small weights: every check is the same, and more inputs fit into the time.
    few = {key: value for key, value in model.state_dict().items() if value.numel() <= 64 and "query" not in key}
    pickled = io.BytesIO()
    torch.save(dict(list(few.items())[:6]), pickled)
    index = {"metadata": {}, "weight_map": dict.fromkeys(few, "model-00001-of-00001.safetensors")}
    for folder in ("shards", "hashed"):
        (base / folder).mkdir()
        (base / folder / "model-00001-of-00001.safetensors").write_bytes(save(few))
    here = (base,)

    def of_file(name: str, read: Callable[[Path], object], folder: str | None = None) -> Callable[[bytes], None]:
        place = base / (folder or name.replace(".", "-"))
        place.mkdir(exist_ok=True)

        def write_and_read(data: bytes) -> None:
            (place / name).write_bytes(data)
            read(place)

        return write_and_read

    def load_whole(folder: Path) -> None:
        load_config(folder)
        load_model(folder)

    dinov3 = json.dumps({**json.loads(config), "model_type": "eomt_dinov3", "rope_parameters": {"rope_theta": 100.0}})
    return (
        Reader("config.json", "json", (config, dinov3.encode()), of_file("config.json", load_whole, "whole"), here,
               ("whole",), share=0.25),
        Reader("preprocessor_config.json", "json", (processor,),
               of_file("preprocessor_config.json", lambda f: EomtImageProcessor.from_pretrained(f).to_json_string()),
               here, ("preprocessor_config",)),
        Reader("safetensors", "bytes", (save(few), save({"x": torch.ones(2, 3)})),
               of_file("model.safetensors", lambda f: weights_of(str(f))), here, ("model-safetensors",),
               (b'"dtype"', b'"F32"', b'"shape"', b'"data_offsets"')),
        Reader("weight index", "json", (json.dumps(index).encode(),),
               of_file("model.safetensors.index.json", lambda f: weights_of(str(f)), "shards"), here, ("shards",)),
        Reader("weight index of a run", "json", (json.dumps(index).encode(),),
               of_file("model.safetensors.index.json", lambda f: sha256_of(weight_files(str(f))), "hashed"), here,
               ("hashed",), share=0.5),
        Reader("pytorch_model.bin", "bytes", (pickled.getvalue(),),
               of_file("pytorch_model.bin", lambda f: weights_of(str(f))), here, ("pytorch_model",),
               (b"cposix\nsystem\n", b"c__builtin__\neval\n", b"\x80\x02", b"R", b"."), share=0.5),
        Reader("image", "bytes", files.pictures(), of_file("photo.png", _read_image), here, ("photo.png",)),
    )  # fmt: skip


def _read_image(folder: Path) -> None:
    path = folder / "photo.png"
    try:
        size_hw, _, _ = decode_fully(path)
    except UNDECODABLE:
        size_hw = None
    try:
        pixels = image_inputs.rgb_tensor(str(path), where=str(path))
    except OverflowError as error:  # none is expected; a plain one would look like a refusal
        raise AssertionError(str(error)) from error
    if size_hw is not None and tuple(pixels.shape[1:]) != size_hw:
        raise ImageInputError(f"{path}: header and pixels disagree.")
