"""The crop formula: training faces, similarity transforms, names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vidinv.errors import UnknownNameError
from vidinv.faces import FFHQ, TIGHT, Alignment, named_alignment


def landmarks_with(eyes: float, mouth: float) -> np.ndarray:
    """68 points whose eyes are ``eyes`` apart and whose mouth is ``mouth`` below them."""
    points = np.zeros((68, 2), np.float32)
    points[36:42, 0], points[42:48, 0] = -eyes / 2, eyes / 2
    points[[48, 54]] = [[-10, mouth], [10, mouth]]
    return points + 100


def test_tight_crop_is_the_crop_of_the_training_faces(shared_dir: Path) -> None:
    landmarks = np.load(shared_dir / "faces" / "landmarks68.npz")["landmarks"].astype(np.float32)
    crops = TIGHT.crops(landmarks)
    half_side = np.hypot(crops[:, 2], crops[:, 3])
    assert np.abs(crops[:, :2] - 63.5).max() < 0.2  # landmarks are stored as float16
    assert np.abs(half_side - 64).max() < 0.2
    assert np.abs(crops[:, 3]).max() < 0.5


@pytest.mark.parametrize(
    ("alignment", "half_side", "below"), [(TIGHT, 0.7 * 120, 24), (FFHQ, 120, 5)]
)
def test_crop_by_hand(alignment: Alignment, half_side: float, below: float) -> None:
    crop = alignment.crop(landmarks_with(eyes=60, mouth=50))
    expected = [100, 100 + below, half_side, 0]
    np.testing.assert_allclose(crop.as_array(), expected, atol=1e-4)


def test_crop_size_follows_the_larger_of_eyes_and_mouth() -> None:
    assert FFHQ.crop(landmarks_with(eyes=60, mouth=90)).side_px == pytest.approx(2 * 1.8 * 90)


def test_crop_scale_is_the_side_in_tight_sides() -> None:
    assert TIGHT.crop_scale == 1.0  # exactly: the default pack's frames depend on it
    for eyes, mouth in ((60, 50), (60, 90), (20, 70)):
        points = landmarks_with(eyes, mouth)
        ratio = FFHQ.crop(points).side_px / TIGHT.crop(points).side_px
        assert FFHQ.crop_scale == pytest.approx(ratio)


def test_crop_moves_with_the_face() -> None:
    points = np.random.default_rng(0).normal(size=(68, 2)) * 20 + landmarks_with(60, 60)
    turn, shift = 1.3 * np.exp(0.4j), 30 - 7j
    moved = (points @ [1, 1j]) * turn + shift
    before = TIGHT.crop(points).as_array() @ np.array([[1, 0], [1j, 0], [0, 1], [0, 1j]])
    after = TIGHT.crop(np.stack([moved.real, moved.imag], 1))
    assert after.center_x + 1j * after.center_y == pytest.approx(before[0] * turn + shift)
    assert after.axis_x + 1j * after.axis_y == pytest.approx(before[1] * turn)


def test_collapsed_landmarks_give_a_finite_crop() -> None:
    assert np.isfinite(TIGHT.crop(np.zeros((68, 2))).as_array()).all()


def test_alignment_by_name() -> None:
    assert named_alignment("tight") is TIGHT


def test_alignment_by_unknown_name_fails() -> None:
    with pytest.raises(UnknownNameError, match=r"alignment 'ffqh'; there are: ffhq, .*tight"):
        named_alignment("ffqh")
