"""From the bytes of an image to pixels, and the steps on pixels. Pixels are (n, C, H, W), 0..255."""

import io
from collections.abc import Callable
from typing import Annotated, Literal

import numpy as np
from PIL import Image, UnidentifiedImageError
from pydantic import Field

from models.preprocess.tensors import Array, StepConfig, Tensors, pictures

FORMATS = ("PNG", "JPEG", "WEBP")
# Pixels of a picture, not bytes: 64 KB of PNG can unfold to gigabytes.
MAX_PIXELS = 32_000_000
# A picture of one row can be within that and still cost gigabytes of tables to resize. JPEG's own limit.
MAX_SIDE = 65_535

Fit = Literal["stretch", "contain", "cover"]
_LUMA = np.array([299, 587, 114], np.float32) / 1000  # ITU-R BT.601, what Pillow's "L" uses


class BrokenImage(ValueError):
    """The bytes are no image that may be decoded; the text says why, in words meant for the sender."""


def decode_image(
    data: bytes,
    *,
    channels: int,
    height: int,
    width: int,
    fit: Fit = "stretch",
    admit: Callable[[int], None] | None = None,
) -> Array:
    """Decode a PNG, JPEG or WebP file into (channels, height, width) uint8.

    Size is checked before a pixel is decoded; `admit` is then told the number of pixels, and may raise. Transparency is
    laid over black. Other sizes are resized: `stretch` ignores the aspect ratio, `contain` keeps all of the picture on
    a black ground, `cover` fills and crops the middle.
    Raises BrokenImage.
    """
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            size = f"the image has {image.width} x {image.height} pixels"
            if image.width * image.height > MAX_PIXELS:
                raise BrokenImage(f"{size}, at most {MAX_PIXELS} are accepted")
            if max(image.size) > MAX_SIDE:
                raise BrokenImage(f"{size}, at most {MAX_SIDE} on a side are accepted")
            if admit is not None:
                admit(image.width * image.height)
            image.load()
            picture = _flatten(image, "L" if channels == 1 else "RGB")
    except BrokenImage:
        raise
    except UnidentifiedImageError:
        raise BrokenImage(f"the bytes are no image of a known format, expected one of {', '.join(FORMATS)}") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise BrokenImage(f"the image has too many pixels, at most {MAX_PIXELS} are accepted") from None
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, OverflowError, MemoryError, Warning):
        # Pillow's decoders answer a damaged file with whichever of these they run into first; -W error adds its own.
        raise BrokenImage("the image is damaged or cut short and can't be decoded") from None
    pixels = np.asarray(_fit(picture, width, height, fit))
    return pixels[None] if channels == 1 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _flatten(image: Image.Image, mode: str) -> Image.Image:
    if image.mode.startswith("I"):
        raise BrokenImage(f"the image stores more than 8 bits a channel (mode {image.mode}), expected 8")
    if "A" in image.getbands() or "transparency" in image.info:
        rgba = image.convert("RGBA")
        ground = Image.new("RGBA", rgba.size, (0, 0, 0, 255))
        return Image.alpha_composite(ground, rgba).convert(mode)
    return image.convert(mode)


def _fit(picture: Image.Image, width: int, height: int, fit: Fit) -> Image.Image:
    if picture.size == (width, height):
        return picture
    if fit == "stretch":
        return picture.resize((width, height), Image.Resampling.BILINEAR)
    if fit == "cover":
        # Cut before scaling: a picture of 200,000 x 1 scaled first would be gigabytes.
        ratio = max(width / picture.width, height / picture.height)
        left, top = (picture.width - width / ratio) / 2, (picture.height - height / ratio) / 2
        middle = (max(0.0, left), max(0.0, top), picture.width - max(0.0, left), picture.height - max(0.0, top))
        return picture.resize((width, height), Image.Resampling.BILINEAR, box=middle)
    ratio = min(width / picture.width, height / picture.height)
    scaled = picture.resize(
        (max(1, round(picture.width * ratio)), max(1, round(picture.height * ratio))),
        Image.Resampling.BILINEAR,
    )
    ground = Image.new(picture.mode, (width, height))
    ground.paste(scaled, ((width - scaled.width) // 2, (height - scaled.height) // 2))
    return ground


class Grayscale(StepConfig):
    """(n, 3, H, W) -> (n, 1, H, W) float32, by the luma weights of ITU-R BT.601."""

    step: Literal["grayscale"] = "grayscale"

    def apply(self, rows: Tensors) -> Tensors:
        luma_N1HW = np.einsum("nchw,c->nhw", pictures(rows, self.step).astype(np.float32), _LUMA)[:, None]
        return Tensors(luma_N1HW)


class Resize(StepConfig):
    """Bilinear, with antialiasing where it shrinks: (n, C, *, *) -> (n, C, height, width) float32."""

    step: Literal["resize"] = "resize"
    height: Annotated[int, Field(ge=1, le=4096)]
    width: Annotated[int, Field(ge=1, le=4096)]

    def apply(self, rows: Tensors) -> Tensors:
        x_NCHW = pictures(rows, self.step).astype(np.float32)
        out_NCHW = np.empty((*x_NCHW.shape[:2], self.height, self.width), np.float32)
        for index in np.ndindex(x_NCHW.shape[:2]):
            plane = Image.fromarray(x_NCHW[index])
            out_NCHW[index] = plane.resize((self.width, self.height), Image.Resampling.BILINEAR)
        return Tensors(out_NCHW)


class CenterCrop(StepConfig):
    """The middle of (n, C, H, W), (n, C, height, width); smaller pictures are refused."""

    step: Literal["center_crop"] = "center_crop"
    height: Annotated[int, Field(ge=1)]
    width: Annotated[int, Field(ge=1)]

    def apply(self, rows: Tensors) -> Tensors:
        x_NCHW = pictures(rows, self.step)
        height, width = x_NCHW.shape[-2:]
        if height < self.height or width < self.width:
            raise ValueError(f"center_crop to {self.height} x {self.width} can't cut from {height} x {width}")
        top, left = (height - self.height) // 2, (width - self.width) // 2
        return Tensors(x_NCHW[:, :, top : top + self.height, left : left + self.width])
