"""Soft masks stay inside the mask they soften."""

from __future__ import annotations

import numpy as np
import pytest

from tests.compose.faces import face_mask
from vidinv.compose import fade_inwards


@pytest.mark.parametrize("size_px", [64, 128])
def test_a_faded_mask_is_inside_full_in_the_middle_and_gradual(size_px):
    mask = face_mask(size_px)
    soft = fade_inwards(mask, face_px=size_px)
    assert not soft[mask == 0].any()
    assert soft[size_px // 2, size_px // 2] > 0.999
    assert np.abs(np.diff(soft, axis=0)).max() < 0.5


def test_a_mask_that_touches_the_crop_fades():
    soft = fade_inwards(np.ones((128, 128)), face_px=128)
    assert not soft[0].any()
    assert not soft[:, -1].any()
    assert soft[64, 64] > 0.999


def test_a_faded_mask_never_exceeds_a_soft_one():
    mask = np.linspace(0, 1, 128)[None].repeat(128, 0)
    assert (fade_inwards(mask, face_px=128) <= mask.astype(np.float32)).all()


def test_nothing_fades_to_nothing():
    assert not fade_inwards(np.zeros((64, 64)), face_px=64).any()
