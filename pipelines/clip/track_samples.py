"""A sample of each person's frames, for methods that are fitted to what they edit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from vidinv.errors import DecodeError
from vidinv.rendering import Float32, aligned_faces
from vidinv.types import FaceTrack, Frame


def sample_persons(
    frames: Iterable[Frame], tracks: Sequence[FaceTrack], *, count: int, resolution: int
) -> dict[int, Float32]:
    """``[n, R, R, 3]`` 0..255 faces of each person, by ``subject_of``, of at most ``count`` frames.

    The frames are evenly spread over all tracks of the person.

    Args:
        frames: all of the clip's, in order; reading ends with the last one that is wanted.

    Raises:
        DecodeError: the file has fewer frames than at its analysis.
    """
    wanted: dict[int, list[FaceTrack]] = {}
    faces: dict[int, list[Float32]] = {subject_of(track): [] for track in tracks}
    for subject in faces:
        own = [track for track in tracks if subject_of(track) == subject]
        for track, index in sampled_frames(own, count):
            wanted.setdefault(index, []).append(track)
    last, index = max(wanted, default=-1), -1
    for frame in frames:
        index = frame.index
        for track in wanted.get(index, ()):
            faces[subject_of(track)].append(aligned_faces(track, [frame], resolution)[0])
        if index >= last:
            break
    if index < last:
        raise DecodeError(
            f"the clip ends before frame {last}, which it had at its analysis; "
            "the file was changed since"
        )
    return {number: np.stack(pictures) for number, pictures in faces.items()}


def subject_of(track: FaceTrack) -> int:
    """Number of whom a track shows; of a square of the frame, which is nobody, its own."""
    return track.person if track.is_face else track.id


def sampled_frames(tracks: Sequence[FaceTrack], count: int) -> list[tuple[FaceTrack, int]]:
    """Sampled frames of one person's tracks: at most ``count``, ends included."""
    shown = [
        (track, index)
        for track in sorted(tracks, key=lambda track: track.first)
        for index in range(track.first, track.last + 1)
    ]
    chosen = np.linspace(0, len(shown) - 1, min(count, len(shown))).round()
    return [shown[int(row)] for row in chosen]
