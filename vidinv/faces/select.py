"""Which faces to edit: ``largest``, ``all``, persons by number, or a reference picture."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vidinv.errors import UsageError
from vidinv.faces.protocols import Backend, Embedder, Embedding
from vidinv.faces.search import find_faces
from vidinv.types import Analysis, FaceTrack, Image

Tracks = tuple[FaceTrack, ...]

# RMS change of the landmarks' shape, in units of their own spread: pictures of faces that are
# filmed have 0.0025 to 0.008, people over three seconds and more 0.02 to 0.12. docs/LOG.md.
STILL_SHAPE, LIVING_SHAPE = 0.01, 0.02
STILL_FRAMES = 75  # a person may hold still for two seconds
_TINY = 1e-12


def select_tracks(
    analysis: Analysis,
    face: str,
    *,
    backend: Backend,
    load_image: Callable[[Path], Image],
    is_whole: bool = True,
) -> Tracks:
    """The tracks to edit, by id; none where the clip has no face.

    Args:
        analysis: of the clip.
        face: ``"largest"`` takes in every shot the one person who fills most of it, a face on a
            poster only where nobody lives;
            ``"all"`` takes everyone; a number takes that person (``FaceTrack.person``), several
            take each (``0,3``); a path takes the person in the picture.
        backend: its networks read the reference.
        load_image: reads the reference as RGB.
        is_whole: all of the clip was looked at; else whoever was not seen may be somewhere else in
            it, and has no tracks.

    Raises:
        UsageError: a reference without a face; in a whole analysis, a number out of range or a
            reference with someone who is not in the clip.
    """
    if not analysis.tracks:
        return ()
    if face == "all":
        chosen: Sequence[FaceTrack] = analysis.tracks
    elif face == "largest":
        chosen = _largest(analysis)
    elif numbers := face_numbers(face):
        chosen = [track for number in numbers for track in numbered(analysis, number, is_whole)]
    else:
        wanted = embed_reference(Path(face), backend=backend, load_image=load_image)
        chosen = _like(analysis, wanted, Path(face), backend.embedder, is_whole)
    return tuple(sorted(chosen, key=lambda track: track.id))


def face_numbers(face: str) -> list[int]:
    """``"0, 3"`` is ``[0, 3]``; empty for what is no list of numbers."""
    is_list = re.fullmatch(r"[0-9]{1,9}(, *[0-9]{1,9})*", face) is not None
    return sorted({int(number) for number in face.split(",")}) if is_list else []


def check_face(face: str) -> None:
    """Whether ``face`` is one of the ways to say whom to edit; pictures are not opened.

    Raises:
        UsageError: it is not.
    """
    if face not in ("largest", "all") and not face_numbers(face) and not os.path.isfile(face):
        raise UsageError(no_face_choice(face))


def no_face_choice(given: object) -> str:
    """What to say of something that names nobody."""
    return f"face {given!r} is not largest, all, numbers of faces as 0 or 0,3, or a picture"


def embed_reference(
    path: Path, *, backend: Backend, load_image: Callable[[Path], Image]
) -> Embedding:
    """``[D]`` embedding of the largest face of a picture; UsageError if it shows none."""
    image = load_image(path)
    faces = find_faces(image, backend)
    if not faces:
        raise UsageError(
            f"no face found in reference {path}: use a picture that shows the face from the front"
        )
    return backend.embedder.embed(image, faces[0].landmarks)


def _largest(analysis: Analysis) -> Sequence[FaceTrack]:
    seen: dict[int, dict[int, list[FaceTrack]]] = {}  # by shot and person
    for track in analysis.tracks:
        seen.setdefault(track.shot, {}).setdefault(track.person, []).append(track)
    shots = (_without_posters([*persons.values()]) for persons in seen.values())
    return [track for persons in shots for track in max(persons, key=_area_shown)]


def _without_posters(persons: Sequence[list[FaceTrack]]) -> Sequence[list[FaceTrack]]:
    """Who is in a shot, without the faces that never move while somebody else's does."""
    changes = [max(shape_change(track.landmarks_T682) for track in person) for person in persons]
    if len(persons) < 2 or max(changes) < LIVING_SHAPE:
        return persons
    frames = [sum(track.num_frames for track in person) for person in persons]
    rows = zip(persons, changes, frames, strict=True)
    return [p for p, change, n in rows if change >= STILL_SHAPE or n < STILL_FRAMES]


def shape_change(landmarks_T682: npt.NDArray[np.floating]) -> float:
    """RMS distance of landmarks from their mean shape, place, size and roll taken out.

    In units of the landmarks' spread around their centre; 0 for a single frame.
    """
    shapes = landmarks_T682[..., 0] + 1j * landmarks_T682[..., 1].astype(np.float64)
    shapes = shapes - shapes.mean(axis=1, keepdims=True)
    spread = np.sqrt(np.square(np.abs(shapes)).mean(axis=1, keepdims=True))
    shapes /= np.maximum(spread, _TINY)
    mean = shapes[0]
    for _ in range(2):  # the mean of shapes that are turned to the mean before
        turn = (shapes * mean.conj()).sum(axis=1, keepdims=True)
        shapes = shapes * (turn.conj() / np.maximum(np.abs(turn), _TINY))
        mean = shapes.mean(axis=0)
    return float(np.sqrt(np.square(np.abs(shapes - mean)).mean()))


def _area_shown(person: Iterable[FaceTrack]) -> float:
    """Area of a person's crops summed over frames: large, and there most of the time."""
    return sum(float(np.sum(4 * track.crops_T4[:, 2:] ** 2)) for track in person)


def numbered(analysis: Analysis, number: int, is_whole: bool = True) -> Tracks:
    """All tracks of a person; none where the clip has no face.

    Args:
        is_whole: as for ``select_tracks``.

    Raises:
        UsageError: the clip has faces, but none of this number.
    """
    if not analysis.tracks:
        return ()
    count = max(track.person for track in analysis.tracks) + 1
    if is_whole and not 0 <= number < count:
        there = "only face 0" if count == 1 else f"faces 0 to {count - 1} (see 'vidinv faces')"
        raise UsageError(f"no face {number} in the clip: it has {there}")
    return tuple(track for track in analysis.tracks if track.person == number)


def _like(
    analysis: Analysis, wanted: Embedding, path: Path, embedder: Embedder, is_whole: bool
) -> Sequence[FaceTrack]:
    """Tracks near enough to the reference; where two are in the picture, the nearer."""
    distances = {
        track.id: embedder.distance(track.embedding, wanted)
        for track in analysis.tracks
        if track.embedding is not None
    }
    limit = embedder.same_person_distance
    nearest = min(distances.values(), default=float("inf"))
    if nearest > limit and is_whole:
        raise UsageError(
            f"the person in {path} is not in the clip: nearest face at distance {nearest:.2f}, "
            f"same person up to {limit:.2f}; choose by number or use another picture"
        )
    chosen: list[FaceTrack] = []
    for track in sorted(analysis.tracks, key=lambda t: distances.get(t.id, float("inf"))):
        apart = all(track.last < other.first or other.last < track.first for other in chosen)
        if distances.get(track.id, float("inf")) <= limit and apart:
            chosen.append(track)
    return chosen
