"""Random changes to training rows that leave their label true. Seeded, numpy only.

Images are raw pixels (n, C, H, W), 0..255, changed before preprocessing; token ids are changed after it.
"""

from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

Array = np.ndarray[Any, np.dtype[Any]]
Share = Annotated[float, Field(ge=0, le=1)]


class ImageAugmentation(BaseModel):
    """Each image draws its own changes; what moves in from outside is black."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    flip: Share = 0.0
    """Probability of mirroring left to right."""
    flip_vertical: Share = 0.0
    """Probability of mirroring top to bottom."""
    crop: Annotated[int, Field(ge=0)] = 0
    """Pixels of black border added on each side before cutting the old size out at random."""
    rotate: Annotated[float, Field(ge=0, le=180)] = 0.0
    """Greatest angle, in degrees, either way."""
    translate: Share = 0.0
    """Greatest shift as a share of height and width, either way."""
    scale: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Greatest change of size: 0.1 draws factors in 0.9..1.1."""

    def apply(self, images: Array, rng: np.random.Generator) -> Array:
        """Return changed copies, same shape; float32 when pixels were interpolated."""
        images = _flip(images, rng.random(len(images)) < self.flip, axis=3)
        images = _flip(images, rng.random(len(images)) < self.flip_vertical, axis=2)
        if self.crop:
            images = _crop(images, self.crop, rng)
        if self.rotate or self.translate or self.scale:
            images = self._warp(images, rng)
        return images

    def _warp(self, images: Array, rng: np.random.Generator) -> Array:
        n, _, height, width = images.shape
        angle = np.radians(rng.uniform(-self.rotate, self.rotate, n))
        zoom = rng.uniform(1 - self.scale, 1 + self.scale, n)
        shift_y = rng.uniform(-self.translate, self.translate, n) * height
        shift_x = rng.uniform(-self.translate, self.translate, n) * width
        return warp(images, angle=angle, zoom=zoom, shift_y=shift_y, shift_x=shift_x)


def warp(images: Array, *, angle: Array, zoom: Array, shift_y: Array, shift_x: Array) -> Array:
    """Turn (radians, counter-clockwise), enlarge and shift (pixels) each image about its centre; bilinear, float32.

    `images` is (n, C, H, W), all others (n,).
    """
    n, _, height, width = images.shape
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    y_out = y[None] - (height - 1) / 2 - shift_y[:, None, None]
    x_out = x[None] - (width - 1) / 2 - shift_x[:, None, None]
    cos, sin = (np.cos(angle) / zoom)[:, None, None], (np.sin(angle) / zoom)[:, None, None]
    # Backwards: for each pixel of the result, the place in the source that it shows. The y axis points down.
    y_in = cos * y_out + sin * x_out + (height - 1) / 2
    x_in = cos * x_out - sin * y_out + (width - 1) / 2
    y0, x0 = np.floor(y_in).astype(np.int64), np.floor(x_in).astype(np.int64)
    y_part, x_part = (y_in - y0)[:, None], (x_in - x0)[:, None]
    row = np.arange(n)[:, None, None]

    def pixels(ys: Array, xs: Array) -> Array:
        inside = (ys >= 0) & (ys < height) & (xs >= 0) & (xs < width)
        found = images[row, :, ys.clip(0, height - 1), xs.clip(0, width - 1)]
        return np.moveaxis(np.where(inside[..., None], found, 0), 3, 1)

    top = pixels(y0, x0) * (1 - x_part) + pixels(y0, x0 + 1) * x_part
    bottom = pixels(y0 + 1, x0) * (1 - x_part) + pixels(y0 + 1, x0 + 1) * x_part
    mixed: Array = top * (1 - y_part) + bottom * y_part
    return mixed.astype(np.float32)


def drop_tokens(ids: Array, share: float, unknown: int, rng: np.random.Generator) -> Array:
    """Replace a random share of token ids (N,) with `unknown`: the network learns not to lean on single words."""
    if not 0 <= share < 1:
        raise ValueError(f"share must be in 0..1, got {share}")
    return np.where(rng.random(ids.shape) < share, ids.dtype.type(unknown), ids)


def _flip(images: Array, chosen: Array, axis: int) -> Array:
    if not chosen.any():
        return images
    return np.where(chosen[:, None, None, None], np.flip(images, axis), images)


def _crop(images: Array, border: int, rng: np.random.Generator) -> Array:
    n, _, height, width = images.shape
    padded = np.pad(images, ((0, 0), (0, 0), (border, border), (border, border)))
    top, left = rng.integers(0, 2 * border + 1, (2, n))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (height, width), axis=(2, 3))
    cut: Array = windows[np.arange(n), :, top, left]
    return cut
