"""Flicker: motion does not count, flashing does."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from vidinv.metrics import flicker


def moving(num_frames=5, step_px=2):
    noise = np.random.default_rng(0).normal(0, 1, (96, 140, 3)).astype(np.float32)
    texture = np.clip(128 + 300 * cv2.GaussianBlur(noise, (0, 0), 3), 0, 255).astype(np.uint8)
    return [texture[:, t * step_px : t * step_px + 96].copy() for t in range(num_frames)]


def centre_masks(frames):
    mask = np.zeros(frames[0].shape[:2])
    mask[20:-20, 20:-20] = 1
    return [mask] * len(frames)


def test_motion_alone_is_not_flicker():
    frames = moving()
    plain = np.abs(np.diff(np.stack(frames).astype(int), axis=0)).mean()
    assert flicker(frames, source=frames, masks=centre_masks(frames)) < 0.2 * plain


def test_flashing_is_flicker():
    frames = moving()
    flashing = [np.clip(f.astype(int) + 8 * (t % 2), 0, 255).astype(np.uint8)
                for t, f in enumerate(frames)]  # fmt: skip
    steady = flicker(frames, source=frames, masks=centre_masks(frames))
    assert flicker(flashing, source=frames, masks=centre_masks(frames)) > steady + 5


def test_flicker_outside_the_mask_does_not_count():
    frames = moving()
    noisy = [f.copy() for f in frames]
    for t, frame in enumerate(noisy):
        frame[:10] = 255 * (t % 2)
    masks = centre_masks(frames)
    assert flicker(noisy, source=frames, masks=masks) == flicker(frames, source=frames, masks=masks)


def test_flicker_of_one_frame_fails():
    frames = moving(1)
    with pytest.raises(ValueError, match="two"):
        flicker(frames, source=frames, masks=centre_masks(frames))


def test_flicker_with_empty_masks_fails():
    frames = moving(3)
    with pytest.raises(ValueError, match="empty"):
        flicker(frames, source=frames, masks=[np.zeros((96, 96))] * 3)


def test_flicker_of_sequences_of_different_length_fails():
    frames = moving(3)
    with pytest.raises(ValueError, match="zip"):
        flicker(frames, source=frames[:2], masks=centre_masks(frames))
