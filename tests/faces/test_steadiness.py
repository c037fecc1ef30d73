"""Crops of a head that stands still, or moves as a whole, do not tremble."""

from __future__ import annotations

from fractions import Fraction

import cv2
import numpy as np
import pytest

from pipelines.demo import make_clip
from tests.video.clips import images_of
from vidinv.faces import analyse, dlib_backend, named_alignment
from vidinv.packs import load_pack
from vidinv.types import Frame

FRAMES = 75
SIZE = 512
NOISE_LEVELS = 3.0  # of a small camera's sensor, in 8-bit levels
MOST_PX = 0.15


@pytest.fixture(scope="module")
def face(tmp_path_factory) -> np.ndarray:
    path = make_clip(load_pack(), tmp_path_factory.mktemp("clips") / "a.mkv", seconds=0.08)
    return cv2.resize(images_of(path)[0], (SIZE, SIZE), interpolation=cv2.INTER_CUBIC)


@pytest.mark.parametrize("path", ["still", "drift", "sway"])
def test_the_crop_follows_a_head_to_a_seventh_of_a_pixel(face, path):
    """The truth is known: one picture, moved by parts of a pixel, with noise of its own each time.

    RMS of the centre of the crop against it, over the clip, in pixels of 512.
    """
    t = np.arange(FRAMES)
    truth = {
        "still": np.zeros((FRAMES, 2)),
        "drift": np.stack([0.13 * t, -0.07 * t], axis=1),
        "sway": np.stack([8 * np.sin(t / 8), 3 * np.cos(t / 12)], axis=1),
    }[path]
    rng = np.random.default_rng(0)

    def frames():
        for index, (right, down) in enumerate(truth):
            moved = cv2.warpAffine(
                face.astype(np.float32),
                np.array([[1, 0, right], [0, 1, down]], np.float32),
                (SIZE, SIZE),
                flags=cv2.INTER_LANCZOS4,
                borderMode=cv2.BORDER_REFLECT,
            )
            noisy = moved + rng.normal(0, NOISE_LEVELS, moved.shape)
            image = np.clip(noisy, 0, 255).round().astype(np.uint8)
            yield Frame(index=index, pts=index, time_base=Fraction(1, 25), image=image)

    found = analyse(
        frames(),
        new_shot=lambda image: None,
        alignment=named_alignment("tight"),
        pixel_aspect=1.0,
        backend=dlib_backend(),
    )
    (track,) = found.tracks
    assert track.num_frames == FRAMES
    off = track.crops_T4[:, :2] - truth
    off -= off.mean(axis=0)
    assert np.sqrt(np.square(off).mean()) < MOST_PX
