"""Inputs that a reader once took badly: each is refused now with an error that names the file, or read.

Short ones are written out here, others are files in `corpus/<reader>/`. A new finding is added before it is mended.
"""

import json
from pathlib import Path
from typing import Any

from tests.fuzzing import files
from tests.fuzzing.kept_readers import torch_file

_CORPUS = Path(__file__).parent / "corpus"
_DEEP = b"[" * 60_000
_LONG_GLOBAL = b"\x80\x02c" + b"a" * 60_000 + b"\nb\n."  # torch searched its own message about it for 20 s
_MANIFEST: dict[str, Any] = {
    "version": 1,
    "dataset": {"name": "mine", "definition": "mine.toml"},
    "task": "instance",
    "categories": [],
    "identity": {},
    "provenance": {},
}


def _manifest(**changes: Any) -> bytes:
    return json.dumps(_MANIFEST | changes).encode()


def _coordinate(value: Any) -> bytes:
    whole = json.loads(files.instances()[0])
    whole["annotations"][0]["segmentation"] = [[1, 1, 5, 1, 5, value]]
    return json.dumps(whole).encode()


def _area(value: Any) -> bytes:
    whole = json.loads(files.instances()[0])
    whole["annotations"][0]["area"] = value
    return json.dumps(whole).encode()


def _image_id(value: Any) -> bytes:
    whole = json.loads(files.instances()[0])
    whole["images"][1]["id"] = value
    return json.dumps(whole).encode()


_LONG_NAME = json.dumps(
    json.loads(files.instances()[0]) | {"images": [files.IMAGES[0] | {"file_name": "x" * 300}]}
).encode()
_LONG_ID = _image_id("9" * 5000)  # a text like any other, not a number
READ = (_LONG_ID, _LONG_NAME)
CASES: tuple[tuple[str, bytes], ...] = (
    ("rle", b""),  # rows of nothing but empty counts passed `rle.fit`, whatever their images' size
    ("rle", b"\6\x08"),
    ("dataset definition", b"a = " + _DEEP),
    ("COCO instances", _coordinate(10**400)),  # larger than any float
    ("COCO instances", _area(10**400)),
    ("COCO instances", b'{"a":' * 60_000),
    ("COCO instances", _LONG_ID),
    ("COCO instances", _LONG_NAME),
    ("datasets check", _LONG_NAME),
    ("dataset definition", b'format = "coco"\nroot = "https://example.org/a"\nimages = "images"\n'),
    ("sweep", b'{"main": 1' + b"0" * 400 + b"}"),
    ("run manifest", _DEEP),
    ("run manifest", _manifest(dataset=None)),
    ("run manifest", _manifest(dataset={"name": "mine"})),
    ("run manifest", _manifest(categories=3)),
    ("run manifest", _manifest(categories=[{"category_id": 1}])),
    ("run manifest", _manifest(task=["instance"])),
    ("run manifest", _manifest(images="2")),
    ("metrics", b"\xff"),
    ("metrics", b"{"),
    ("metrics", _DEEP),
    ("config.json", b'{"model_type": "eomt", "id2label": [1]}'),
    ("config.json", b'{"model_type": "eomt", "id2label": {"one": "cat"}}'),
    ("config.json", b'{"model_type": "eomt", "num_labels": 1000000000000}'),
    ("config.json", b'{"model_type": "eomt", "num_hidden_layers": 1000000000}'),
    ("config.json", b'{"model_type": "eomt", "label2id": {"cat": Infinity}}'),
    ("config.json", b'{"model_type": "eomt", "mlp_ratio": NaN}'),
    ("config.json", b'{"model_type": "eomt", "mlp_ratio": 1' + b"0" * 400 + b"}"),
    ("config.json", b'{"model_type": "eomt", "layer_norm_eps": 1' + b"0" * 400 + b"}"),
    ("config.json", b'{"model_type": "eomt_dinov3", "rope_parameters": [1]}'),
    ("config.json", _DEEP),
    ("import coco-results", b'[{"image_id": ' + b"9" * 5000 + b"}]"),
    ("preprocessor_config.json", _DEEP),
    ("preprocessor_config.json", b'{"size": [1]}'),
    ("preprocessor_config.json", b'{"image_mean": [0, 0, 0, 0]}'),
    ("preprocessor_config.json", b'{"rescale_factor": "x"}'),
    ("weight index", _DEEP),
    ("weight index", b'{"weight_map": {}}'),
    ("weight index of a run", b'{"weight_map": [1]}'),
    ("weight index of a run", b'{"weight_map": {"a": {}}}'),
    ("weight index of a run", b'{"weight_map": {"a": "../hashed/x"}}'),
    ("metrics", b"[]"),
    ("audited metrics", b'{"provenance": []}'),
    ("audit ranking", b"PAR1"),
    ("training manifest", _DEEP),
    ("training manifest", b'{"version": 1}'),
    ("training manifest", b'{"version": 1, "status": [], "identity": {}}'),
    ("training state", _LONG_GLOBAL),
    ("pytorch_model.bin", _LONG_GLOBAL),
    ("training state", torch_file([1])),
    ("training state", torch_file({"training": 1})),
    ("training recipe", b"scale = 3\n"),
    ("training recipe", b"image-size = []\n"),
    ("training recipe", b'task = {a = "b"}\n'),
    ("image", files.pictures()[-1]),  # EPS, for which Pillow starts another program
    ("archive", files.zipped({".": b"x"})),
    *((path.parent.name, path.read_bytes()) for path in sorted(_CORPUS.glob("*/*"))),
)
