"""Whose face it is: which tracks of a clip show one person, who has left and returned or is seen in
several shots.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from vidinv.faces.protocols import Embedder
from vidinv.types import FaceTrack

# Shares of the embedder's same_person_distance. The clips have many people, and who is joined by
# mistake cannot be told apart any more, so across cuts surer than for one pair: of pairs of 500
# strangers 0.02 % are as near (at the whole distance 3.6 %), of tracks of one person 94 % (98 %);
# within a shot, where who returns is likelier than a double, 0.4 % and 97 %. docs/LOG.md.
_NEAR_ACROSS_CUTS = 2 / 3
_NEAR_IN_SHOT = 5 / 6
_EQUALLY_NEAR = 1 / 12


def number_persons(tracks: Sequence[FaceTrack], *, embedder: Embedder) -> tuple[FaceTrack, ...]:
    """The same tracks, each with the number of its person (``FaceTrack.person``)."""
    persons = group_persons(tracks, embedder=embedder)
    numbers = {track.id: number for number, person in enumerate(persons) for track in person}
    return tuple(replace(track, person=numbers[track.id]) for track in tracks)


def group_persons(
    tracks: Sequence[FaceTrack], *, embedder: Embedder
) -> tuple[tuple[FaceTrack, ...], ...]:
    """The tracks of each person, persons and tracks in order of first appearance.

    Each track joins the nearest person known before it who is not in the picture at the same time,
    if that one is near enough and no other is about as near.
    """
    persons: list[list[FaceTrack]] = []
    for track in sorted(tracks, key=lambda track: (track.first, track.id)):
        apart = [p for p in persons if not any(_meet(track, known) for known in p)]
        person = _person_of(track, apart, embedder)
        if person is None:
            persons.append([track])
        else:
            person.append(track)
    return tuple(tuple(person) for person in persons)


def _person_of(
    track: FaceTrack, persons: Sequence[list[FaceTrack]], embedder: Embedder
) -> list[FaceTrack] | None:
    if track.embedding is None:
        return None
    unit, candidates = embedder.same_person_distance, []
    for person in persons:
        near = [
            (distance, distance <= unit * (_NEAR_IN_SHOT if in_shot else _NEAR_ACROSS_CUTS))
            for known in person
            if known.embedding is not None
            for distance in [embedder.distance(track.embedding, known.embedding)]
            for in_shot in [known.shot == track.shot]
        ]
        if near:
            least, _ = min(near)
            candidates.append((least, any(is_near for _, is_near in near), person))
    candidates.sort(key=lambda candidate: candidate[0])
    match candidates:
        case [(_, True, person)]:
            return person
        case [(nearest, True, person), (second, _, _), *_]:
            return person if second - nearest >= _EQUALLY_NEAR * unit else None
    return None


def _meet(a: FaceTrack, b: FaceTrack) -> bool:
    return a.first <= b.last and b.first <= a.last
