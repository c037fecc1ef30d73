"""Whom to edit, with made-up tracks and a fake embedder; good and bad requests in pairs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vidinv.errors import UsageError
from vidinv.faces import (
    Backend,
    Detection,
    check_face,
    group_persons,
    select_tracks,
)
from vidinv.faces.persons import number_persons
from vidinv.faces.select import shape_change
from vidinv.types import Analysis, FaceTrack

ANN, BOB, EVE = np.eye(3, dtype=np.float32)
PICTURE = np.zeros((100, 100, 3), np.uint8)


class FakeNetworks:
    """Finds ``faces`` faces in any picture, and says they are all ``person``."""

    name, same_person_distance, min_face_px = "fake", 0.6, 80.0

    def __init__(self, person: np.ndarray = ANN, *, faces: int = 1) -> None:
        self.person, self.faces = person, faces

    def detect(self, image: Any, *, threshold: float = 0.0) -> list[Detection]:
        return [Detection((10, 10, 60, 60), 1.0)] * self.faces

    def predict(self, image: Any, box: Any) -> np.ndarray:
        return np.random.default_rng(0).uniform(box[0], box[2], (68, 2)).astype(np.float32)

    def embed(self, image: Any, landmarks: Any) -> np.ndarray:
        return self.person

    def embed_all(self, faces: Any) -> np.ndarray:
        return np.stack([self.embed(*face) for face in faces])

    def distance(self, a: np.ndarray, b: np.ndarray) -> float:
        return float(np.linalg.norm(a - b))


def track(
    number: int,
    person: np.ndarray | None,
    first: int,
    last: int,
    *,
    side: float = 100,
    shot: int = 0,
) -> FaceTrack:
    length = last - first + 1
    return FaceTrack(
        id=number,
        shot=shot,
        first=first,
        landmarks_T682=np.zeros((length, 68, 2), np.float32),
        crops_T4=np.tile([50.0, 50.0, side / 2, 0.0], (length, 1)),
        measured_T=np.ones(length, bool),
        embedding=person,
    )


CLIP = Analysis(
    num_frames=100,
    shots=((0, 49), (50, 99)),
    tracks=number_persons(
        (
            track(0, ANN, 0, 20, side=100),
            track(1, BOB, 0, 49, side=90),
            track(2, ANN, 30, 49, side=100),
            track(3, BOB, 50, 99, side=60, shot=1),
            track(4, EVE, 50, 60, side=80, shot=1),
        ),
        embedder=FakeNetworks(),
    ),
)


def selected(
    face: str,
    networks: FakeNetworks | None = None,
    clip: Analysis = CLIP,
    *,
    is_whole: bool = True,
) -> list[int]:
    networks = networks or FakeNetworks()
    backend = Backend(networks, networks, networks)
    chosen = select_tracks(
        clip, face, backend=backend, load_image=lambda _: PICTURE, is_whole=is_whole
    )
    return [track.id for track in chosen]


def test_all() -> None:
    assert selected("all") == [0, 1, 2, 3, 4]


def with_shapes(one: FaceTrack, *, change: float, drift: float = 0.0) -> FaceTrack:
    """The track with landmarks that change by so much, and that move, turn and grow as a whole."""
    rng, rows = np.random.default_rng(one.id), np.arange(one.num_frames)
    face = rng.normal(0, 20, 68) + 1j * rng.normal(0, 20, 68)
    spread = np.sqrt(np.square(np.abs(face - face.mean())).mean())
    noise = rng.normal(0, 1, (len(rows), 68)) + 1j * rng.normal(0, 1, (len(rows), 68))
    shapes = face + change * spread * noise / np.sqrt(2)
    whole = np.exp((0.1 + 0.3j) * drift * np.sin(rows / 9))[:, None]
    moved = 50 + 50j + shapes * whole + drift * rows[:, None]
    landmarks = np.stack([moved.real, moved.imag], axis=2).astype(np.float32)
    return replace(one, landmarks_T682=landmarks)


@pytest.mark.parametrize("drift", [0.0, 1.0])
def test_the_change_of_a_face_is_that_of_its_shape_alone(drift: float) -> None:
    one = with_shapes(track(0, ANN, 0, 99), change=0.05, drift=drift)
    assert shape_change(one.landmarks_T682) == pytest.approx(0.05, rel=0.05)


@pytest.mark.parametrize(
    ("frames", "large", "small", "expected"),
    [
        (90, 0.005, 0.05, 1),  # a poster behind a person
        (90, 0.05, 0.05, 0),  # two people
        (90, 0.005, 0.005, 0),  # two posters
        (50, 0.005, 0.05, 0),  # two seconds: someone may hold still
    ],
)
def test_a_face_on_a_poster_comes_after_people(
    frames: int, large: float, small: float, expected: int
) -> None:
    tracks = (
        with_shapes(track(0, ANN, 0, frames - 1, side=200), change=large, drift=1.0),
        with_shapes(track(1, BOB, 0, frames - 1, side=90), change=small),
    )
    clip = Analysis(frames, ((0, frames - 1),), number_persons(tracks, embedder=FakeNetworks()))
    assert selected("largest", clip=clip) == [expected]
    assert selected("all", clip=clip) == [0, 1]


def test_largest_is_one_person_a_shot() -> None:
    # Ann (0 and 2, 41 frames at 100 px) over Bob (50 at 90); Bob over Eve, who is there briefly.
    assert selected("largest") == [0, 2, 3]


@pytest.mark.parametrize(
    ("face", "ids"), [("0", [0, 2]), ("1", [1, 3]), ("2", [4]), ("2,0", [0, 2, 4])]
)
def test_number_takes_all_of_that_person(face: str, ids: list[int]) -> None:
    assert selected(face) == ids


@pytest.mark.parametrize(("face", "number"), [("3", 3), ("0, 3", 3)])
def test_number_out_of_range_fails(face: str, number: int) -> None:
    with pytest.raises(UsageError, match=f"no face {number} in the clip: it has faces 0 to 2"):
        selected(face)


@pytest.mark.parametrize("face", ["3", "stranger.jpg"])
def test_who_was_not_seen_in_a_part_may_be_elsewhere(face: str) -> None:
    assert selected(face, FakeNetworks(np.full(3, 2, np.float32)), is_whole=False) == []


@pytest.mark.parametrize("face", ["+1", "-1", "0,", ",", "0 1", "", "nobody.jpg", "1,,2"])
def test_what_names_nobody_is_refused(face: str) -> None:
    with pytest.raises(UsageError, match="is not largest, all, numbers of faces as 0 or 0,3, or"):
        check_face(face)


def test_ways_to_choose(tmp_path: Path) -> None:
    (tmp_path / "ann.jpg").touch()
    for face in ("largest", "all", "0", "0, 1", "2,0", str(tmp_path / "ann.jpg")):
        check_face(face)


def test_reference() -> None:
    assert selected("bob.jpg", FakeNetworks(BOB)) == [1, 3]


def test_reference_without_a_face_fails() -> None:
    with pytest.raises(UsageError, match=r"no face found in reference tree\.jpg"):
        selected("tree.jpg", FakeNetworks(faces=0))


def test_reference_of_someone_else_fails() -> None:
    stranger = np.full(3, 2, np.float32)
    with pytest.raises(UsageError, match=r"not in the clip: nearest face at distance 3\.00"):
        selected("stranger.jpg", FakeNetworks(stranger))


def test_reference_takes_the_nearer_of_two_at_once() -> None:
    twins = Analysis(10, ((0, 9),), (track(0, ANN + 0.2, 0, 9), track(1, ANN + 0.1, 0, 9)))
    assert selected("ann.jpg", clip=twins) == [1]


@pytest.mark.parametrize("face", ["largest", "all", "0", "ann.jpg"])
def test_clip_without_faces_selects_none(face: str) -> None:
    assert selected(face, clip=Analysis(10, ((0, 9),), ())) == []


def test_persons_across_shots() -> None:
    persons = group_persons(CLIP.tracks, embedder=FakeNetworks())
    assert [[track.id for track in person] for person in persons] == [[0, 2], [1, 3], [4]]


@pytest.mark.parametrize(
    ("distance", "shot", "is_same"),
    # of the 0.6 up to which one pair of faces is one person
    [(0.49, 0, True), (0.51, 0, False), (0.39, 1, True), (0.41, 1, False)],
)
def test_a_cut_asks_for_more_likeness(distance: float, shot: int, is_same: bool) -> None:
    early = track(0, ANN, 0, 9)
    later = track(1, ANN + np.float32([distance, 0, 0]), 60, 69, shot=shot)
    persons = group_persons([early, later], embedder=FakeNetworks())
    assert (len(persons) == 1) == is_same


@pytest.mark.parametrize(("nearer_by", "is_known"), [(0.04, False), (0.06, True)])
def test_of_two_who_are_equally_near_neither_returns(nearer_by: float, is_known: bool) -> None:
    ann, twin = (ANN + np.float32([0, 0, x]) for x in (0.2, -0.2 - nearer_by))
    tracks = [track(0, ann, 0, 20), track(1, twin, 0, 20), track(2, ANN, 60, 80)]
    numbered = number_persons(tracks, embedder=FakeNetworks())
    assert [t.person for t in numbered] == [0, 1, 0 if is_known else 2]
    # The twin is in the picture meanwhile, so that it can only be the other one.
    staying = [tracks[0], track(1, twin, 0, 90), tracks[2]]
    assert [t.person for t in number_persons(staying, embedder=FakeNetworks())] == [0, 1, 0]


def test_same_person_needs_embeddings_and_time_apart() -> None:
    def is_same(later: FaceTrack) -> bool:
        return len(group_persons([early, later], embedder=FakeNetworks())) == 1

    early = track(0, ANN, 0, 9)
    assert is_same(track(1, ANN, 20, 29))
    assert not is_same(track(1, BOB, 20, 29))
    assert not is_same(track(1, ANN, 5, 29))
    assert not is_same(track(1, None, 20, 29))
