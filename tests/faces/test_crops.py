"""Crop extraction: geometry, antialiasing, borders, types."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from vidinv.errors import UsageError
from vidinv.faces import extract_crop
from vidinv.types import Crop


def ramp(width: int = 200, height: int = 160) -> np.ndarray:
    """A picture whose value is linear in x and y, so that any filter leaves it as it is."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 100, y * 100, (x + y) * 50], axis=2).astype(np.uint16)


@pytest.mark.parametrize("side_px", [20.0, 40.0, 61.3, 90.0])
@pytest.mark.parametrize("size_px", [7, 16, 40])
def test_geometry_is_that_of_the_crop(side_px: float, size_px: int) -> None:
    angle = 0.3
    half = side_px / 2
    crop = Crop(97.3, 81.6, half * np.cos(angle), half * np.sin(angle))
    found = extract_crop(ramp(), crop, size_px).astype(float)
    v, u = np.mgrid[:size_px, :size_px]
    to_frame = crop.crop_to_frame(size_px)
    x, y = np.einsum("ij,jhw->ihw", to_frame, np.stack([u, v, np.ones_like(u)]))
    np.testing.assert_allclose(found[..., 0] / 100, x, atol=0.05)
    np.testing.assert_allclose(found[..., 1] / 100, y, atol=0.05)


@pytest.mark.parametrize("aspect", [64 / 45, 4 / 3, 3 / 4])
@pytest.mark.parametrize("side_px", [20.0, 61.3])
def test_a_crop_is_a_square_of_what_is_seen(aspect: float, side_px: float) -> None:
    """Of a frame that is shown ``aspect`` times as wide: what the stretched picture would give."""
    half, size_px = side_px / 2, 20
    crop = Crop(97.3 * aspect, 81.6, half * np.cos(0.3), half * np.sin(0.3), aspect)
    found = extract_crop(ramp(), crop, size_px).astype(float)
    v, u = np.mgrid[:size_px, :size_px]
    square = Crop(*crop.as_array()).crop_to_frame(size_px)
    seen_x, y = np.einsum("ij,jhw->ihw", square, np.stack([u, v, np.ones_like(u)]))
    np.testing.assert_allclose(found[..., 0] / 100, (seen_x + 0.5) / aspect - 0.5, atol=0.06)
    np.testing.assert_allclose(found[..., 1] / 100, y, atol=0.06)
    there = crop.crop_to_frame(size_px) @ [3.0, 5.0, 1.0]
    np.testing.assert_allclose(crop.frame_to_crop(size_px) @ [*there, 1.0], [3.0, 5.0])


def test_whole_frame_at_its_own_size_is_the_frame() -> None:
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    crop = Crop(31.5, 31.5, 32.0, 0.0)
    np.testing.assert_array_equal(extract_crop(image, crop, 64), image)


def test_large_face_does_not_alias() -> None:
    stripes = np.zeros((512, 512, 3), np.uint8)
    stripes[:, ::2] = 255
    crop = Crop(255.5, 255.5, 250.0, 20.0)
    ours = extract_crop(stripes, crop, 100)[10:-10, 10:-10]
    bilinear = cv2.warpAffine(stripes, crop.frame_to_crop(100), (100, 100))[10:-10, 10:-10]
    assert ours.std() < 8
    assert bilinear.std() > 30  # what the published QUAD transform does


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_type_and_range_stay(dtype: type) -> None:
    top = np.iinfo(dtype).max
    image = np.full((50, 60, 3), top, dtype)
    found = extract_crop(image, Crop(30, 25, 20, 3), 16)
    assert found.dtype == dtype
    assert found.shape == (16, 16, 3)
    assert found.min() == top


def test_outside_the_frame_is_mirrored() -> None:
    image = np.random.default_rng(1).integers(50, 256, (100, 100, 3), np.uint8)
    found = extract_crop(image, Crop(0.0, 50.0, 16.0, 0.0), 32)
    np.testing.assert_array_equal(found[:, 0:15], found[:, 31:16:-1][:, :15])
    assert found.min() >= 50  # no black border


@pytest.mark.parametrize("center", [(-500.0, 50.0), (50.0, 5000.0)])
def test_crop_wholly_outside_does_not_fail(center: tuple[float, float]) -> None:
    image = np.full((100, 100, 3), 7, np.uint8)
    assert (extract_crop(image, Crop(*center, 40.0, 5.0), 8) == 7).all()


def test_gray_and_tiny_pictures() -> None:
    assert extract_crop(np.full((3, 2), 9, np.uint8), Crop(1, 1, 300, 0), 4).shape == (4, 4)


def test_size_below_one_fails() -> None:
    with pytest.raises(UsageError, match="at least 1 px, got 0"):
        extract_crop(ramp(), Crop(10, 10, 5, 0), 0)


def test_what_lies_beside_the_frame_is_the_other_half_of_the_face() -> None:
    image = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)
    square = extract_crop(image, Crop(4.5, 44.5, 20.0, 0.0), 40)
    missing = 15  # of its columns
    np.testing.assert_array_equal(square[:, :missing], square[:, ::-1][:, :missing])
    np.testing.assert_array_equal(square[:, missing:], image[25:65, :25])
