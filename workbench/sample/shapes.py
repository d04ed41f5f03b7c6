"""The things of the sample scenes, drawn as sprites: antialiased RGBA cut-outs that stand on their lower edge."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Sprite = NDArray[np.float32]
"""RGBA in 0..1, (height, width, 4); colours are not premultiplied."""
Color = tuple[float, float, float]
Shape = Callable[[np.random.Generator, np.random.Generator, float], Sprite]
"""(geometry stream, colour stream, height in pixels) -> sprite. Geometry alone decides the mask."""

_FINE = 3  # drawn this many times larger, then averaged


class Pen:
    """Draws on a canvas whose unit is the sprite's height: y from 0 (top) to 1 (bottom), x from 0 to `aspect`.

    Corners are rounded to whole fine pixels, so that a last-bit difference between machines does not move an edge.
    """

    def __init__(self, height: float, aspect: float) -> None:
        self.unit = height * _FINE
        self.size_wh = (max(2, round(height * aspect)), max(2, round(height)))
        self.image = Image.new("RGBA", (self.size_wh[0] * _FINE, self.size_wh[1] * _FINE))
        self.draw = ImageDraw.Draw(self.image)

    def polygon(self, corners: Sequence[tuple[float, float]], color: Color) -> None:
        """Fill the polygon of (x, y) corners."""
        self.draw.polygon([(self._to(x), self._to(y)) for x, y in corners], fill=_rgba(color))

    def box(self, x: float, y: float, width: float, height: float, color: Color, rounding: float = 0) -> None:
        """Fill a rectangle given by its top left corner."""
        corners = (self._to(x), self._to(y), self._to(x + width) - 1, self._to(y + height) - 1)
        if corners[2] > corners[0] and corners[3] > corners[1]:
            self.draw.rounded_rectangle(corners, radius=self._to(rounding), fill=_rgba(color))

    def disc(self, x: float, y: float, radius_x: float, radius_y: float, color: Color) -> None:
        """Fill an ellipse given by its centre."""
        corners = [self._to(v) for v in (x - radius_x, y - radius_y, x + radius_x, y + radius_y)]
        self.draw.ellipse((corners[0], corners[1], corners[2], corners[3]), fill=_rgba(color))

    def line(self, start: tuple[float, float], end: tuple[float, float], width: float, color: Color) -> None:
        """A thick line from start to end."""
        points = [(self._to(x), self._to(y)) for x, y in (start, end)]
        self.draw.line(points, fill=_rgba(color), width=max(1, self._to(width)))

    def sprite(self) -> Sprite:
        """What was drawn, averaged down to its final size."""
        small = self.image.resize(self.size_wh, Image.Resampling.BOX)
        return np.asarray(small, dtype=np.float32) / np.float32(255)

    def _to(self, value: float) -> int:
        return round(value * self.unit)


def person(geometry: np.random.Generator, paint: np.random.Generator, height: float) -> Sprite:
    """A standing or walking figure."""
    stride, reach = geometry.uniform(0.03, 0.10), geometry.uniform(0.0, 0.10)
    coat = geometry.uniform(0.44, 0.56)  # where the coat ends
    pen = Pen(height, 0.46)
    shirt, trousers = _vivid(paint), _near(paint, (0.20, 0.22, 0.32), 0.06)
    skin = _near(paint, ((0.93, 0.76, 0.65), (0.78, 0.57, 0.44), (0.45, 0.30, 0.22))[paint.integers(3)], 0.02)
    hair = _near(paint, ((0.20, 0.14, 0.10), (0.45, 0.30, 0.16), (0.75, 0.62, 0.35))[paint.integers(3)], 0.03)
    for side in (-1, 1):
        pen.line((0.23 + side * 0.04, coat - 0.03), (0.23 + side * stride, 0.98), 0.085, trousers)
        pen.box(0.23 + side * stride - 0.055, 0.955, 0.11, 0.045, (0.12, 0.10, 0.10))
        pen.line((0.23 + side * 0.09, 0.24), (0.23 + side * (0.12 + reach), 0.52), 0.07, _shade(shirt, 0.85))
        pen.disc(0.23 + side * (0.12 + reach), 0.53, 0.03, 0.03, skin)
    pen.polygon(
        [(0.12, 0.22), (0.17, 0.18), (0.29, 0.18), (0.34, 0.22), (0.33, coat + 0.02), (0.13, coat + 0.02)], shirt
    )
    pen.disc(0.23, 0.075, 0.075, 0.075, hair)
    pen.disc(0.23, 0.10, 0.062, 0.075, skin)
    return pen.sprite()


def car(geometry: np.random.Generator, paint: np.random.Generator, height: float) -> Sprite:
    """A car seen from its side."""
    length, roof = geometry.uniform(1.9, 2.4), geometry.uniform(0.42, 0.52)
    front = geometry.uniform(0.22, 0.30) * length
    pen = Pen(height, length)
    body = _vivid(paint)
    glass = _near(paint, (0.62, 0.75, 0.82), 0.04)
    back = length - front * geometry.uniform(0.45, 0.9)
    cabin = [(front * 0.75, 0.48), (front * 1.25, 0.02), (back - 0.18, 0.02), (back, 0.48)]
    pen.polygon(cabin, _shade(body, 0.9))
    pen.box(0.0, 0.40, length, roof, body, rounding=0.13)
    middle = (cabin[1][0] + cabin[2][0]) / 2
    pen.polygon([(front * 0.92, 0.42), (front * 1.32, 0.09), (middle - 0.03, 0.09), (middle - 0.03, 0.42)], glass)
    pen.polygon([(middle + 0.03, 0.42), (middle + 0.03, 0.09), (back - 0.23, 0.09), (back - 0.10, 0.42)], glass)
    pen.box(0.0, 0.70, length, 0.12, _shade(body, 0.6), rounding=0.05)
    pen.disc(0.07, 0.53, 0.05, 0.06, (1.0, 0.95, 0.75))
    pen.box(length - 0.09, 0.47, 0.09, 0.12, (0.80, 0.12, 0.10))
    for wheel in (0.20 * length, 0.80 * length):
        pen.disc(wheel, 0.79, 0.20, 0.20, (0.09, 0.09, 0.10))
        pen.disc(wheel, 0.79, 0.10, 0.10, (0.66, 0.67, 0.70))
    return pen.sprite() if geometry.random() < 0.5 else pen.sprite()[:, ::-1]


def boat(geometry: np.random.Generator, paint: np.random.Generator, height: float) -> Sprite:
    """A sailing boat with one or two sails."""
    length, mast = geometry.uniform(0.75, 0.95), geometry.uniform(0.42, 0.55)
    pen = Pen(height, length)
    hull, sail = _vivid(paint), _near(paint, (0.95, 0.93, 0.88), 0.03)
    mast *= length
    pen.box(mast - 0.012, 0.0, 0.03, 0.82, (0.35, 0.24, 0.15))
    pen.polygon([(mast + 0.02, 0.03), (mast + 0.02, 0.74), (length - 0.05, 0.74)], sail)
    if geometry.random() < 0.75:
        second = sail if paint.random() < 0.5 else _vivid(paint)
        pen.polygon([(mast - 0.02, 0.08), (mast - 0.02, 0.74), (0.05, 0.74)], _shade(second, 0.93))
    pen.polygon([(0.0, 0.78), (length, 0.78), (length * 0.86, 1.0), (length * 0.14, 1.0)], hull)
    pen.box(0.0, 0.78, length, 0.05, (0.95, 0.95, 0.92))
    return pen.sprite()


def tree(geometry: np.random.Generator, paint: np.random.Generator, height: float) -> Sprite:
    """A conifer of stacked triangles or a leafy crown of overlapping discs."""
    leaf = _near(paint, ((0.16, 0.33, 0.14), (0.20, 0.40, 0.12), (0.30, 0.38, 0.10))[paint.integers(3)], 0.03)
    bark = _near(paint, (0.33, 0.23, 0.15), 0.03)
    conifer = geometry.random() < 0.4
    width = geometry.uniform(0.42, 0.55) if conifer else geometry.uniform(0.62, 0.85)
    pen = Pen(height, width)
    pen.box(width / 2 - 0.045, 0.60, 0.09, 0.40, bark)
    if conifer:
        for tier in range(4):
            top, reach = 0.19 * tier, width / 2 * (0.46 + 0.18 * tier)
            corners = [(width / 2, top), (width / 2 - reach, top + 0.31), (width / 2 + reach, top + 0.31)]
            pen.polygon(corners, _shade(leaf, 1.1 - 0.07 * tier))
        return pen.sprite()
    for _ in range(16):
        angle, far = geometry.uniform(0, 2 * np.pi), geometry.uniform(0.2, 1.0)
        x = width / 2 + np.cos(angle) * far * width * 0.29
        y = 0.36 + np.sin(angle) * far * 0.20
        radius = geometry.uniform(0.11, 0.16)
        pen.disc(x, y, radius, radius, _shade(leaf, paint.uniform(0.8, 1.0) + (0.45 - y) * 0.9))
    return pen.sprite()


def house(geometry: np.random.Generator, paint: np.random.Generator, height: float) -> Sprite:
    """A plastered house with a gable or hipped roof, windows and a door."""
    width, eaves = geometry.uniform(1.0, 1.45), geometry.uniform(0.36, 0.46)
    pen = Pen(height, width)
    plaster = _near(paint, ((0.93, 0.90, 0.80), (0.90, 0.78, 0.58), (0.78, 0.84, 0.86))[paint.integers(3)], 0.03)
    tiles = _near(paint, ((0.62, 0.24, 0.17), (0.40, 0.22, 0.18), (0.30, 0.32, 0.38))[paint.integers(3)], 0.03)
    ridge = geometry.uniform(0.0, 0.28) * width
    pen.box(0.07, eaves - 0.05, width - 0.14, 1.05 - eaves, plaster)
    chimney = width * geometry.uniform(0.62, 0.72)
    pen.box(chimney, 0.05, 0.09, 0.30, _shade(tiles, 0.8))
    pen.polygon([(0.0, eaves), (width / 2 - ridge, 0.0), (width / 2 + ridge, 0.0), (width, eaves)], tiles)
    pen.box(0.07, eaves, width - 0.14, 0.03, _shade(plaster, 0.7))
    door = width * geometry.uniform(0.42, 0.52)
    pen.box(door, 0.66, 0.15, 0.34, _near(paint, (0.36, 0.22, 0.14), 0.08))
    for x in (0.15, width - 0.33):
        pen.box(x, 0.56, 0.19, 0.20, (0.97, 0.96, 0.93))
        pen.box(x + 0.02, 0.58, 0.15, 0.16, _near(paint, (0.30, 0.40, 0.50), 0.03))
    return pen.sprite()


def ball(geometry: np.random.Generator, paint: np.random.Generator, height: float) -> Sprite:
    """A striped ball, shaded as a sphere."""
    tilt = geometry.uniform(-0.25, 0.25)
    pen = Pen(height, 1.0)
    main, stripe = _vivid(paint), _near(paint, (0.95, 0.93, 0.90), 0.04)
    pen.disc(0.5, 0.5, 0.49, 0.49, main)
    striped = Pen(height, 1.0)
    striped.polygon([(0.36 + tilt, 0), (0.64 + tilt, 0), (0.64 - tilt, 1), (0.36 - tilt, 1)], stripe)
    sprite, band = pen.sprite(), striped.sprite()[..., 3:]
    y, x = (np.mgrid[0 : sprite.shape[0], 0 : sprite.shape[1]] + np.float32(0.5)) / np.float32(sprite.shape[0])
    shine = 1.15 - 1.1 * ((x - 0.38) ** 2 + (y - 0.33) ** 2)
    rgb = (sprite[..., :3] * (1 - band) + np.array(stripe, np.float32) * band) * shine[..., None]
    return np.concatenate([np.clip(rgb, 0, 1), sprite[..., 3:]], axis=2).astype(np.float32)


SHAPES: dict[str, Shape] = {
    "person": person, "car": car, "boat": boat, "tree": tree, "house": house, "ball": ball,
}  # fmt: skip


def post(geometry: np.random.Generator, paint: np.random.Generator, height: float) -> Sprite:
    """A signpost: the distractor that no class names, labelled void."""
    pen = Pen(height, 0.34)
    sign = _near(paint, ((0.92, 0.80, 0.15), (0.15, 0.35, 0.70), (0.92, 0.92, 0.92))[paint.integers(3)], 0.03)
    pen.box(0.145, 0.1, 0.05, 0.9, (0.50, 0.51, 0.54))
    if geometry.random() < 0.5:
        pen.disc(0.17, 0.17, 0.165, 0.165, sign)
    else:
        pen.box(0.01, 0.02, 0.32, 0.25, sign, rounding=0.03)
    return pen.sprite()


def _rgba(color: Color) -> tuple[int, int, int, int]:
    red, green, blue = (min(255, max(0, round(channel * 255))) for channel in color)
    return red, green, blue, 255


def _shade(color: Color, factor: float) -> Color:
    red, green, blue = color
    return red * factor, green * factor, blue * factor


def _near(paint: np.random.Generator, color: Color, spread: float) -> Color:
    red, green, blue = (channel + paint.normal(0, spread) for channel in color)
    return red, green, blue


def _vivid(paint: np.random.Generator) -> Color:
    """A saturated paint of any hue except grass green."""
    colors: tuple[Color, ...] = (
        (0.80, 0.14, 0.12), (0.90, 0.50, 0.10), (0.93, 0.80, 0.18), (0.13, 0.30, 0.68),
        (0.55, 0.18, 0.55), (0.10, 0.55, 0.62), (0.92, 0.91, 0.90), (0.20, 0.20, 0.24),
    )  # fmt: skip
    return _near(paint, colors[paint.integers(len(colors))], 0.04)
