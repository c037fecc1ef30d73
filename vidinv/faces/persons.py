"""Whose face it is: comparing embeddings, and which tracks of a clip are one person."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vidinv.faces.protocols import Embedder, Embedding
from vidinv.types import FaceTrack


def centered_cosine(a: Embedding, b: Embedding, *, mean: Embedding) -> float:
    """Cosine similarity, -1..1, of ``[D]`` embeddings after subtracting the mean face.

    Raw cosines of dlib's net say nothing (strangers: median 0.84); ``mean`` is the mean embedding
    of the training faces, which a pack carries.
    """
    from_mean = np.stack([a, b]).astype(np.float64) - mean
    lengths = float(np.prod(np.linalg.norm(from_mean, axis=1)))
    return float(from_mean[0] @ from_mean[1]) / lengths if lengths > 0 else 0.0


def same_person(a: FaceTrack, b: FaceTrack, *, embedder: Embedder) -> bool:
    """Whether two tracks follow the same person; never when a frame shows both."""
    if a.embedding is None or b.embedding is None or _meet(a, b):
        return False
    return embedder.distance(a.embedding, b.embedding) <= embedder.same_person_distance


def group_persons(
    tracks: Sequence[FaceTrack], *, embedder: Embedder
) -> tuple[tuple[FaceTrack, ...], ...]:
    """The tracks of each person, persons and tracks in order of first appearance.

    Each track joins the nearest person known before it, if one is near enough and not in the
    picture at the same time.
    """
    persons: list[list[FaceTrack]] = []
    for track in sorted(tracks, key=lambda track: (track.first, track.id)):
        near = [
            (_nearest(track, person, embedder), number)
            for number, person in enumerate(persons)
            if not any(_meet(track, known) for known in person)
        ]
        distance, number = min(near, default=(np.inf, -1))
        if distance <= embedder.same_person_distance:
            persons[number].append(track)
        else:
            persons.append([track])
    return tuple(tuple(person) for person in persons)


def _nearest(track: FaceTrack, person: Sequence[FaceTrack], embedder: Embedder) -> float:
    """Distance of a track to the nearest track of a person; infinite without embeddings."""
    return min(
        (
            embedder.distance(track.embedding, known.embedding)
            for known in person
            if track.embedding is not None and known.embedding is not None
        ),
        default=float("inf"),
    )


def _meet(a: FaceTrack, b: FaceTrack) -> bool:
    return a.first <= b.last and b.first <= a.last
