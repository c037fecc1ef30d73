"""Chips are dlib's pixel for pixel: small and large faces, at the edge and outside of the frame."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from vidinv.faces import dlib_backend, find_faces
from vidinv.faces.dlib_chips import CHIP_PX, chip_crop, cut_chip

from .conftest import Clip
from .dlib_reference import dlib_chip

CLIPS = ("talk_hand_512.mp4", "cuts_crowd.mp4", "portrait_glasses_720x1280.mp4")


def face(clip: Clip, name: str = CLIPS[0]) -> tuple[np.ndarray, np.ndarray]:
    image = clip(name, 1)[0]
    return image, find_faces(image, dlib_backend())[0].landmarks


@pytest.mark.parametrize("scale", [0.4, 1.0, 2.6, 5.3])
@pytest.mark.parametrize("name", CLIPS)
def test_chips_are_those_of_dlib(clip: Clip, name: str, scale: float) -> None:
    image, landmarks = face(clip, name)
    scaled = cv2.resize(image, None, fx=scale, fy=scale)
    for degrees in (0, 34, 180):
        turn = cv2.getRotationMatrix2D(tuple(scale * landmarks.mean(0).astype(float)), degrees, 1)
        turned = cv2.warpAffine(scaled, turn, scaled.shape[1::-1])
        points = scale * landmarks @ turn[:, :2].T + turn[:, 2]
        chip = cut_chip(turned, points)
        assert (chip.shape, chip.dtype) == ((CHIP_PX, CHIP_PX, 3), np.uint8)
        np.testing.assert_array_equal(chip, dlib_chip(turned, points))


@pytest.mark.parametrize("scale", [1.0, 4.0])
def test_what_lies_outside_the_frame_is_black_as_dlib_has_it(clip: Clip, scale: float) -> None:
    image, landmarks = face(clip)
    image, landmarks = cv2.resize(image, None, fx=scale, fy=scale), landmarks * scale
    top = int(landmarks[:, 1].mean())
    for cut, offset in ((image[top:], [0, top]), (image[:top], [0, 0]), (image[:3], [0, 0])):
        points = landmarks - offset
        chip = cut_chip(np.ascontiguousarray(cut), points)
        np.testing.assert_array_equal(chip, dlib_chip(np.ascontiguousarray(cut), points))
        assert (chip == 0).all(2).mean() > 0.2


def test_a_face_beside_the_frame_is_black(clip: Clip) -> None:
    image, landmarks = face(clip)
    assert not cut_chip(image, landmarks + 2000).any()
    assert not cut_chip(image[:5, :5], landmarks * 20).any()


def test_the_square_of_a_chip_is_around_the_face(clip: Clip) -> None:
    """What a training step cuts instead, where pictures must keep their gradients."""
    image, landmarks = face(clip)
    crop = chip_crop(landmarks)
    sampled = cv2.warpAffine(
        image, crop.crop_to_frame(CHIP_PX), (CHIP_PX,) * 2, flags=cv2.WARP_INVERSE_MAP
    )
    assert np.abs(sampled.astype(int) - cut_chip(image, landmarks)).mean() < 6
