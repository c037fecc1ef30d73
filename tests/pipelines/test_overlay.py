"""``vidinv faces --overlay``: what an edit goes by, drawn over the input."""

from __future__ import annotations

import numpy as np
import pytest

import vidinv
from pipelines.demo import make_clip
from pipelines.overlay import CROP, FILLED_IN, MASK, MEASURED, draw_faces
from tests.pipelines.passes import Passes
from tests.video.clips import images_of, packets_of
from vidinv.errors import UsageError
from vidinv.packs import load_pack
from vidinv.types import Crop, FaceTrack
from vidinv.video import read_image, write_image

GREY = np.full((120, 160, 3), 90, np.uint8)


def make_track() -> FaceTrack:
    """Two frames from 3 on; the second one is filled in. The face is a circle of landmarks."""
    turns = np.linspace(0, 2 * np.pi, 68, endpoint=False)
    circle = np.stack([80 + 20 * np.cos(turns), 60 + 20 * np.sin(turns)], axis=1)
    return FaceTrack(
        id=0,
        shot=0,
        first=3,
        landmarks_T682=np.repeat(circle[None], 2, axis=0).astype(np.float32),
        crops_T4=np.repeat(Crop(80.0, 60.0, 40.0, 0.0).as_array()[None], 2, axis=0),
        measured_T=np.array([True, False]),
    )


def has(picture: np.ndarray, colour: tuple[int, int, int]) -> bool:
    """Lines are smoothed: nearly the colour will do."""
    return bool((np.abs(picture.astype(int) - colour).max(axis=2) < 50).sum() > 10)


def test_crop_mask_and_landmarks_are_drawn_where_they_are():
    track = make_track()
    drawn = draw_faces(GREY, 3, [track], crop_scale=1.0)
    assert (GREY == 90).all()
    assert all(has(drawn, colour) for colour in (CROP, MASK, MEASURED))
    assert not has(drawn, FILLED_IN)
    rows, columns = np.nonzero(np.abs(drawn.astype(int) - CROP).max(axis=2) < 110)
    assert (rows.min(), rows.max()) == pytest.approx((20, 100), abs=1)
    assert (columns.min(), columns.max()) == pytest.approx((40, 120), abs=1)
    outside = np.ones(GREY.shape[:2], bool)
    outside[17:104, 37:124] = False
    assert np.array_equal(drawn[outside], GREY[outside])
    assert has(drawn[58:63, 97:103], MEASURED)


def test_landmarks_between_sightings_have_their_own_colour_and_others_frames_stay():
    track = make_track()
    assert has(draw_faces(GREY, 4, [track], crop_scale=1.0), FILLED_IN)
    assert np.array_equal(draw_faces(GREY, 5, [track], crop_scale=1.0), GREY)


def test_a_clip_and_a_picture_are_drawn_over(tmp_path):
    clip, overlay, sheet = (tmp_path / name for name in ("a.mp4", "drawn.mp4", "sheet.png"))
    make_clip(load_pack(), clip, seconds=0.4, size_px=256)
    passes = Passes()
    found = vidinv.list_faces(clip, overlay=overlay, sheet=sheet, progress=passes)
    assert list(passes.seen) == ["faces", "overlay"]  # the sheet has its pictures from the latter
    assert not has(read_image(sheet), MEASURED)
    before, after = images_of(clip), images_of(overlay)
    assert len(found.tracks) == 1
    assert len(before) == len(after) == 10
    assert packets_of(overlay, "audio") == packets_of(clip, "audio")
    assert (np.abs(after[5].astype(int) - before[5]).max(axis=2) > 60).sum() > 300
    picture, drawn = tmp_path / "a.png", tmp_path / "drawn.png"
    write_image(picture, before[0])
    vidinv.list_faces(picture, overlay=drawn)
    assert has(read_image(drawn), MEASURED)
    with pytest.raises(UsageError, match="exists"):
        vidinv.list_faces(picture, overlay=drawn)
    with pytest.raises(UsageError, match="no picture or clip as"):
        vidinv.list_faces(picture, overlay=tmp_path / "b.mp4")
