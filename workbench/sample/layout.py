"""Where things may stand: the stuff regions of a scene, and the things placed on them in perspective."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from workbench.sample import shapes
from workbench.sample.classes import BY_NAME

VOID = 0
SMALLEST_AREA, LEAST_VISIBLE = 48, 0.4  # a thing that shows less, in pixels or as a share of itself, is left out

# class -> (height of a near one as a share of the canvas, the stuff it stands on, how often it is drawn)
_HABITS: dict[str, tuple[float, tuple[str, ...], float]] = {
    "person": (0.50, ("grass", "sand", "road"), 3.0),
    "car": (0.27, ("road", "grass", "sand"), 2.0),
    "boat": (0.50, ("water",), 4.0),
    "tree": (0.78, ("grass", "sand"), 2.0),
    "house": (0.62, ("grass", "sand"), 1.2),
    "ball": (0.22, ("grass", "sand", "road"), 2.0),
}
_SHORTEST = 13.0  # pixels: nothing is drawn smaller
_FAR = 0.42  # the scale of a thing at the horizon


@dataclass(frozen=True)
class Backdrop:
    """The empty scene: `stuff` holds a category id per pixel, int32 (height, width); `horizon` is a row."""

    stuff: NDArray[np.int32]
    horizon: float


@dataclass(frozen=True)
class Actor:
    """A sprite at its place: top left corner (x, y) in pixels; actors of one `group` form one segment."""

    name: str
    sprite: shapes.Sprite
    x: int
    y: int
    group: int
    iscrowd: bool = False

    @property
    def base(self) -> int:
        """The row that it stands on."""
        return self.y + int(self.sprite.shape[0])

    def on(self, height: int, width: int) -> tuple[tuple[slice, slice], shapes.Sprite]:
        """The canvas window that it covers and the part of its sprite inside; both empty when it lies outside."""
        top, left = max(self.y, 0), max(self.x, 0)
        bottom = max(top, min(self.y + self.sprite.shape[0], height))
        right = max(left, min(self.x + self.sprite.shape[1], width))
        inside = self.sprite[top - self.y : bottom - self.y, left - self.x : right - self.x]
        return (slice(top, bottom), slice(left, right)), inside


def backdrop(geometry: np.random.Generator, height: int, width: int) -> Backdrop:
    """One of the four kinds of place, its borders at random."""
    horizon = height * geometry.uniform(0.30, 0.48)
    stuff = np.full((height, width), BY_NAME["sky"].category_id, np.int32)
    places = (_meadow, _meadow, _beach, _street, _yard)
    places[geometry.integers(len(places))](geometry, stuff, horizon)
    return Backdrop(stuff, horizon)


def actors(geometry: np.random.Generator, paint: np.random.Generator, scene: Backdrop) -> list[Actor]:
    """Things from far to near, each with enough of itself in sight; groups are numbered from 1."""
    wanted = int(geometry.integers(2, 7))
    placed: list[Actor] = []
    for group in range(1, wanted + 1):
        placed += _place_one(geometry, paint, scene, group)
    if geometry.random() < 0.12:
        placed += _crowd(geometry, paint, scene, wanted + 1)
    if geometry.random() < 0.15:
        placed += _stand(geometry, paint, scene, "post", 0.6, ("grass", "sand", "road"), VOID)
    placed.sort(key=lambda actor: actor.base)
    return _in_sight(placed, scene.stuff.shape)


def paint_groups(placed: list[Actor], shape_hw: tuple[int, ...]) -> NDArray[np.int32]:
    """The group seen at each pixel, int32 (height, width); -1 where no actor is, 0 where a void one is."""
    groups = np.full(shape_hw, -1, np.int32)
    for actor in placed:
        window, inside = actor.on(*groups.shape)
        groups[window][inside[..., 3] >= 0.5] = actor.group
    return groups


def _in_sight(placed: list[Actor], shape_hw: tuple[int, ...]) -> list[Actor]:
    """Those of which enough shows, far to near. Decided from the nearest on: one that is left out hides nobody."""
    kept: list[Actor] = []
    for actor in reversed(placed):
        seen = paint_groups([replace(actor, group=1), *(replace(k, group=0) for k in reversed(kept))], shape_hw) == 1
        whole = int((actor.sprite[..., 3] >= 0.5).sum())
        if actor.iscrowd or (seen.sum() >= SMALLEST_AREA and seen.sum() >= LEAST_VISIBLE * whole):
            kept.append(actor)
    return kept[::-1]


def _place_one(geometry: np.random.Generator, paint: np.random.Generator, scene: Backdrop, group: int) -> list[Actor]:
    ids = set(np.unique(scene.stuff).tolist())
    fitting = [
        (name, weight)
        for name, (_, grounds, weight) in _HABITS.items()
        if any(BY_NAME[ground].category_id in ids for ground in grounds)
    ]
    shares = np.cumsum([weight for _, weight in fitting])
    name = fitting[int(np.searchsorted(shares, geometry.uniform(0, shares[-1])))][0]
    near_height, grounds, _ = _HABITS[name]
    return _stand(geometry, paint, scene, name, near_height, grounds, group)


def _stand(
    geometry: np.random.Generator,
    paint: np.random.Generator,
    scene: Backdrop,
    name: str,
    near_height: float,
    grounds: tuple[str, ...],
    group: int,
) -> list[Actor]:
    """The thing on a spot of its ground, its height by the spot's nearness; none when ten spots do not do."""
    height, width = scene.stuff.shape
    allowed = {BY_NAME[ground].category_id for ground in grounds}
    for _ in range(10):
        x = int(geometry.integers(4, width - 4))
        base = int(geometry.integers(int(scene.horizon) + 4, height))
        if int(scene.stuff[base, x]) not in allowed:
            continue
        nearness = (base - scene.horizon) / (height - scene.horizon)
        scale = (_FAR + (1 - _FAR) * nearness) * geometry.uniform(0.85, 1.15)
        tall = max(_SHORTEST, near_height * scale * min(height, width))
        shape = shapes.post if name == "post" else shapes.SHAPES[name]
        sprite = shape(geometry, paint, tall)
        return [Actor(name, sprite, x - sprite.shape[1] // 2, base - sprite.shape[0] + 1, group)]
    return []


def _crowd(geometry: np.random.Generator, paint: np.random.Generator, scene: Backdrop, group: int) -> list[Actor]:
    """Six to ten people who overlap so far off that nobody would outline each: one crowd segment."""
    anchor = _stand(geometry, paint, scene, "person", 0.1, ("grass", "sand", "road"), group)
    members = []
    for _ in range(int(geometry.integers(6, 11)) if anchor else 0):
        sprite = shapes.person(geometry, paint, geometry.uniform(14, 19))
        x = anchor[0].x + int(geometry.integers(-16, 17))
        y = anchor[0].base - sprite.shape[0] + int(geometry.integers(-2, 3))
        members.append(Actor("person", sprite, x, y, group, iscrowd=True))
    return members


def _border(geometry: np.random.Generator, width: int, row: float, sway: float) -> NDArray[np.float64]:
    """A wavy line across the canvas: a row for each column, whole numbers."""
    x = np.arange(width) / width
    slope, phase, waves = geometry.uniform(-1, 1), geometry.uniform(0, 2 * np.pi), geometry.uniform(0.5, 2.0)
    return np.rint(row + sway * (slope * (x - 0.5) + 0.5 * np.sin(2 * np.pi * waves * x + phase)))


def _fill_below(stuff: NDArray[np.int32], border: NDArray[np.float64], name: str) -> None:
    rows = np.arange(stuff.shape[0])[:, None]
    stuff[rows >= border] = BY_NAME[name].category_id


def _meadow(geometry: np.random.Generator, stuff: NDArray[np.int32], horizon: float) -> None:
    """Grass under the sky, often with a lake or a road."""
    height, width = stuff.shape
    _fill_below(stuff, _border(geometry, width, horizon, 0.08 * height), "grass")
    kind = geometry.random()
    if kind < 0.35:
        _fill_below(stuff, _border(geometry, width, horizon + 0.06 * height, 0.02 * height), "water")
        _fill_below(
            stuff, _border(geometry, width, horizon + height * geometry.uniform(0.25, 0.38), 0.10 * height), "grass"
        )
    elif kind < 0.70:
        _road_to_horizon(geometry, stuff, horizon + 0.07 * height)
    elif kind < 0.88:
        _road_across(geometry, stuff, horizon, "grass")


def _beach(geometry: np.random.Generator, stuff: NDArray[np.int32], horizon: float) -> None:
    """Sea to the horizon and sand in front of it."""
    height, width = stuff.shape
    _fill_below(stuff, np.full(width, np.rint(horizon)), "water")
    _fill_below(stuff, _border(geometry, width, horizon + height * geometry.uniform(0.22, 0.40), 0.14 * height), "sand")


def _street(geometry: np.random.Generator, stuff: NDArray[np.int32], horizon: float) -> None:
    """A wall across the background, a verge, a road."""
    height, width = stuff.shape
    _fill_below(stuff, np.full(width, np.rint(horizon - height * geometry.uniform(0.12, 0.24))), "wall")
    verge = "grass" if geometry.random() < 0.6 else "sand"
    _fill_below(stuff, np.full(width, np.rint(horizon)), verge)
    _road_across(geometry, stuff, horizon, verge)


def _yard(geometry: np.random.Generator, stuff: NDArray[np.int32], horizon: float) -> None:
    """A wall as far up as one sees, or with a strip of sky, and open ground."""
    height, width = stuff.shape
    top = 0.0 if geometry.random() < 0.5 else np.rint(horizon * geometry.uniform(0.2, 0.5))
    _fill_below(stuff, np.full(width, top), "wall")
    _fill_below(
        stuff, _border(geometry, width, horizon, 0.05 * height), ("grass", "sand", "road")[geometry.integers(3)]
    )


def _road_across(geometry: np.random.Generator, stuff: NDArray[np.int32], horizon: float, beyond: str) -> None:
    height, width = stuff.shape
    start = horizon + height * geometry.uniform(0.10, 0.22)
    slope = 0.035 * height
    _fill_below(stuff, _border(geometry, width, start, slope), "road")
    end = start + height * geometry.uniform(0.20, 0.30)
    if end < 0.9 * height:
        _fill_below(stuff, _border(geometry, width, end, slope), beyond)


def _road_to_horizon(geometry: np.random.Generator, stuff: NDArray[np.int32], start: float) -> None:
    height, width = stuff.shape
    foot, vanish = width * geometry.uniform(0.25, 0.75), width * geometry.uniform(0.25, 0.75)
    nearness = (np.arange(height)[:, None] - start) / (height - start)
    middle = vanish + (foot - vanish) * nearness
    half = width * (0.03 + geometry.uniform(0.20, 0.32) * nearness)
    inside = (nearness >= 0) & (np.abs(np.arange(width) - np.rint(middle)) <= np.rint(half))
    stuff[inside] = BY_NAME["road"].category_id
