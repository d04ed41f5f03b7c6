"""Drawn photographs as JPEG files: smooth colours under fine grain, of about the bytes that COCO's photographs have."""

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from torch.nn import functional

from workbench.formats.base import ImageRecord

SIZES_HW = ((480, 640), (640, 480))
_QUALITY = 90
_COARSE, _FINE = (12, 12), (120, 120)


def write(folder: Path, count: int, seed: int) -> Sequence[ImageRecord]:
    """Draw `count` images, upright ones and others in turn, into a new folder."""
    folder.mkdir(parents=True)
    generator = torch.Generator().manual_seed(seed)
    records = []
    for ordinal in range(count):
        size = SIZES_HW[ordinal % len(SIZES_HW)]
        layers = [(_COARSE, 40.0), (_FINE, 15.0), (size, 6.0)]
        pixels = 128 + torch.stack([strength * _noise(grid, size, generator) for grid, strength in layers]).sum(0)
        image = Image.fromarray(pixels.clamp(0, 255).to(torch.uint8).permute(1, 2, 0).numpy())
        path = folder / f"{ordinal:06}.jpg"
        image.save(path, quality=_QUALITY)
        records.append(ImageRecord(path.stem, path.name, path, ordinal, size))
    return records


def _noise(grid: tuple[int, int], size: tuple[int, int], generator: torch.Generator) -> torch.Tensor:
    """(3, *size): normal noise on a grid, made smooth between its points."""
    noise = torch.randn(1, 3, *grid, generator=generator)
    return functional.interpolate(noise, size=size, mode="bicubic", align_corners=False)[0]
