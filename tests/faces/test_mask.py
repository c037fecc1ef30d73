"""The face mask: on the face, off the background, soft, zero at the border."""

from __future__ import annotations

import numpy as np
import pytest

from vidinv.faces import FaceRegion, face_mask
from vidinv.types import Crop

CROP = Crop(63.5, 63.5, 64.0, 0.0)


def oval_face() -> np.ndarray:
    """68 points of which the outline is right: jaw from temple to temple, brows."""
    points = np.full((68, 2), 64.0, np.float32)
    turn = np.linspace(np.pi, 0, 17)
    points[:17] = np.stack([64 + 44 * np.cos(turn), 55 + 55 * np.sin(turn)], 1)
    points[17:27] = np.stack([np.linspace(30, 98, 10), np.full(10, 42.0)], 1)
    return points


def test_mask_covers_the_face_only() -> None:
    mask = face_mask(oval_face(), crop=CROP, size_px=128)
    assert mask.dtype == np.float32
    assert mask.shape == (128, 128)
    assert mask[64, 64] > 0.99
    assert mask[30, 64] > 0.5  # forehead, above the brows
    assert mask[5, 64] < 0.01
    assert mask[110, 15] < 0.01
    assert mask.min() >= 0
    assert mask.max() <= 1


def test_mask_vanishes_at_the_border_even_where_the_face_does_not() -> None:
    mask = face_mask(oval_face() * 1.6 - 38, crop=CROP, size_px=128)
    border = np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]])
    assert border.max() < 0.01


def test_mask_scales_with_the_crop() -> None:
    small = face_mask(oval_face(), crop=CROP, size_px=64)
    large = face_mask(oval_face(), crop=CROP, size_px=256)
    averaged = large.reshape(64, 4, 64, 4).mean((1, 3))
    assert np.abs(small - averaged).mean() < 0.01


@pytest.mark.parametrize(("grow", "larger"), [(0.05, True), (-0.05, False)])
def test_grow(grow: float, larger: bool) -> None:
    plain = face_mask(oval_face(), crop=CROP, size_px=128).sum()
    grown = face_mask(oval_face(), crop=CROP, size_px=128, region=FaceRegion(grow=grow)).sum()
    assert (grown > plain) == larger


def test_hard_edge() -> None:
    mask = face_mask(oval_face(), crop=CROP, size_px=128, region=FaceRegion(feather=0.0))
    assert np.isin(mask, [0, 1]).mean() > 0.97
