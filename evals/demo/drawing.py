"""Draws a scene by plain arithmetic, so that the pixels do not depend on a drawing library."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from PIL import Image

from evals.demo.scene import COLORS, GRID_SIZE, Scene, Thing

CELL_SIZE = 16
IMAGE_SIZE = CELL_SIZE * GRID_SIZE

_SUPERSAMPLING = 4  # points a pixel and direction, for soft edges
_Floats = npt.NDArray[np.float64]
_Bools = npt.NDArray[np.bool_]

# Each is a test on points (x, y) with y pointing down; the unit is the radius of the thing.
_INSIDE: dict[str, Callable[[_Floats, _Floats], _Bools]] = {
    "circle": lambda x, y: np.hypot(x, y) <= 0.95,
    "square": lambda x, y: np.maximum(np.abs(x), np.abs(y)) <= 0.82,
    "triangle": lambda x, y: (y <= 0.8) & (y >= 2.0 * np.abs(x) - 1.0),
    "diamond": lambda x, y: 1.3 * np.abs(x) + np.abs(y) <= 1.0,
    "cross": lambda x, y: (
        (np.minimum(np.abs(x), np.abs(y)) <= 0.3) & (np.maximum(np.abs(x), np.abs(y)) <= 0.98)
    ),
    "ring": lambda x, y: np.abs(np.hypot(x, y) - 0.74) <= 0.24,
}


def draw_scene(scene: Scene, rng: np.random.Generator) -> Image.Image:
    """The picture of a scene, 48 x 48 RGB.

    Background, sizes, places within the cells and tints vary with `rng`, and a little noise lies
    over everything, so that no two pictures are the same.
    """
    canvas = np.full((IMAGE_SIZE, IMAGE_SIZE, 3), rng.uniform(115, 165))
    canvas += rng.uniform(-8, 8, size=3)
    for thing in scene.things:
        _paint(canvas, thing, rng)
    canvas += rng.normal(0.0, 3.0, size=canvas.shape)  # grain, as of a camera
    return Image.fromarray(np.clip(np.rint(canvas), 0, 255).astype(np.uint8), mode="RGB")


def _paint(canvas: _Floats, thing: Thing, rng: np.random.Generator) -> None:
    radius = rng.uniform(5.6, 7.0)
    slack = CELL_SIZE / 2 - radius - 0.4  # the thing stays within its cell
    center = CELL_SIZE / 2 + rng.uniform(-slack, slack, size=2)
    tint = np.asarray(COLORS[thing.color]) + rng.uniform(-12, 12, size=3)

    points = (np.arange(CELL_SIZE * _SUPERSAMPLING) + 0.5) / _SUPERSAMPLING
    x, y = np.meshgrid((points - center[0]) / radius, (points - center[1]) / radius)
    inside = _INSIDE[thing.shape](x, y).astype(np.float64)
    coverage = inside.reshape(CELL_SIZE, _SUPERSAMPLING, CELL_SIZE, _SUPERSAMPLING).mean((1, 3))

    rows = slice(thing.row * CELL_SIZE, (thing.row + 1) * CELL_SIZE)
    columns = slice(thing.column * CELL_SIZE, (thing.column + 1) * CELL_SIZE)
    cell = canvas[rows, columns]  # a view: what follows changes the canvas
    cell += coverage[..., None] * (tint - cell)
