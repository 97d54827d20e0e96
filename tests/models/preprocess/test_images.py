import contextlib
import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from models.preprocess import BrokenImage, Tensors, decode_image
from models.preprocess.images import MAX_PIXELS, MAX_SIDE, CenterCrop, Grayscale, Resize
from tests.memory import at_most

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def file_of(picture: Image.Image, format_: str = "PNG", **options: Any) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, format_, **options)
    return stream.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_that_claims(width: int, height: int, data: bytes = b"") -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    parts = [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(data)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def halves(left: Any, right: Any, mode: str = "RGB", size: tuple[int, int] = (8, 4)) -> Image.Image:
    picture = Image.new(mode, size, left)
    picture.paste(right, (size[0] // 2, 0, *size))
    return picture


# What is read


@pytest.mark.parametrize("format_", ["PNG", "WEBP"])
def test_lossless_colour_comes_out_as_it_went_in(format_: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    data = file_of(Image.fromarray(pixels), format_, lossless=True)
    decoded = decode_image(data, channels=3, height=5, width=7)
    assert decoded.dtype == np.uint8
    assert decoded.flags.c_contiguous
    np.testing.assert_array_equal(decoded, pixels.transpose(2, 0, 1))


def test_jpeg_comes_out_nearly_as_it_went_in() -> None:
    decoded = decode_image(file_of(Image.new("RGB", (16, 16), RED), "JPEG"), channels=3, height=16, width=16)
    np.testing.assert_allclose(decoded[:, 8, 8], RED, atol=3)


def test_grey_comes_out_as_it_went_in() -> None:
    pixels = np.arange(35, dtype=np.uint8).reshape(5, 7)
    decoded = decode_image(file_of(Image.fromarray(pixels)), channels=1, height=5, width=7)
    np.testing.assert_array_equal(decoded, pixels[None])


def test_colour_becomes_grey_by_luma_where_a_model_wants_grey() -> None:
    decoded = decode_image(file_of(halves(RED, BLUE)), channels=1, height=4, width=8)
    assert decoded[0, 0].tolist() == [76] * 4 + [29] * 4


def test_grey_becomes_colour_where_a_model_wants_colour() -> None:
    decoded = decode_image(file_of(Image.new("L", (2, 2), 77)), channels=3, height=2, width=2)
    assert (decoded == 77).all()
    assert decoded.shape == (3, 2, 2)


@pytest.mark.parametrize("mode", ["1", "P", "CMYK"])
def test_other_ways_to_store_white_are_white(mode: str) -> None:
    picture = Image.new("RGB", (3, 3), WHITE).convert(mode)
    data = file_of(picture, "JPEG" if mode == "CMYK" else "PNG")
    assert decode_image(data, channels=3, height=3, width=3).min() >= 254


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
@pytest.mark.parametrize("channels", [1, 3])
def test_what_is_transparent_is_black(mode: str, channels: int) -> None:
    picture = Image.new("RGBA", (4, 2), (*WHITE, 0))
    picture.paste((*WHITE, 255), (0, 0, 2, 2))
    decoded = decode_image(file_of(picture.convert(mode)), channels=channels, height=2, width=4)
    assert decoded[:, 0].tolist() == [[255, 255, 0, 0]] * channels


def test_half_transparent_is_half_as_bright() -> None:
    decoded = decode_image(file_of(Image.new("RGBA", (1, 1), (*WHITE, 128))), channels=1, height=1, width=1)
    assert decoded.item() == 128


def test_a_transparent_palette_entry_is_black() -> None:
    picture = Image.new("P", (2, 1), 0)
    picture.putpalette([*WHITE, *RED])
    picture.putpixel((1, 0), 1)
    decoded = decode_image(file_of(picture, transparency=0), channels=3, height=1, width=2)
    assert decoded[:, 0].T.tolist() == [[0, 0, 0], [255, 0, 0]]


# How other sizes are fitted


def test_stretch_fills_the_frame_with_all_of_the_picture() -> None:
    decoded = decode_image(file_of(halves(RED, GREEN)), channels=3, height=4, width=4, fit="stretch")
    assert decoded[:, :, 0].T.tolist() == [list(RED)] * 4
    assert decoded[:, :, 3].T.tolist() == [list(GREEN)] * 4


def test_pictures_are_stretched_where_nothing_else_is_asked_for() -> None:
    assert (decode_image(file_of(Image.new("L", (8, 2), 9)), channels=1, height=4, width=4) == 9).all()


@pytest.mark.parametrize("fit", ["stretch", "contain", "cover"])
def test_between_two_pixels_brightness_grows_in_a_straight_line(fit: Any) -> None:
    pixels = np.array([[0, 255], [0, 255]], np.uint8)
    decoded = decode_image(file_of(Image.fromarray(pixels)), channels=1, height=4, width=4, fit=fit)
    assert decoded[0].tolist() == [[0, 64, 191, 255]] * 4


@pytest.mark.parametrize("scale", [0.5, 1, 2])
@pytest.mark.parametrize("upright", [False, True])
def test_contain_keeps_all_of_the_picture_on_a_black_ground(scale: float, upright: bool) -> None:
    picture = Image.new("RGB", (int(8 * scale), int(4 * scale)), RED)
    decoded = decode_image(
        file_of(picture.transpose(Image.Transpose.ROTATE_90) if upright else picture),
        channels=3,
        height=8,
        width=8,
        fit="contain",
    )
    red = decoded[0].T if upright else decoded[0]
    assert red.tolist() == [[0] * 8] * 2 + [[255] * 8] * 4 + [[0] * 8] * 2
    assert (decoded[1:] == 0).all()


@pytest.mark.parametrize(("size", "axis"), [((100, 1), 1), ((1, 100), 0)])
def test_contain_keeps_a_line_that_would_vanish(size: tuple[int, int], axis: int) -> None:
    decoded = decode_image(file_of(Image.new("L", size, 255)), channels=1, height=4, width=4, fit="contain")
    assert decoded[0].max(axis=axis).tolist() == [0, 255, 0, 0]


def test_cover_fills_the_frame_and_cuts_the_sides() -> None:
    picture = Image.new("RGB", (12, 4), WHITE)
    picture.paste(RED, (0, 0, 4, 4))
    picture.paste(GREEN, (8, 0, 12, 4))
    decoded = decode_image(file_of(picture), channels=3, height=4, width=4, fit="cover")
    assert (decoded == 255).all()


def slope(size: tuple[int, int], axis: int) -> Image.Image:
    """Brighter by ten from pixel to pixel, downwards (0) or to the right (1)."""
    along = np.arange(0, 240, 10, dtype=np.uint8)[: size[1 - axis]]
    return Image.fromarray(np.ascontiguousarray(np.broadcast_to(along[None] if axis else along[:, None], size[::-1])))


@pytest.mark.parametrize(("size", "axis"), [((24, 8), 1), ((8, 24), 0)])
@pytest.mark.parametrize(
    ("side", "middle"), [(8, [80, 90, 100, 110, 120, 130, 140, 150]), (4, [85, 105, 125, 145]), (2, [95, 135])]
)
def test_cover_keeps_the_middle_of_the_longer_side(
    size: tuple[int, int], axis: int, side: int, middle: list[int]
) -> None:
    decoded = decode_image(file_of(slope(size, axis)), channels=1, height=side, width=side, fit="cover")[0]
    for line in decoded if axis else decoded.T:
        assert line.tolist() == middle


@pytest.mark.parametrize(("size", "axis"), [((24, 8), 0), ((8, 24), 1)])
@pytest.mark.parametrize("side", [4, 8, 16])
def test_cover_keeps_all_of_the_shorter_side(size: tuple[int, int], axis: int, side: int) -> None:
    data = file_of(slope(size, axis))
    covered, stretched = (
        decode_image(data, channels=1, height=side, width=side, fit=fit) for fit in ("cover", "stretch")
    )
    np.testing.assert_array_equal(covered, stretched)


def test_cover_enlarges_too() -> None:
    decoded = decode_image(file_of(Image.new("L", (2, 3), 9)), channels=1, height=8, width=8, fit="cover")
    assert (decoded == 9).all()


@pytest.mark.parametrize("size", [(60_000, 1), (1, 60_000)])
def test_cover_takes_no_memory_for_what_it_cuts_away(size: tuple[int, int]) -> None:
    data = file_of(Image.new("L", size, 200))
    with at_most(100 << 20):  # scaled first it would take 15 GB
        decoded = decode_image(data, channels=1, height=512, width=512, fit="cover")
    assert (decoded == 200).all()


@given(
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    frame=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    fit=st.sampled_from(["stretch", "contain", "cover"]),
)
def test_every_fit_gives_the_frames_size_and_keeps_a_plain_colour(
    size: tuple[int, int], frame: tuple[int, int], fit: Any
) -> None:
    data = file_of(Image.new("L", size, 90))
    decoded = decode_image(data, channels=1, height=frame[0], width=frame[1], fit=fit)
    assert decoded.shape == (1, *frame)
    assert set(np.unique(decoded)) <= ({0, 90} if fit == "contain" else {90})
    assert decoded.max() == 90


# What is refused


@pytest.mark.parametrize("data", [b"", b"no image at all", bytes(100), b"\x89PNG\r\n\x1a\n", b"GIF89a" + bytes(50)])
def test_what_is_no_image_is_refused(data: bytes) -> None:
    with pytest.raises(BrokenImage, match=r"no image of a known format, expected one of PNG, JPEG, WEBP|damaged"):
        decode_image(data, channels=1, height=4, width=4)


@pytest.mark.parametrize("format_", ["GIF", "BMP", "TIFF", "PPM", "ICO", "TGA"])
def test_formats_that_are_not_on_the_list_are_refused(format_: str) -> None:
    with pytest.raises(BrokenImage, match="no image of a known format"):
        decode_image(file_of(Image.new("RGB", (4, 4)), format_), channels=3, height=4, width=4)


@pytest.mark.parametrize("format_", ["PNG", "JPEG", "WEBP"])
def test_an_image_that_is_cut_short_is_refused(format_: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    data = file_of(Image.fromarray(pixels), format_)
    with pytest.raises(BrokenImage, match="damaged or cut short"):
        decode_image(data[: len(data) // 2], channels=3, height=64, width=64)


def test_what_is_damaged_is_said_to_be() -> None:
    with pytest.raises(BrokenImage, match=r"^the image is damaged or cut short and can't be decoded$"):
        decode_image(png_that_claims(64, 64), channels=1, height=4, width=4)


@pytest.mark.parametrize(
    ("claimed", "most"),
    [
        ((8_000, 5_000), "32000000 are accepted"),
        ((MAX_PIXELS + 1, 1), "32000000 are accepted"),
        ((MAX_SIDE + 1, 1), "65535 on a side are accepted"),
    ],
)
def test_the_size_of_a_picture_that_is_too_large_is_told(claimed: tuple[int, int], most: str) -> None:
    said = f"the image has {claimed[0]} x {claimed[1]} pixels, at most {most}"
    with pytest.raises(BrokenImage, match=f"^{said}$"):
        decode_image(png_that_claims(*claimed), channels=1, height=4, width=4)


class Turned(Exception):
    """Away, by whoever counts pixels."""


@pytest.mark.parametrize("claimed", [(8_000, 4_000), (MAX_SIDE, 1), (1, MAX_SIDE), (7, 3)])
def test_the_number_of_pixels_is_told_before_one_is_decoded(claimed: tuple[int, int]) -> None:
    told: list[int] = []

    def admit(pixels: int) -> None:
        told.append(pixels)
        raise Turned

    with at_most(16 << 20), pytest.raises(Turned):
        decode_image(png_that_claims(*claimed), channels=1, height=4, width=4, admit=admit)
    assert told == [claimed[0] * claimed[1]]


@pytest.mark.parametrize("claimed", [(60_000, 60_000), (MAX_PIXELS + 1, 1), (9_500, 9_500), (2**31 - 1, 2**31 - 1)])
def test_a_bomb_is_refused_before_a_pixel_is_decoded(claimed: tuple[int, int]) -> None:
    data = png_that_claims(*claimed, data=bytes(1_000_000))
    assert len(data) < 2_000
    with at_most(16 << 20), pytest.raises(BrokenImage, match=f"at most {MAX_PIXELS} are accepted"):
        decode_image(data, channels=1, height=4, width=4)


@pytest.mark.parametrize("claimed", [(MAX_SIDE + 1, 1), (1, 30_000_000)])
def test_a_thread_of_pixels_is_refused_before_one_is_decoded(claimed: tuple[int, int]) -> None:
    data = png_that_claims(*claimed, data=bytes(1_000_000))
    with at_most(16 << 20), pytest.raises(BrokenImage, match=f"at most {MAX_SIDE} on a side are accepted"):
        decode_image(data, channels=1, height=4, width=4)


def test_a_picture_that_holds_fewer_pixels_than_it_claims_is_refused() -> None:
    with pytest.raises(BrokenImage, match="damaged or cut short"):
        decode_image(png_that_claims(64, 64, data=bytes(10)), channels=1, height=4, width=4)


def test_more_than_eight_bits_a_channel_are_refused() -> None:
    picture = Image.fromarray(np.full((2, 2), 40_000, np.uint16))
    with pytest.raises(BrokenImage, match=r"more than 8 bits a channel \(mode I;16\), expected 8"):
        decode_image(file_of(picture), channels=1, height=2, width=2)


@given(st.data())
def test_no_changed_byte_of_an_image_raises_anything_but_its_reason(data: st.DataObject) -> None:
    format_ = data.draw(st.sampled_from(["PNG", "JPEG", "WEBP"]))
    changed = bytearray(file_of(halves(RED, BLUE), format_))
    for _ in range(data.draw(st.integers(1, 3))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(BrokenImage):
        assert decode_image(bytes(changed), channels=3, height=4, width=8).shape == (3, 4, 8)


# Steps on pixels


def test_grayscale_weighs_by_luma() -> None:
    rows = np.array([RED, GREEN, BLUE, WHITE], np.uint8).reshape(4, 3, 1, 1)
    grey = Grayscale().apply(Tensors(rows)).values
    assert (grey.shape, grey.dtype) == ((4, 1, 1, 1), np.float32)
    np.testing.assert_allclose(grey.ravel(), [255 * 0.299, 255 * 0.587, 255 * 0.114, 255], rtol=1e-6)


def test_resize_keeps_a_plain_picture_plain() -> None:
    out = Resize(height=3, width=5).apply(Tensors(np.full((2, 3, 8, 8), 7, np.uint8))).values
    assert out.shape == (2, 3, 3, 5)
    assert out.dtype == np.float32
    np.testing.assert_allclose(out, 7, rtol=1e-6)


def test_resize_interpolates_in_a_straight_line() -> None:
    out = Resize(height=1, width=4).apply(Tensors(np.array([[[[0, 8]]]], np.uint8))).values
    assert out.tolist() == [[[[0, 2, 6, 8]]]]


def test_resize_averages_where_it_shrinks() -> None:
    checks = np.indices((8, 8)).sum(axis=0) % 2 * 255
    out = Resize(height=1, width=1).apply(Tensors(checks[None, None].astype(np.uint8))).values
    np.testing.assert_allclose(out.item(), 127.5, atol=1)


@pytest.mark.parametrize(
    ("height", "width", "kept"),
    [
        (1, 3, [[11, 12, 13]]),
        (2, 2, [[6, 7], [11, 12]]),
        (5, 1, [[2], [7], [12], [17], [22]]),
        (1, 5, [[10, 11, 12, 13, 14]]),
    ],
)
def test_center_crop_keeps_the_middle(height: int, width: int, kept: list[list[int]]) -> None:
    rows = np.arange(25).reshape(1, 1, 5, 5)
    assert CenterCrop(height=height, width=width).apply(Tensors(rows)).values.tolist() == [[kept]]


def test_center_crop_refuses_pictures_that_are_too_small() -> None:
    with pytest.raises(ValueError, match="center_crop to 6 x 2 can't cut from 5 x 5"):
        CenterCrop(height=6, width=2).apply(Tensors(np.zeros((1, 1, 5, 5))))


@pytest.mark.parametrize("step", [Grayscale(), Resize(height=1, width=1), CenterCrop(height=1, width=1)])
@pytest.mark.parametrize(
    ("rows", "kind"),
    [
        (Tensors(np.zeros((2, 3))), r"rows of shape \(3,\)"),
        (Tensors(np.zeros((4, 3, 2, 2)), np.array([1, 3], np.int32)), "sequences"),
    ],
)
def test_steps_on_pictures_refuse_what_is_none(step: Any, rows: Tensors, kind: str) -> None:
    with pytest.raises(ValueError, match=f"the step '{step.step}' takes pictures \\(n, C, H, W\\), not {kind}"):
        step.apply(rows)
