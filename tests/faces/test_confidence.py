"""A face is edited less in profile and where nobody saw it, smoothly and without lag."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.compose.made_up_change import mean_landmarks
from vidinv.faces import TIGHT, faded_notes, track_confidence
from vidinv.faces.align import stretched
from vidinv.faces.confidence import frontal_share
from vidinv.types import FaceTrack

SIDE_PX = 200
FRONTAL = mean_landmarks(SIDE_PX).astype(np.float64) - SIDE_PX / 2


def turned(degrees: np.ndarray, *, roll: float = 0.0) -> np.ndarray:
    """``[T, 68, 2]`` of a head about as deep as wide, its nose ahead, turned and rolled."""
    half_width = np.abs(FRONTAL[:17, 0]).max()
    depth = np.sqrt(np.maximum(0.0, 1.0 - (FRONTAL[:, 0] / half_width) ** 2)) * half_width
    depth[27:36] += 0.2 * half_width
    yaw = np.radians(degrees)[:, None]
    x = FRONTAL[:, 0] * np.cos(yaw) + depth * np.sin(yaw)
    points = x + 1j * FRONTAL[:, 1]
    points *= np.exp(1j * np.radians(roll))
    return np.stack([points.real, points.imag], -1) + SIDE_PX


def track(points: np.ndarray, measured: np.ndarray | None = None, **how) -> FaceTrack:
    crops = np.repeat(TIGHT.crops(points[:1]), len(points), 0)
    seen = np.ones(len(points), bool) if measured is None else measured
    return FaceTrack(0, 0, 0, points.astype(np.float32), crops, seen, **how)


THERE_AND_BACK = np.concatenate([np.zeros(30), np.linspace(0, 80, 16), np.linspace(80, 0, 16)[1:]])
TURN = np.concatenate([THERE_AND_BACK, np.zeros(30)])


def test_a_face_seen_from_the_front_is_edited_in_full():
    """Exactly: its frames are those of before, bit for bit; training faces are turned so far."""
    for degrees in (0, 20, -35):
        assert np.all(track_confidence(track(turned(np.full(9, degrees)))) == 1.0)


@pytest.mark.parametrize("roll", [0, 60, 180])
def test_an_edit_fades_out_into_profile_and_in_again_without_lag(roll):
    confidence = track_confidence(track(turned(TURN, roll=roll)))
    assert confidence[45] == confidence.min() < 0.2
    assert np.all(confidence[:20] == 1.0)
    assert np.abs(np.diff(confidence)).max() < 0.15
    np.testing.assert_allclose(confidence, confidence[::-1], atol=1e-6)


def test_a_turn_to_either_side_counts_alike():
    left, right = (track_confidence(track(turned(sign * TURN))) for sign in (1, -1))
    assert left.min() == pytest.approx(right.min(), abs=0.05)


def test_where_a_face_was_not_seen_the_edit_dims_and_one_blurred_frame_costs_little():
    points = turned(np.zeros(60))
    measured = np.ones(60, bool)
    measured[30] = False
    assert 0.88 < track_confidence(track(points, measured)).min() < 0.92
    measured[26:38] = False
    confidence = track_confidence(track(points, measured))
    assert confidence.min() < 0.2
    assert np.abs(np.diff(confidence)).max() < 0.12
    assert np.all(confidence[:14] == 1.0)


def test_pixels_that_are_not_square_do_not_matter():
    seen = turned(TURN)
    anamorphic = track(stretched(seen, 0.5), pixel_aspect=2.0)
    square = track(seen)
    squeezed = FaceTrack(
        0, 0, 0, anamorphic.landmarks_T682, square.crops_T4, square.measured_T, pixel_aspect=2.0
    )
    np.testing.assert_allclose(track_confidence(squeezed), track_confidence(square), atol=1e-3)


def test_a_profile_has_no_share_of_its_far_side():
    crops = TIGHT.crops(turned(np.zeros(1)))
    assert frontal_share(turned(np.zeros(1)), crops)[0] > 0.4
    assert frontal_share(turned(np.full(1, 80)), crops)[0] == 0


def test_a_square_that_is_no_face_is_edited_in_full():
    nowhere = np.full((5, 68, 2), np.nan, np.float32)
    square = FaceTrack(0, 0, 0, nowhere, np.ones((5, 4)), np.ones(5, bool))
    assert np.all(track_confidence(square) == 1.0)


def test_whose_edit_hardly_shows_is_said_once_with_the_frames():
    front, profile = (track(turned(np.full(9, degrees))) for degrees in (0, 80))
    unseen = track(turned(np.zeros(9)), np.arange(9) == 0)
    clip = [replace(profile, first=12), replace(unseen, first=40), front, track(turned(TURN))]
    clip += [replace(unseen, person=3).within(range(8, 9))]
    assert faded_notes(clip) == [
        "face 0 is hardly edited in frames 12 to 20, frames 40 to 48: "
        "there mostly seen from the side, or not at all",
        "face 3 is hardly edited in frame 8: there mostly seen from the side, or not at all",
    ]
    assert faded_notes([front]) == []
