"""Smoothing: less jitter, no lag, steps stay steps, gaps are filled, the mouth does not pump."""

from __future__ import annotations

import numpy as np
import pytest

from vidinv.faces import TIGHT, Smoothing
from vidinv.faces.smooth import gaussian, smooth_crops, smooth_landmarks

RNG = np.random.default_rng(0)
FACE = np.zeros((68, 2))
FACE[:, 0], FACE[:, 1] = RNG.uniform(-60, 60, 68), RNG.uniform(-60, 60, 68)
FACE[36:42], FACE[42:48] = [-35, -20], [35, -20]
FACE[36], FACE[39], FACE[42], FACE[45] = [-45, -20], [-25, -20], [25, -20], [45, -20]
FACE[48], FACE[54] = [-25, 45], [25, 45]


def steady(true: np.ndarray, *, jitter: float = 1.0, missed: slice = slice(0)) -> np.ndarray:
    """Smooth noisy measurements of moving landmarks, given their true flow with a slow drift."""
    measured = true + RNG.normal(size=true.shape) * jitter
    flow = np.diff(true, axis=0, prepend=true[:1]) + 0.02
    valid = np.ones(len(true), bool)
    valid[missed] = False
    measured[missed] += 500
    return smooth_landmarks(measured, flow, valid, side_px=200, smoothing=Smoothing())


def moving(path_px: np.ndarray) -> np.ndarray:
    return FACE + np.stack([path_px, 0.3 * path_px], 1)[:, None]


def error(found: np.ndarray, true: np.ndarray) -> float:
    return float(np.sqrt(((found - true) ** 2).mean()))


def test_jitter_of_a_still_face_falls() -> None:
    true = moving(np.zeros(60))
    assert error(steady(true), true) < 0.45


def test_fast_moves_are_not_smeared() -> None:
    true = moving(60 * np.sin(np.arange(60) / 3))  # up to 20 px a frame
    assert error(steady(true), true) < 0.45
    assert error(gaussian(true, 4.0), true) > 10  # what plain averaging would do


def test_a_step_that_flow_missed_stays_a_step() -> None:
    true = moving(np.where(np.arange(60) < 30, 0.0, 40.0))
    found = smooth_landmarks(
        true, np.zeros_like(true), np.ones(60, bool), side_px=200, smoothing=Smoothing()
    )
    assert np.abs(found - true).max() < 0.5


def test_missed_frames_are_filled_from_both_sides() -> None:
    true = moving(30 * np.sin(np.arange(60) / 5))
    assert error(steady(true, missed=slice(20, 28)), true) < 0.6


def test_one_frame_passes_through() -> None:
    np.testing.assert_allclose(steady(FACE[None], jitter=0), FACE[None], atol=1e-5)
    crops = smooth_crops(FACE[None], TIGHT, Smoothing())
    np.testing.assert_allclose(crops, TIGHT.crops(FACE[None]), atol=1e-9)


def test_mouth_opening_does_not_pump_the_crop() -> None:
    landmarks = np.repeat(FACE[None], 60, axis=0)
    landmarks[::10, 48:68, 1] += 25  # a quick syllable every 10 frames
    raw = TIGHT.crops(landmarks)[:, 2]
    smooth = smooth_crops(landmarks, TIGHT, Smoothing())[:, 2]
    assert np.ptp(raw) > 15
    assert np.ptp(smooth[10:-10]) < 0.1 * np.ptp(raw)


def test_crop_moves_exactly_with_the_head() -> None:
    path = 80 * np.sin(np.arange(60) / 4)
    crops = smooth_crops(moving(path), TIGHT, Smoothing())
    still = TIGHT.crop(FACE).as_array()
    np.testing.assert_allclose(crops[:, 0] - path, still[0], atol=1e-6)
    np.testing.assert_allclose(crops[:, 2:], np.tile(still[2:], (60, 1)), atol=1e-6)


def test_crop_turns_with_the_head() -> None:
    turn = np.exp(0.5j * np.sin(np.arange(60) / 6))
    points = (FACE @ [1, 1j]) * turn[:, None]
    crops = smooth_crops(np.stack([points.real, points.imag], -1), TIGHT, Smoothing())
    angle = np.arctan2(crops[:, 3], crops[:, 2])
    np.testing.assert_allclose(angle, np.angle(turn), atol=1e-6)


@pytest.mark.parametrize("length", [1, 2, 5])
def test_gaussian_of_a_constant_is_the_constant(length: int) -> None:
    np.testing.assert_allclose(gaussian(np.full((length, 3), 7.0), 4.0), 7.0)
