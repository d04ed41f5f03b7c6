"""Scenes as training samples: what the model takes, and one mask a segment to learn from."""

from collections.abc import Iterator

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import IterableDataset

from workbench.sample.classes import CLASSES
from workbench.sample.scenes import Scene, generate

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CLASS_INDEX = {scene_class.category_id: index for index, scene_class in enumerate(CLASSES)}


class SceneStream(IterableDataset[tuple[Tensor, Tensor, Tensor]]):
    """Endless samples: pixels (3, S, S), masks (n, S, S) uint8 and class indices (n,); crowds are left out."""

    def __init__(self, seed: int, start: int, size: int) -> None:
        self.seed, self.start, self.size = seed, start, size

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        index = self.start
        while True:
            yield sample(generate(self.seed, index), self.size)
            index += 1


def sample(scene: Scene, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """A scene as the model wants it: longer edge resized to `size`, the rest padded, pixels normalised."""
    height, width = scene.ids.shape
    scale = size / max(height, width)
    size_wh = (round(width * scale), round(height * scale))
    canvas = Image.new("RGB", (size, size))
    canvas.paste(Image.fromarray(scene.image).resize(size_wh, Image.Resampling.BILINEAR))
    label_canvas = Image.new("I", (size, size))
    label_canvas.paste(Image.fromarray(scene.ids).resize(size_wh, Image.Resampling.NEAREST))
    pixels, ids = np.asarray(canvas, np.float32), np.asarray(label_canvas)
    wanted = [s for s in scene.segments if not s.iscrowd and (ids == s.id).any()]
    masks = np.stack([ids == s.id for s in wanted])
    normal = (pixels / 255 - np.array(MEAN, np.float32)) / np.array(STD, np.float32)
    classes = torch.tensor([CLASS_INDEX[s.category_id] for s in wanted])
    return torch.from_numpy(normal).permute(2, 0, 1), torch.from_numpy(masks.view(np.uint8)), classes


def collate(samples: list[tuple[Tensor, Tensor, Tensor]]) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """Stack the pixels; masks and classes stay one entry an image."""
    pixels, masks, classes = zip(*samples, strict=True)
    return torch.stack(pixels), list(masks), list(classes)
