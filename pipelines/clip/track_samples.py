"""A sample of each track's frames, for methods that are fitted to a track."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from vidinv.rendering import Float32, aligned_faces
from vidinv.types import FaceTrack, Frame


def sample_tracks(
    frames: Iterable[Frame], tracks: Sequence[FaceTrack], *, count: int, resolution: int
) -> dict[int, Float32]:
    """``[n, R, R, 3]`` 0..255 faces of each track, by id, of at most ``count`` frames.

    The frames are evenly spread over the track.

    Args:
        frames: all of the clip's, in order; reading ends with the last one that is wanted.
    """
    wanted: dict[int, list[FaceTrack]] = {}
    for track in tracks:
        for index in sampled_frames(track, count):
            wanted.setdefault(index, []).append(track)
    faces: dict[int, list[Float32]] = {track.id: [] for track in tracks}
    last = max(wanted, default=-1)
    for frame in frames:
        for track in wanted.get(frame.index, ()):
            faces[track.id].append(aligned_faces(track, [frame], resolution)[0])
        if frame.index >= last:
            break
    return {number: np.stack(pictures) for number, pictures in faces.items()}


def sampled_frames(track: FaceTrack, count: int) -> list[int]:
    """Indices of the frames of a track that are sampled: at most ``count``, ends included."""
    chosen = np.linspace(track.first, track.last, min(count, track.num_frames)).round()
    return [int(index) for index in chosen]
