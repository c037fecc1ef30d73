"""Samples of persons' frames: evenly spread, and of the clip as it was analysed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipelines.clip.track_samples import sample_persons, sampled_frames
from tests.test_rendering import frames, track
from vidinv.errors import DecodeError


@pytest.mark.parametrize(
    ("first", "last", "count", "expected"),
    [(0, 9, 4, [0, 3, 6, 9]), (5, 6, 4, [5, 6]), (3, 3, 2, [3]), (2, 12, 1, [2])],
)
def test_frames_are_evenly_spread(first, last, count, expected):
    assert [index for _, index in sampled_frames([track(first, last)], count)] == expected


def test_somebody_who_returns_is_sampled_over_all_that_is_seen_of_them():
    early, late = track(2, 5), replace(track(20, 25), id=1)
    shown = sampled_frames([late, early], 4)
    assert [(one.id, index) for one, index in shown] == [(0, 2), (0, 5), (1, 22), (1, 25)]
    faces = sample_persons(frames(30), [early, late], count=4, resolution=32)
    assert {number: len(pictures) for number, pictures in faces.items()} == {0: 4}


def test_squares_of_the_frame_are_nobody_and_not_the_same_in_every_shot():
    nowhere = np.full((4, 68, 2), np.nan, np.float32)
    tracks = [replace(track(4 * n, 4 * n + 3, id=n), landmarks_T682=nowhere) for n in range(2)]
    faces = sample_persons(frames(8), tracks, count=2, resolution=32)
    assert sorted(faces) == [0, 1]


def test_each_person_has_their_own_faces_and_reading_ends_with_the_last():
    read = []

    def clip():
        for frame in frames(30):
            read.append(frame.index)
            yield frame

    both = [track(0, 9), replace(track(4, 20), person=1)]
    faces = sample_persons(clip(), both, count=3, resolution=32)
    assert {number: pictures.shape for number, pictures in faces.items()} == {
        0: (3, 32, 32, 3),
        1: (3, 32, 32, 3),
    }
    assert read[-1] == 20
    assert not np.array_equal(faces[0][0], faces[0][1])


@pytest.mark.parametrize("count", [0, 1, 9])
def test_a_clip_that_has_become_shorter_is_told(count):
    with pytest.raises(DecodeError, match=r"ends before frame 9.*changed since"):
        sample_persons(frames(count), [track(0, 9)], count=4, resolution=32)
