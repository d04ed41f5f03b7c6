"""Import this before transformers, the oracle of these tests, where torchvision has only its Python part."""

import torch

try:
    import torchvision  # noqa: F401
except RuntimeError:  # "operator torchvision::nms does not exist"
    # Declaring the two operators whose shapes torchvision registers is enough: nothing here calls them.
    torchvision_operators = torch.library.Library("torchvision", "FRAGMENT")
    torchvision_operators.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    torchvision_operators.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
