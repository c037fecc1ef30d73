"""A sample of each track's frames, for methods that are fitted to a track."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from vidinv.errors import DecodeError
from vidinv.rendering import Float32, aligned_faces
from vidinv.types import FaceTrack, Frame


def sample_tracks(
    frames: Iterable[Frame], tracks: Sequence[FaceTrack], *, count: int, resolution: int
) -> dict[int, Float32]:
    """``[n, R, R, 3]`` 0..255 faces of each track, by id, of at most ``count`` frames.

    The frames are evenly spread over the track.

    Args:
        frames: all of the clip's, in order; reading ends with the last one that is wanted.

    Raises:
        DecodeError: the file has fewer frames than at its analysis.
    """
    wanted: dict[int, list[FaceTrack]] = {}
    for track in tracks:
        for index in sampled_frames(track, count):
            wanted.setdefault(index, []).append(track)
    faces: dict[int, list[Float32]] = {track.id: [] for track in tracks}
    last, index = max(wanted, default=-1), -1
    for frame in frames:
        index = frame.index
        for track in wanted.get(index, ()):
            faces[track.id].append(aligned_faces(track, [frame], resolution)[0])
        if index >= last:
            break
    if index < last:
        raise DecodeError(
            f"the clip ends before frame {last}, which it had at its analysis; "
            "the file was changed since"
        )
    return {number: np.stack(pictures) for number, pictures in faces.items()}


def sampled_frames(track: FaceTrack, count: int) -> list[int]:
    """Indices of the frames of a track that are sampled: at most ``count``, ends included."""
    chosen = np.linspace(track.first, track.last, min(count, track.num_frames)).round()
    return [int(index) for index in chosen]
