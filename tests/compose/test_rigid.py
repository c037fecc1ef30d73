"""Edits move skin: not glasses, not what is behind the face, and they take nothing from there."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from tests.compose.faces import face_mask, textured_face
from tests.compose.made_up_change import mean_landmarks
from vidinv.compose import Composer
from vidinv.compose.flow import warp
from vidinv.compose.rigid import glasses_evidence, keep_on_face, still_face
from vidinv.faces.mask import feather
from vidinv.types import Crop

SIZE = 128
POINTS = mean_landmarks(SIZE)
WHOLE = Crop((SIZE - 1) / 2, (SIZE - 1) / 2, SIZE / 2, 0.0)


def plain_face() -> np.ndarray:
    return cv2.GaussianBlur(textured_face(SIZE), (0, 0), 0.7)


def draw_glasses(face: np.ndarray, colour: tuple[int, int, int] = (40, 35, 30)) -> np.ndarray:
    worn = face.copy()
    for eye in (slice(36, 42), slice(42, 48)):
        x, y = (round(float(v)) for v in POINTS[eye].mean(0))
        cv2.ellipse(worn, (x, y + 4), (20, 14), 0, 0, 360, colour, 2)
    y = round(float(POINTS[27, 1]))
    cv2.line(worn, (round(float(POINTS[39, 0])), y), (round(float(POINTS[42, 0])), y), colour, 2)
    return worn


def lifted(source: np.ndarray, rendered: np.ndarray, *, landmarks: np.ndarray | None) -> np.ndarray:
    """``source`` after an edit that moves the skin of ``rendered`` up by 4 px."""
    rendered = rendered.astype(np.float32)
    matrix = np.float32([[1, 0, 0], [0, 1, -4]])
    edited = cv2.warpAffine(rendered, matrix, (SIZE, SIZE), borderMode=cv2.BORDER_REPLICATE)
    return Composer().compose(
        source,
        crop=WHOLE,
        source_crop=source.astype(np.float32),
        rendered=rendered,
        edited=edited,
        mask=face_mask(SIZE),
        landmarks=landmarks,
    )


def moved(output: np.ndarray, source: np.ndarray, where: np.ndarray) -> float:
    return float(np.abs(output.astype(float) - source)[where].mean())


def test_glasses_stay_where_they_are_while_the_skin_moves():
    face = plain_face()
    source = draw_glasses(face)
    # Rims inside the mask; where they cross an eyelid, it may take them along.
    rims = (np.abs(source.astype(int) - face).max(2) > 30) & (face_mask(SIZE) > 0)
    rims[: round(float(POINTS[36:48, 1].max())) + 4] = False
    with_landmarks = lifted(source, face, landmarks=POINTS)
    assert moved(with_landmarks, source, rims) < 3
    assert moved(lifted(source, face, landmarks=None), source, rims) > 20
    cheeks = np.zeros((SIZE, SIZE), bool)
    cheeks[80:100, 45:83] = True
    assert moved(with_landmarks, source, cheeks) > 3


def test_a_line_across_the_nose_is_glasses_and_a_bare_nose_is_none():
    face = plain_face().astype(np.float32)
    assert glasses_evidence(face, POINTS, face_px=SIZE) == 0.0
    assert glasses_evidence(draw_glasses(face), POINTS, face_px=SIZE) == 1.0


@pytest.mark.parametrize("side", [20, 64, 200])
def test_glasses_of_landmarks_outside_the_picture_are_none(side):
    away = POINTS + np.float32([2.0 * SIZE, 0.0])
    assert glasses_evidence(np.zeros((side, side, 3), np.float32), away, face_px=side) == 0.0


def test_a_shelf_behind_the_face_stays_straight_where_the_mask_covers_it():
    face = plain_face()
    source = face.copy()
    source[80:86, :34] = (60, 30, 20)
    shelf = np.zeros((SIZE, SIZE), bool)
    shelf[78:88, 20:30] = True
    shelf &= face_mask(SIZE) > 0
    assert moved(lifted(source, face, landmarks=POINTS), source, shelf) < 2
    assert moved(lifted(source, face, landmarks=None), source, shelf) > 6


def test_nothing_is_sampled_beside_the_face():
    mask = feather(face_mask(SIZE).astype(np.float32), 3.0)
    flow = np.zeros((SIZE, SIZE, 2), np.float32)
    flow[..., 0] = -25 * mask
    kept = keep_on_face(flow, mask)
    on_face = mask > 0.6
    assert warp(mask, flow)[on_face].min() < 0.05
    assert warp(mask, kept)[on_face].min() > 0.45
    assert np.abs(np.diff(kept[..., 0], axis=1))[on_face[:, 1:]].max() < 8


def test_flow_that_stays_on_the_face_is_kept_as_it_is():
    mask = feather(face_mask(SIZE).astype(np.float32), 3.0)
    flow = np.zeros((SIZE, SIZE, 2), np.float32)
    flow[50:70, 50:70] = 3
    assert keep_on_face(flow, mask) is flow


def test_an_edit_that_turns_the_head_brings_no_background_into_the_face():
    face, on_face = textured_face(SIZE).astype(np.float32), face_mask(SIZE)
    source = np.where(on_face[..., None] > 0, face, np.float32([0, 255, 0]))
    edited = cv2.warpAffine(face, np.float32([[1, 0, 14], [0, 1, 0]]), (SIZE, SIZE))
    output = Composer().compose(
        source.astype(np.uint8),
        crop=WHOLE,
        source_crop=source,
        rendered=face,
        edited=edited,
        mask=feather(on_face.astype(np.float32), 3.0),
    )
    green = output[..., 1].astype(int) - output[..., 0]
    assert green[cv2.erode(on_face, np.ones((5, 5))) > 0].max() < 40


def test_background_that_a_turning_head_uncovers_is_not_painted_on_the_cheek():
    """Dark hair where the cheek was; who knows where the outline went keeps the cheek."""
    face, mask = textured_face(SIZE).astype(np.float32), face_mask(SIZE).astype(np.float32)
    shift = 16
    edited_mask = np.roll(mask, -shift, axis=1)
    edited_mask[:, -shift:] = 0
    edited = face.copy()
    edited[(mask > 0) & (edited_mask == 0)] = 15

    def composed(**known):
        return Composer().compose(
            face.astype(np.uint8),
            crop=WHOLE,
            source_crop=face,
            rendered=face,
            edited=edited,
            mask=feather(mask, 3.0),
            **known,
        )

    stripe = (cv2.erode(mask, np.ones((13, 13))) > 0) & (edited_mask == 0)
    darker = [
        float((face - output)[stripe].mean())
        for output in (composed(), composed(edited_mask=feather(edited_mask, 3.0)))
    ]
    assert darker[0] > 40
    assert darker[1] < 3


def test_an_outline_that_hardly_moves_costs_nothing_of_the_edit():
    mask = feather(face_mask(SIZE).astype(np.float32), 3.0)
    flow = np.zeros((SIZE, SIZE, 2), np.float32)
    near = still_face(flow, mask, np.roll(mask, 2, axis=1), face_px=128.0)
    assert near.min() == 1.0
    far = still_face(flow, mask, np.roll(mask, 12, axis=1), face_px=128.0)
    assert far.min() < 0.01
