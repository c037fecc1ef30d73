"""The face mask: on the face, off the background, soft, zero at the border."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from tests.compose.made_up_change import mean_landmarks, small_face
from vidinv.faces import FFHQ, TIGHT, FaceRegion, face_mask
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


@pytest.mark.parametrize("size_px", [64, 256])
def test_mask_covers_the_same_frame_pixels_in_every_crop(size_px: int) -> None:
    landmarks = small_face(220) + 90
    tight, wide = (
        cv2.warpAffine(
            face_mask(landmarks, crop=crop, size_px=size_px, crop_scale=alignment.crop_scale),
            crop.crop_to_frame(size_px),
            (400, 400),
        )
        for alignment in (TIGHT, FFHQ)
        for crop in [alignment.crop(landmarks)]
    )
    apart = (tight > 0.5) != (wide > 0.5)
    assert not cv2.erode(apart.astype(np.uint8), np.ones((3, 3))).any()  # never 3 px of the frame
    assert apart.sum() < 0.02 * (tight > 0.5).sum()
    assert np.abs(tight - wide).max() < 0.12


def test_a_wider_crop_shows_the_chin_that_the_tight_one_cuts() -> None:
    landmarks = mean_landmarks(220) + 90
    chin = (landmarks[8] - [0, 5]).round().astype(int)
    masks = []
    for alignment in (TIGHT, FFHQ):
        crop = alignment.crop(landmarks)
        mask = face_mask(landmarks, crop=crop, size_px=256, crop_scale=alignment.crop_scale)
        masks.append(cv2.warpAffine(mask, crop.crop_to_frame(256), (400, 400)))
    assert masks[0][chin[1], chin[0]] < 0.1
    assert masks[1][chin[1], chin[0]] > 0.6


def test_hard_edge() -> None:
    mask = face_mask(oval_face(), crop=CROP, size_px=128, region=FaceRegion(feather=0.0))
    assert np.isin(mask, [0, 1]).mean() > 0.97
