"""Textures of the stuff regions: each returns the whole canvas, float32 RGB in 0..1 of shape (height, width, 3)."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.float32]
Texture = Callable[[np.random.Generator, int, int, float], Pixels]


def noise(rng: np.random.Generator, height: int, width: int, cell_hw: tuple[float, float]) -> Pixels:
    """Smooth noise with mean 0 and deviation near 1, (height, width); `cell_hw` is its grain in pixels."""
    rows, columns = (max(2, round(size / cell)) + 1 for size, cell in zip((height, width), cell_hw, strict=True))
    grid = Image.fromarray(rng.standard_normal((rows, columns), dtype=np.float32))
    smooth = np.asarray(grid.resize((width, height), Image.Resampling.BICUBIC), dtype=np.float32)
    return np.asarray(smooth * 1.4, dtype=np.float32)


def fractal(rng: np.random.Generator, height: int, width: int, cell: float, octaves: int = 3) -> Pixels:
    """Noise of several grains, each half the size and weight of the one before."""
    layers = [noise(rng, height, width, (cell / 2**i, cell / 2**i)) / 2**i for i in range(octaves)]
    return np.asarray(np.sum(layers, axis=0), dtype=np.float32)


def sky(rng: np.random.Generator, height: int, width: int, horizon: float) -> Pixels:
    """A gradient from zenith to horizon with clouds in front of it."""
    palettes = (
        ((0.25, 0.47, 0.80), (0.72, 0.84, 0.93), (1.0, 1.0, 1.0)),  # a clear day
        ((0.16, 0.36, 0.72), (0.60, 0.78, 0.94), (0.97, 0.97, 0.98)),  # noon
        ((0.33, 0.36, 0.60), (0.98, 0.72, 0.50), (1.0, 0.82, 0.70)),  # evening
        ((0.58, 0.64, 0.70), (0.80, 0.83, 0.85), (0.92, 0.93, 0.94)),  # overcast
    )
    zenith, low, cloud = (np.array(c, np.float32) for c in palettes[rng.integers(len(palettes))])
    ramp = np.clip(np.arange(height, dtype=np.float32) / max(horizon, 1), 0, 1)[:, None, None]
    clouds = sum(noise(rng, height, width, (15 / 2**i, 36 / 2**i)) / 2**i for i in range(4))
    cover = np.clip(clouds * 0.4 - rng.uniform(-0.1, 0.6), 0, 0.85)[..., None]
    base = zenith + (low - zenith) * ramp
    return np.asarray(base + (cloud - base) * cover, dtype=np.float32)


def grass(rng: np.random.Generator, height: int, width: int, horizon: float) -> Pixels:
    """Upright blades over light and dark patches."""
    base = _pick(rng, (0.33, 0.50, 0.18), (0.42, 0.55, 0.22), (0.28, 0.44, 0.20), (0.50, 0.54, 0.26))
    blades = noise(rng, height, width, (3.5, 1.3)) * 0.10 * _nearness(height, horizon)
    patches = fractal(rng, height, width, 30) * 0.07
    return _shaded(base, blades + patches)


def water(rng: np.random.Generator, height: int, width: int, horizon: float) -> Pixels:
    """Horizontal waves that brighten towards the horizon, with glints."""
    base = _pick(rng, (0.10, 0.32, 0.48), (0.12, 0.38, 0.45), (0.16, 0.30, 0.40), (0.10, 0.42, 0.56))
    near = _nearness(height, horizon)
    waves = noise(rng, height, width, (2.2, 17)) * 0.11 + noise(rng, height, width, (5, 40)) * 0.08
    glints = np.clip(noise(rng, height, width, (1.4, 6)) - 1.9, 0, 1) * 0.5
    return np.asarray(_shaded(base + (1 - near)[..., None] * 0.22, waves) + glints[..., None], dtype=np.float32)


def sand(rng: np.random.Generator, height: int, width: int, horizon: float) -> Pixels:
    """Fine grain over soft dunes."""
    base = _pick(rng, (0.84, 0.74, 0.54), (0.88, 0.80, 0.63), (0.78, 0.66, 0.47))
    grain = noise(rng, height, width, (1.2, 1.2)) * 0.045 * _nearness(height, horizon)
    dunes = noise(rng, height, width, (9, 42)) * 0.06
    return _shaded(base, grain + dunes)


def road(rng: np.random.Generator, height: int, width: int, horizon: float) -> Pixels:
    """Asphalt: grey, grainy, with tyre-dark streaks."""
    base = _pick(rng, (0.33, 0.33, 0.35), (0.42, 0.41, 0.41), (0.27, 0.28, 0.31))
    grain = noise(rng, height, width, (1.2, 1.2)) * 0.07 * _nearness(height, horizon)
    streaks = noise(rng, height, width, (4, 50)) * 0.05
    return _shaded(base, grain + streaks)


def wall(rng: np.random.Generator, height: int, width: int, horizon: float) -> Pixels:
    """Bricks in a running bond, each of its own shade, between lines of mortar."""
    base = _pick(rng, (0.62, 0.30, 0.23), (0.70, 0.42, 0.30), (0.66, 0.62, 0.56), (0.52, 0.27, 0.25))
    rows, columns = int(rng.integers(6, 10)), int(rng.integers(13, 20))
    y, x = np.mgrid[0:height, 0:width]
    row = y // rows
    shifted = x + (row % 2) * (columns // 2)
    shades = rng.standard_normal((height // rows + 1, width // columns + 2)).astype(np.float32) * 0.09
    bricks = base * (1 + shades[row, shifted // columns] + noise(rng, height, width, (2, 2)) * 0.04)[..., None]
    mortar = ((y % rows == 0) | (shifted % columns == 0))[..., None]
    return np.asarray(np.where(mortar, 0.35 + bricks * 0.5, bricks), dtype=np.float32)


TEXTURES: dict[str, Texture] = {
    "sky": sky, "grass": grass, "water": water, "sand": sand, "road": road, "wall": wall,
}  # fmt: skip


def _pick(rng: np.random.Generator, *colors: tuple[float, float, float]) -> Pixels:
    """One of the colours, a little off."""
    return np.array(colors[rng.integers(len(colors))], np.float32) + rng.normal(0, 0.02, 3).astype(np.float32)


def _shaded(base: Pixels, relief: Pixels) -> Pixels:
    """A colour, (3,) or one a pixel, made lighter and darker by a relief (height, width) around 0."""
    return np.asarray(base * (1 + relief)[..., None], dtype=np.float32)


def _nearness(height: int, horizon: float) -> Pixels:
    """0.25 at the horizon (distance blurs the grain) to 1 at the lower edge, (height, 1)."""
    rows = np.arange(height, dtype=np.float32)[:, None]
    return np.asarray(0.25 + 0.75 * np.clip((rows - horizon) / max(height - horizon, 1), 0, 1), dtype=np.float32)
