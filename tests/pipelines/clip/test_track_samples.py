"""Samples of the tracks' frames: evenly spread, and of the clip as it was analysed."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.clip.track_samples import sample_tracks, sampled_frames
from tests.test_rendering import frames, track
from vidinv.errors import DecodeError


@pytest.mark.parametrize(
    ("first", "last", "count", "expected"),
    [(0, 9, 4, [0, 3, 6, 9]), (5, 6, 4, [5, 6]), (3, 3, 2, [3]), (2, 12, 1, [2])],
)
def test_frames_are_evenly_spread(first, last, count, expected):
    assert sampled_frames(track(first, last), count) == expected


def test_each_track_has_its_own_faces_and_reading_ends_with_the_last():
    read = []

    def clip():
        for frame in frames(30):
            read.append(frame.index)
            yield frame

    faces = sample_tracks(clip(), [track(0, 9), track(4, 20, id=1)], count=3, resolution=32)
    assert {number: pictures.shape for number, pictures in faces.items()} == {
        0: (3, 32, 32, 3),
        1: (3, 32, 32, 3),
    }
    assert read[-1] == 20
    assert not np.array_equal(faces[0][0], faces[0][1])


@pytest.mark.parametrize("count", [0, 1, 9])
def test_a_clip_that_has_become_shorter_is_told(count):
    with pytest.raises(DecodeError, match=r"ends before frame 9.*changed since"):
        sample_tracks(frames(count), [track(0, 9)], count=4, resolution=32)
