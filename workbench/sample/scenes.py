"""One seeded scene: a small photo-like image and its exact panoptic ground truth."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from workbench.sample import layout
from workbench.sample.classes import BY_ID, BY_NAME
from workbench.sample.textures import TEXTURES, Pixels, noise

SIZES_WH = ((192, 144), (192, 144), (184, 128), (176, 176), (144, 192), (128, 184))
_SMALLEST_STUFF = 96  # pixels: smaller remnants of a stuff region are void


@dataclass(frozen=True)
class SceneSegment:
    """One region: `id` is its value in the scene's id map, from 1."""

    id: int
    category_id: int
    isthing: bool
    iscrowd: bool


@dataclass(frozen=True)
class Scene:
    """`image` is uint8 RGB (height, width, 3), `ids` int32 (height, width) with 0 for void."""

    image: NDArray[np.uint8]
    ids: NDArray[np.int32]
    segments: tuple[SceneSegment, ...]


def generate(seed: int, index: int = 0) -> Scene:
    """Scene number `index` of the endless series that `seed` names; other seeds have other scenes.

    The ids follow from the geometry stream alone, so a change of textures or light leaves the ground truth as it is.
    """
    geometry, paint = (np.random.default_rng(child) for child in np.random.SeedSequence([seed, index]).spawn(2))
    width, height = SIZES_WH[geometry.integers(len(SIZES_WH))]
    backdrop = layout.backdrop(geometry, height, width)
    actors = layout.actors(geometry, paint, backdrop)
    ids, segments = _label(geometry, backdrop, actors)
    return Scene(_render(paint, backdrop, actors), ids, segments)


def _label(
    geometry: np.random.Generator, backdrop: layout.Backdrop, actors: list[layout.Actor]
) -> tuple[NDArray[np.int32], tuple[SceneSegment, ...]]:
    """Number the visible stuff and groups from 1; region borders of half of the scenes are unlabelled."""
    groups = layout.paint_groups(actors, backdrop.stuff.shape)
    stuff = np.where(groups < 0, backdrop.stuff, layout.VOID)
    if geometry.random() < 0.5:
        stuff[_borders(backdrop.stuff) & (groups < 0)] = layout.VOID
    ids = np.zeros(stuff.shape, np.int32)
    segments: list[SceneSegment] = []

    def add(mask: NDArray[np.bool_], category_id: int, iscrowd: bool) -> None:
        ids[mask] = len(segments) + 1
        segments.append(SceneSegment(len(segments) + 1, category_id, BY_ID[category_id].isthing, iscrowd))

    for category_id in np.unique(stuff[stuff != layout.VOID]).tolist():
        mask = stuff == category_id
        if mask.sum() >= _SMALLEST_STUFF:
            add(mask, category_id, False)
    kinds = {actor.group: actor for actor in actors}
    for group in np.unique(groups[groups > 0]).tolist():
        add(groups == group, BY_NAME[kinds[group].name].category_id, kinds[group].iscrowd)
    return ids, tuple(segments)


def _borders(stuff: NDArray[np.int32]) -> NDArray[np.bool_]:
    edge = np.zeros(stuff.shape, bool)
    edge[1:] |= stuff[1:] != stuff[:-1]
    edge[:, 1:] |= stuff[:, 1:] != stuff[:, :-1]
    return edge


def _render(paint: np.random.Generator, backdrop: layout.Backdrop, actors: list[layout.Actor]) -> NDArray[np.uint8]:
    height, width = backdrop.stuff.shape
    canvas = np.zeros((height, width, 3), np.float32)
    for category_id in np.unique(backdrop.stuff).tolist():
        mask = backdrop.stuff == category_id
        canvas[mask] = TEXTURES[BY_ID[category_id].name](paint, height, width, backdrop.horizon)[mask]
    slant = float(paint.uniform(-0.9, 0.9))  # how far shadows lean to the right
    depth = float(paint.uniform(0.25, 0.5))
    for actor in actors:
        _cast_shadow(canvas, actor, slant, depth)
        _composite(paint, canvas, actor, slant)
    return _develop(paint, canvas)


def _cast_shadow(canvas: Pixels, actor: layout.Actor, slant: float, depth: float) -> None:
    """Darken the ground where the sprite, laid flat and sheared, would keep the light away."""
    alpha = actor.sprite[..., 3]
    tall, wide = alpha.shape
    flat = max(2, round(tall * 0.22))
    lean = slant * 0.55 * tall / flat  # columns a row
    margin = round(abs(lean) * flat) + 2
    shape = (wide + 2 * margin, flat + 4)
    source = Image.fromarray((alpha * 255).astype(np.uint8))
    to_source = (1, lean, -margin - lean * flat, 0, tall / flat, 0)
    shadow = source.transform(shape, Image.Transform.AFFINE, to_source, Image.Resampling.BILINEAR)
    blurred = np.asarray(shadow.filter(ImageFilter.BoxBlur(1)), np.float32)[..., None] / 255
    cast = layout.Actor("shadow", np.repeat(blurred, 4, axis=2), actor.x - margin, actor.base - flat, 0)
    window, inside = cast.on(*canvas.shape[:2])
    canvas[window] *= 1 - depth * inside[..., 3:]


def _composite(paint: np.random.Generator, canvas: Pixels, actor: layout.Actor, slant: float) -> None:
    """Lay the sprite over the canvas, lit from the side that shadows lean away from."""
    window, inside = actor.on(*canvas.shape[:2])
    if inside.size == 0:
        return
    tall, wide = inside.shape[:2]
    light = 1 - slant * 0.28 * np.linspace(-1, 1, wide, dtype=np.float32)[None, :, None]
    grain = 1 + 0.04 * noise(paint, tall, wide, (2, 2))[..., None]
    alpha = inside[..., 3:]
    canvas[window] = canvas[window] * (1 - alpha) + inside[..., :3] * light * grain * alpha


def _develop(paint: np.random.Generator, canvas: Pixels) -> NDArray[np.uint8]:
    """What a small camera makes of the light: cast, vignette, softness, noise."""
    height, width = canvas.shape[:2]
    tint = paint.uniform(0.9, 1.08) * (1 + paint.normal(0, 0.025, 3))
    y, x = np.linspace(-1, 1, height)[:, None], np.linspace(-1, 1, width)
    vignette = 1 - paint.uniform(0.05, 0.2) * (x**2 + y**2)
    sweep = 1 + paint.uniform(-0.1, 0.1) * x + paint.uniform(-0.05, 0.05) * y
    lit = canvas * (vignette * sweep)[..., None] * tint
    soft = Image.fromarray((np.clip(lit, 0, 1) * 255).astype(np.uint8))
    soft = soft.filter(ImageFilter.GaussianBlur(float(paint.uniform(0.2, 0.6))))
    sensor = paint.standard_normal((height, width, 3), dtype=np.float32) * float(paint.uniform(1.0, 5.0))
    return np.clip(np.asarray(soft, np.float32) + sensor, 0, 255).astype(np.uint8)
