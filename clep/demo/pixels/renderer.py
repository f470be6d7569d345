"""From a scene and a second to a frame of pixels."""

from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from clep.demo.pixels.scene import Scene
from clep.demo.pixels.shapes import Number, Patch, placed
from clep.errors import InputError

_OVERSAMPLING = 2
_NOISE_TILE_MORE = 64
_DARKEST, _LIGHTEST, _MOST_NOISE = 8, 247, 7


class Renderer:
    """Draw frames of one scene. Equal scenes, sizes and seconds give equal pixels, whatever was drawn before.

    Polygons are drawn at twice the size and averaged down, which smooths their edges. Sensor noise is added in
    luminance.

    Args:
        scene: what there is to film.
        width, height: of a frame, in pixels.
        noise: standard deviation of the sensor noise, in levels of 255.

    Raises:
        InputError: Pillow is not installed.
    """

    def __init__(self, scene: Scene, width: int, height: int, noise: Number = 2.0) -> None:
        try:
            from PIL import Image, ImageDraw
        except ImportError as error:
            raise InputError("the drawn demo world needs Pillow and PyAV: pip install 'clep[video]'") from error
        self._image, self._draw = Image, ImageDraw
        self.scene, self.width, self.height = scene, width, height
        self._scale = _OVERSAMPLING * height
        self._background = paint_background(scene, self._scale)
        self._with_things: dict[int | None, UInt8[np.ndarray, "rows columns 3"]] = {}
        rng = np.random.default_rng([scene.rng_seed, 5])
        tile = rng.normal(0.0, noise, (height + _NOISE_TILE_MORE, width + _NOISE_TILE_MORE))
        self._noise = (
            np.clip(np.rint(tile), -_MOST_NOISE, _MOST_NOISE).astype(np.int8).view(np.uint8)[..., None].repeat(3, 2)
        )

    def frame(self, second: Number, eye: Number = 0.0) -> UInt8[np.ndarray, "height width 3"]:
        """Draw the frame at a second; `eye` moves the camera to the right, in heights of the picture."""
        width, height = _OVERSAMPLING * self.width, _OVERSAMPLING * self.height
        behind = self._background_with_things(self.scene.busy_noun(second))
        across, down = self.scene.view(second)
        left = round(across * (behind.shape[1] - width) + eye * self._scale)
        left = min(max(left, 0), behind.shape[1] - width)
        top = round(down * (behind.shape[0] - height))
        image = self._image.fromarray(behind[top : top + height, left : left + width])
        self._fill(image, self.scene.action(second), left, top)
        pixels = np.clip(np.asarray(image.reduce(_OVERSAMPLING)), _DARKEST, _LIGHTEST)
        y, x = np.random.default_rng([self.scene.rng_seed, 6, round(second * 1000)]).integers(0, _NOISE_TILE_MORE, 2)
        # The noise is signed and is added modulo 256: no sum leaves 0 … 255, since the darkest and lightest are cut.
        return pixels + self._noise[y : y + self.height, x : x + self.width]

    def _fill(self, image: Any, patches: list[Patch], left: int, top: int) -> None:
        solid, through = self._draw.Draw(image, "RGB"), self._draw.Draw(image, "RGBA")
        for points, colour in placed(patches, -left, -top, self._scale):
            (solid if len(colour) == 3 else through).polygon(points.ravel().tolist(), fill=colour)

    def _background_with_things(self, busy: int | None) -> UInt8[np.ndarray, "rows columns 3"]:
        if busy not in self._with_things:
            image = self._image.fromarray(self._background)
            self._fill(image, self.scene.standing(busy), 0, 0)
            self._with_things[busy] = np.asarray(image)
        return self._with_things[busy]


def paint_background(scene: Scene, scale: int) -> UInt8[np.ndarray, "rows columns 3"]:
    """Paint the table and the wall of a scene, `scale` pixels to the height of the picture.

    A place has its colours and its grain; each scene varies them a little and has its own light and clutter.
    """
    rows, columns = round(scene.height * scale), round(scene.width * scale)
    of_place = np.random.default_rng([7919, scene.place])
    own = np.random.default_rng([scene.rng_seed, 7])
    table = of_place.uniform(60, 200) + of_place.uniform(-45, 45, 3)
    wall = of_place.uniform(90, 210) + of_place.uniform(-40, 40, 3)
    stripes, grain = of_place.uniform(0, 14), of_place.uniform(4, 60)
    table, wall = table + own.normal(0, 8, 3), wall + own.normal(0, 10, 3)

    y, x = np.mgrid[0:rows, 0:columns] / scale
    texture = stripes * np.sin(grain * (x + 0.3 * y) + 3 * np.sin(3 * y)) + _clouds(own, rows, columns, 9)
    horizon = scene.height * own.uniform(0.28, 0.34)
    on_table = (y > horizon)[..., None]
    painted = np.where(on_table, table, wall) + np.where(on_table, texture[..., None], 0.4 * texture[..., None])
    for _ in range(own.integers(2, 6)):
        left, top = own.uniform(0, scene.width), own.uniform(0, horizon - 0.05)
        inside = (x > left) & (x < left + own.uniform(0.1, 0.4)) & (y > top) & (y < min(top + 0.4, horizon))
        painted[inside] = 0.3 * painted[inside] + 0.7 * own.uniform(40, 220, 3)
    light = own.uniform(0.85, 1.12) + 0.12 * own.uniform(-1, 1) * (x - scene.width / 2)
    return np.clip(painted * light[..., None], 12, 243).astype(np.uint8)


def _clouds(rng: np.random.Generator, rows: int, columns: int, strength: Number) -> Float[np.ndarray, "rows columns"]:
    """Draw smooth random light and dark: a coarse random grid, interpolated linearly."""
    coarse = rng.normal(0, strength, (8, 10))
    at_row, at_column = np.linspace(0, 7, rows), np.linspace(0, 9, columns)
    tall = np.stack([np.interp(at_row, np.arange(8), column) for column in coarse.T], 1)
    return np.stack([np.interp(at_column, np.arange(10), row) for row in tall])
