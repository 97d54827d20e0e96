import numpy as np
import pytest

from models.training.augment import ImageAugmentation, drop_tokens, warp


def images(n: int = 4, channels: int = 2, size: int = 7) -> np.ndarray:
    return np.random.default_rng(0).integers(1, 256, (n, channels, size, size), np.uint8)


def still(n: int, **changes: float) -> dict[str, np.ndarray]:
    plain = {"angle": 0.0, "zoom": 1.0, "shift_y": 0.0, "shift_x": 0.0}
    return {name: np.full(n, value) for name, value in {**plain, **changes}.items()}


def test_without_settings_nothing_changes() -> None:
    x = images()
    assert np.array_equal(ImageAugmentation().apply(x, np.random.default_rng(0)), x)


def test_the_same_seed_gives_the_same_images() -> None:
    everything = ImageAugmentation(flip=0.5, flip_vertical=0.5, crop=2, rotate=20, translate=0.1, scale=0.1)
    one, two, other = (everything.apply(images(), np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(one, two)
    assert not np.array_equal(one, other)
    assert one.shape == images().shape
    assert one.min() >= 0
    assert one.max() <= 255


def test_flips_mirror_whole_images() -> None:
    x = images()
    rng = np.random.default_rng(0)
    assert np.array_equal(ImageAugmentation(flip=1).apply(x, rng), x[:, :, :, ::-1])
    assert np.array_equal(ImageAugmentation(flip_vertical=1).apply(x, rng), x[:, :, ::-1])
    some = ImageAugmentation(flip=0.5).apply(images(40), rng)
    flipped = [np.array_equal(new, old[:, :, ::-1]) for new, old in zip(some, images(40), strict=True)]
    assert 5 < sum(flipped) < 35


def test_a_crop_shifts_by_at_most_its_border_and_fills_with_black() -> None:
    x = images(n=60, channels=1, size=5)
    cropped = ImageAugmentation(crop=2).apply(x, np.random.default_rng(0))
    padded = np.pad(x, ((0, 0), (0, 0), (2, 2), (2, 2)))
    offsets = set()
    for new, source in zip(cropped, padded, strict=True):
        places = [(i, j) for i in range(5) for j in range(5) if np.array_equal(new, source[:, i : i + 5, j : j + 5])]
        assert len(places) == 1
        offsets.add(places[0])
    assert len(offsets) > 15  # of 25 possible ones


def test_a_quarter_turn_is_numpys_rot90() -> None:
    x = images()
    turned = warp(x, **still(4, angle=np.pi / 2))
    np.testing.assert_allclose(turned, np.rot90(x, axes=(2, 3)), atol=1e-3)


def test_whole_shifts_move_pixels() -> None:
    x = images()
    moved = warp(x, **still(4, shift_y=2, shift_x=-1))
    np.testing.assert_allclose(moved[:, :, 2:, :-1], x[:, :, :-2, 1:], atol=1e-3)
    assert not moved[:, :, :2].any()
    assert not moved[:, :, :, -1].any()


def test_half_a_pixel_mixes_neighbours() -> None:
    x = np.zeros((1, 1, 1, 4), np.uint8)
    x[..., 1] = 100
    assert warp(x, **still(1, shift_x=0.5))[0, 0, 0].tolist() == [0, 50, 50, 0]


def test_zoom_enlarges_about_the_centre() -> None:
    x = np.zeros((1, 1, 5, 5), np.float32)
    x[0, 0, 2, 2] = 200
    assert warp(x, **still(1, zoom=2))[0, 0, 2].tolist() == [0, 100, 200, 100, 0]


def test_dropped_tokens_become_unknown() -> None:
    ids = np.arange(2, 10_002)
    dropped = drop_tokens(ids, 0.25, unknown=1, rng=np.random.default_rng(0))
    assert 0.22 < (dropped == 1).mean() < 0.28
    assert np.array_equal(dropped[dropped != 1], ids[dropped != 1])
    assert dropped.dtype == ids.dtype


def test_a_share_beyond_1_is_refused() -> None:
    with pytest.raises(ValueError, match=r"0\.\.1, got 1.5"):
        drop_tokens(np.arange(3), 1.5, 1, np.random.default_rng(0))
    with pytest.raises(ValueError, match="flip"):
        ImageAugmentation(flip=1.1)
