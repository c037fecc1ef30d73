"""Single faces of clips and pictures: which frames, which crop."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from pipelines.still_faces import FaceFinder, collect_faces
from tests.faces.fake_backend import fake_backend
from tests.packs.tiny import write_tiny_pack
from vidinv.errors import UsageError
from vidinv.packs import load_pack
from vidinv.types import Frame
from vidinv.video import EncodeOptions, VideoInfo, open_writer, write_image

FRAMES = 9
FIRST_FACE = 2


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A clip whose first frames are a wall, the same anamorphic, and a picture."""
    folder = tmp_path_factory.mktemp("faces")
    picture = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    pictures = [np.full_like(picture, 90)] * FIRST_FACE + [picture] * (FRAMES - FIRST_FACE)
    square = VideoInfo.from_scratch(width=96, height=64, rate=25)
    for name, aspect in (("clip", Fraction(1)), ("wide", Fraction(2))):
        info = replace(square, sample_aspect_ratio=aspect)
        options = EncodeOptions(encoder="libx264", preset="ultrafast")
        with open_writer(folder / f"{name}.mp4", source=info, options=options) as writer:
            for number, image in enumerate(pictures):
                writer.write(Frame(number, number, info.time_base, image, duration=1))
    write_image(folder / "picture.png", picture)
    (folder / "notes.txt").write_text("nothing to see")
    return folder


@pytest.fixture(scope="module")
def finder(tmp_path_factory):
    pack = load_pack(write_tiny_pack(tmp_path_factory.mktemp("packs") / "tiny"))
    return FaceFinder(pack, fake_backend())


def test_the_face_of_a_clip_is_that_of_the_first_frame_that_shows_one(folder, finder):
    assert finder.face(folder / "clip.mp4").frame == FIRST_FACE
    found = finder.face(folder / "picture.png")
    assert (found.frame, found.aligned.shape, found.landmarks.shape) == (0, (32, 32, 3), (68, 2))


def test_frames_of_a_clip_are_evenly_spread(folder, finder):
    faces = finder.faces(folder / "clip.mp4", count=3)
    assert [face.frame for face in faces] == [4, 8]  # frame 0 shows nobody
    assert len(finder.faces(folder / "clip.mp4", count=1)) == 0


def test_anamorphic_frames_are_seen_as_displayed(folder, finder):
    plain, wide = (finder.face(folder / f"{name}.mp4") for name in ("clip", "wide"))
    assert np.abs(plain.aligned - wide.aligned).mean() > 1
    assert wide.aligned.shape == plain.aligned.shape


def test_a_limit_counts_faces_over_all_files(folder, finder):
    without = []
    how = {"frames_per_clip": 3, "without": without.append}
    groups = collect_faces([folder], finder, **how)
    assert [len(group) for group in groups] == [2, 1, 2]  # clip, picture, wide
    groups = collect_faces([folder], finder, limit=3, **how)
    assert [len(group) for group in groups] == [2, 1]
    assert without == []


def test_nobody_in_any_file_is_an_error(folder, finder, tmp_path):
    write_image(tmp_path / "wall.png", np.full((64, 64, 3), 90, np.uint8))
    without = []
    with pytest.raises(UsageError, match="no face found in"):
        collect_faces([tmp_path], finder, frames_per_clip=1, without=without.append)
    assert without == [tmp_path / "wall.png"]
