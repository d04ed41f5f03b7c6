"""The bundled checkpoint on bundled photographs, by transformers and by us."""

from collections.abc import Iterator
from importlib import import_module
from typing import Any

import torch
from PIL import Image

from eomt.auto import load_model
from eomt.image_processing import EomtImageProcessorPil
from workbench.catalog import built_in_folder
from workbench.prediction.checkpoint import BUNDLED_CHECKPOINTS

_PHOTOGRAPHS = 4
_KEPT_ALIVE: list[torch.library.Library] = []


def logits() -> Iterator[tuple[Any, Any]]:
    """(transformers', ours): masks (B, Q, h, w), then classes (B, Q, K + 1), as numpy arrays."""
    (folder,) = sorted(path.parent for path in BUNDLED_CHECKPOINTS.glob("*/config.json"))
    photographs = []
    for path in sorted((built_in_folder() / "scenes" / "images").glob("*.jpg"))[:_PHOTOGRAPHS]:
        with Image.open(path) as image:
            photographs.append(image.convert("RGB"))
    pixels = EomtImageProcessorPil.from_pretrained(folder)(photographs, return_tensors="pt")["pixel_values"]
    with torch.inference_mode():
        official = _official_model().from_pretrained(folder, dtype=torch.float32).eval()(pixel_values=pixels)
        ours = load_model(folder, dtype=torch.float32).eval()(pixel_values=pixels)
    for name in ("masks_queries_logits", "class_queries_logits"):
        yield getattr(official, name).numpy(), getattr(ours, name).numpy()


def _official_model() -> Any:
    try:
        import_module("torchvision")
    except (
        RuntimeError
    ):  # its compiled part is for another build of torch; transformers imports it, EoMT never calls it
        library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")  # type: ignore[no-untyped-call]
        _KEPT_ALIVE.append(library)
    import_module("transformers.utils.logging").disable_progress_bar()
    return import_module("transformers.models.eomt.modeling_eomt").EomtForUniversalSegmentation
