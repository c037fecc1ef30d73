"""Whose face it is: which tracks of a clip show one person, who has left and returned or is seen in
several shots.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from vidinv.faces.protocols import Embedder
from vidinv.types import FaceTrack


def number_persons(tracks: Sequence[FaceTrack], *, embedder: Embedder) -> tuple[FaceTrack, ...]:
    """The same tracks, each with the number of its person (``FaceTrack.person``)."""
    persons = group_persons(tracks, embedder=embedder)
    numbers = {track.id: number for number, person in enumerate(persons) for track in person}
    return tuple(replace(track, person=numbers[track.id]) for track in tracks)


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
        distance, number = min(near, default=(float("inf"), -1))
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
