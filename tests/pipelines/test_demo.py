"""The demo's made clip has a face and sound, and the demo edits it."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from pipelines.demo import STRENGTH, demonstrate, make_clip, rising
from pipelines.preview import TILE_PX
from tests.video.clips import write_clip
from vidinv.errors import UsageError
from vidinv.faces import dlib_backend
from vidinv.packs import load_pack
from vidinv.video import open_reader, probe


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return make_clip(load_pack(), tmp_path_factory.mktemp("demo") / "clip.mp4", seconds=0.4)


def pictures(path):
    with open_reader(path) as reader:
        return [frame.image for frame in reader]


def test_the_made_clip_has_the_length_size_and_sound_that_it_says(clip):
    info = probe(clip)
    assert (info.width, info.height, info.num_frames) == (512, 512, 10)
    assert info.duration_seconds == pytest.approx(0.4)
    assert [stream.codec for stream in info.other_streams] == ["aac"]


def test_the_made_clip_moves_and_has_one_face_in_every_frame(clip):
    faces = dlib_backend()
    centres = []
    for picture in pictures(clip):
        (found,) = faces.detector.detect(picture)
        centres.append(faces.landmarks.predict(picture, found.box).mean(axis=0))
    assert len(centres) == 10
    assert np.linalg.norm(centres[-1] - centres[0]) > 5


def test_another_seed_is_another_person_and_the_same_seed_the_same(clip, tmp_path):
    pack = load_pack()
    same = make_clip(pack, tmp_path / "same.mp4", seconds=0.4, tone=False)
    other = make_clip(pack, tmp_path / "other.mp4", seconds=0.4, seed=1, tone=False)
    assert probe(same).other_streams == ()
    assert np.array_equal(pictures(same)[3], pictures(clip)[3])
    assert not np.array_equal(pictures(other)[3], pictures(clip)[3])


def test_strength_rises_within_the_clip():
    assert rising(4.0) == ((1.0, 0.0), (3.0, STRENGTH))


def test_demonstrate_edits_a_clip_and_shows_both(clip, tmp_path):
    folder = tmp_path / "new" / "out"
    folder.mkdir(parents=True)
    for name in ("demo_edited.mp4", "demo_sheet.png"):
        (folder / name).write_bytes(b"of an earlier demo")
    demo = demonstrate(load_pack(), folder, clip=clip)
    assert demo.source == clip
    assert demo.result.faces_edited == 10
    assert {path.name for path in folder.iterdir()} == {"demo_edited.mp4", "demo_sheet.png"}
    assert probe(demo.edited).other_streams == probe(clip).other_streams
    sheet = cv2.imread(str(demo.sheet))
    assert sheet.shape == (2 * (TILE_PX + 20), 6 * TILE_PX, 3)
    before, after = np.split(sheet.astype(float), 2)
    changed = np.abs(before[20:] - after[20:]).mean(axis=(0, 2)).reshape(6, -1).mean(axis=1)
    assert changed[0] < 2 < changed[-1]  # unchanged at first, edited at the end


def test_without_a_face_there_is_no_sheet(tmp_path):
    (tmp_path / "demo_sheet.png").write_bytes(b"of an earlier demo")
    clip = write_clip(tmp_path / "a.mp4", [np.full((64, 96, 3), 90, np.uint8)] * 3)
    demo = demonstrate(load_pack(), tmp_path, clip=clip)
    assert demo.sheet is None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.mp4", "demo_edited.mp4"]


def test_demonstrate_fails_for_a_picture(tmp_path):
    with pytest.raises(UsageError, match="use 'vidinv edit'"):
        demonstrate(load_pack(), tmp_path, clip=tmp_path / "face.png")
