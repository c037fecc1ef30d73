"""Chunks are anchored to shots; faces are edited where they are shown, at their strength."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import cv2
import numpy as np
import pytest
import torch

from tests.compose.made_up_change import mean_landmarks, small_face
from tests.packs.tiny import write_tiny_pack
from vidinv.composing import FrameComposer
from vidinv.editing.directions import Directions
from vidinv.faces import named_alignment
from vidinv.packs import load_pack
from vidinv.rendering import (
    MAX_CHUNK_FRAMES,
    FaceEditor,
    as_float_rgb,
    chunked,
    frames_without,
    to_array,
    to_tensor,
)
from vidinv.types import Analysis, EditSpec, FaceTrack, Frame, RenderMode


def frames(count: int, *, size: int = 64, dtype=np.uint8) -> list[Frame]:
    rng = np.random.default_rng(0)
    top = np.iinfo(dtype).max
    pictures = rng.integers(0, top, (count, size, size, 3), dtype=dtype, endpoint=True)
    return [Frame(i, i, Fraction(1, 10), picture) for i, picture in enumerate(pictures)]


def track(first: int, last: int, *, id: int = 0) -> FaceTrack:
    count = last - first + 1
    crop = np.array([32.0, 32.0, 20.0, 0.0])
    landmarks = mean_landmarks(40) + 12
    return FaceTrack(
        id,
        0,
        first,
        np.repeat(landmarks[None], count, 0).astype(np.float32),
        np.repeat(crop[None], count, 0),
        np.ones(count, bool),
    )


@pytest.fixture(scope="module")
def pack(tmp_path_factory):
    return load_pack(write_tiny_pack(tmp_path_factory.mktemp("packs") / "tiny"))


SMILE = {"smile": ((0.0, 1.0),)}


def make_editor(
    pack, tracks, *, attributes=SMILE, mode=RenderMode.TRANSFER, shots=((0, 39),), **how
) -> FaceEditor:
    return FaceEditor(
        how.pop("inverter", None) or pack.inverter(),
        resolution=pack.resolution,
        alignment=pack.alignment,
        directions=pack.directions(),
        spec=EditSpec(attributes=attributes, mode=mode),
        tracks=tracks,
        shots=shots,
        **how,
    )


def paste(shots=((0, 39),), mode=RenderMode.PASTE) -> FrameComposer:
    return FrameComposer(mode=mode, shots=shots)


def indices(chunks) -> list[list[int]]:
    return [[frame.index for frame in chunk] for chunk in chunks]


def test_chunks_start_at_shots_and_never_cross_a_cut():
    grouped = indices(chunked(frames(21), [(0, 9), (10, 20)]))
    assert grouped == [[*range(8)], [8, 9], [*range(10, 18)], [18, 19, 20]]


def test_chunks_of_large_frames_are_short():
    large = Frame(0, 0, Fraction(1), np.zeros((4096, 4096, 3), np.uint8))
    grouped = indices(chunked([large, Frame(1, 1, Fraction(1), large.image)], [(0, 1)]))
    assert grouped == [[0], [1]]


def test_a_face_is_edited_in_just_the_frames_of_its_track(pack):
    editor = make_editor(pack, [track(3, 9)])
    source = frames(12)
    chunks = list(editor.process(chunked(source, [(0, 11)])))
    edited = [bool(faces) for chunk in chunks for faces in chunk.faces]
    assert edited == [3 <= i <= 9 for i in range(12)]
    composed = list(paste(shots=[(3, 9)]).process(iter(chunks)))
    changed = [not np.array_equal(a.image, b) for a, b in composed]
    assert changed == edited


def test_a_face_that_goes_inside_its_shot_fades_and_one_at_a_cut_does_not(pack):
    """No jump where a track ends; the first frame of the shot has all of the edit."""
    shots, source = [(0, 39)], frames(40)
    chunks = list(make_editor(pack, [track(0, 29)]).process(chunked(source, shots)))
    # As if a cut followed: nothing to fade.
    whole = [image for _, image in paste([(0, 29)]).process(chunks)]
    faded = [image for _, image in paste(shots).process(chunks)]
    change = [
        [
            np.abs(image.astype(int) - f.image).mean()
            for image, f in zip(images, source, strict=True)
        ]
        for images in (whole, faded)
    ]
    shares = np.array(change[1][:30]) / np.array(change[0][:30])
    assert np.allclose(shares[:22], 1.0)
    assert np.all(np.diff(shares[21:]) < 0)
    assert shares[29] < 0.1
    assert change[1][30:] == [0.0] * 10


def test_a_face_that_was_not_seen_for_a_while_fades_in_the_middle_of_its_shot(pack):
    """By the whole track, so that a run which begins in its middle paints the same."""
    shots, source = [(0, 39)], frames(40)
    seen = track(0, 39)
    measured = np.ones(40, bool)
    measured[14:24] = False
    doubtful = replace(seen, measured_T=measured)
    whole, faded = (
        [image for _, image in paste(shots).process(make_editor(pack, [t]).process(chunks))]
        for t in (seen, doubtful)
        for chunks in [chunked(source, shots)]
    )
    shares = [
        np.abs(b.astype(int) - f.image).mean() / np.abs(a.astype(int) - f.image).mean()
        for f, a, b in zip(source, whole, faded, strict=True)
    ]
    assert shares[:2] == shares[38:] == [1.0, 1.0]
    assert shares[18] < 0.3
    assert np.abs(np.diff(shares)).max() < 0.2
    later = make_editor(pack, [doubtful]).process(chunked(source[8:], shots))
    part = [image for _, image in paste(shots).process(later)]
    assert all(np.array_equal(a, b) for a, b in zip(part[8:], faded[16:], strict=True))


def test_the_same_faces_come_out_whatever_is_read_before(pack):
    """Chunks anchored to the shot: a worker that starts at the second shot computes the same."""
    shots, tracks, source = [(0, 10), (11, 20)], [track(11, 20)], frames(21)
    whole = [f for c in make_editor(pack, tracks).process(chunked(source, shots)) for f in c.faces]
    part = make_editor(pack, tracks).process(chunked(source[11:], shots))
    later = [faces for chunk in part for faces in chunk.faces]
    for (a,), (b,) in zip(whole[11:], later, strict=True):
        assert np.array_equal(a.edited, b.edited)


def test_a_pack_with_another_crop_pastes_the_same_part_of_the_frame(tmp_path):
    """FFHQ's crop is larger around the same face: the mask must not grow into the hair with it."""
    landmarks = small_face(220)[None].astype(np.float32) + 90
    changed = []
    for name in ("tight", "ffhq"):
        folder = write_tiny_pack(tmp_path / name, resolution=256, alignment=name)
        crops = named_alignment(name).crops(landmarks)
        face = FaceTrack(0, 0, 0, landmarks, crops, np.ones(1, bool))
        editor = make_editor(load_pack(folder), [face], mode=RenderMode.INVERT)
        source = frames(1, size=400)
        ((frame, picture),) = paste(mode=RenderMode.INVERT).process(editor.process([source]))
        changed.append(cv2.medianBlur((picture != frame.image).any(2).astype(np.uint8), 5))
    tight, wide = changed
    apart = tight != wide
    assert tight.sum() > 15_000
    assert not cv2.erode(apart.astype(np.uint8), np.ones((3, 3))).any()  # never 3 px thick
    assert apart.sum() < 0.03 * tight.sum()


def test_strength_follows_keyframes_in_seconds(pack):
    # 10 frames a second: nothing up to 0.4 s, then rising.
    editor = make_editor(pack, [track(0, 7)], attributes={"smile": ((0.4, 0.0), (0.8, 1.0))})
    (chunk,) = editor.process(chunked(frames(8), [(0, 7)]))
    change = [np.abs(face.edited - face.rendered).mean() for (face,) in chunk.faces]
    assert max(change[:5]) < 1e-3
    assert 0.01 < change[5] < change[6] < change[7]


def test_keyframes_count_from_the_first_frame(pack):
    keys = {"smile": ((0.4, 0.0), (0.8, 1.0))}
    late = [Frame(f.index, f.pts + 1000, f.time_base, f.image) for f in frames(8)]
    editor = make_editor(pack, [track(0, 7)], attributes=keys)
    editor.start_seconds = 100.0
    (chunk,) = editor.process(chunked(late, [(0, 7)]))
    first, last = chunk.faces[0][0], chunk.faces[7][0]
    assert np.abs(first.edited - first.rendered).mean() < 1e-3
    assert np.abs(last.edited - last.rendered).mean() > 0.01


def test_in_mode_invert_the_inversion_itself_is_shown(pack):
    editor = make_editor(pack, [track(0, 3)], mode=RenderMode.INVERT)
    (chunk,) = editor.process(chunked(frames(4), [(0, 3)]))
    for (face,) in chunk.faces:
        assert face.edited is face.rendered or np.array_equal(face.edited, face.rendered)
        assert np.abs(face.rendered - face.source_crop).mean() > 1


def test_only_transferred_edits_take_the_packs_share_of_the_feature_code(tmp_path):
    rendered = {}
    for scale in (1.0, 0.5):
        pack = load_pack(write_tiny_pack(tmp_path / str(scale), fse={"edit_feature_scale": scale}))
        for mode in RenderMode:
            editor = make_editor(pack, [track(0, 0)], mode=mode)
            (chunk,) = editor.process(chunked(frames(1), [(0, 0)]))
            rendered[mode.value, scale] = chunk.faces[0][0].rendered
    assert np.array_equal(rendered["invert", 1.0], rendered["invert", 0.5])
    assert np.array_equal(rendered["paste", 1.0], rendered["paste", 0.5])
    assert not np.array_equal(rendered["transfer", 1.0], rendered["transfer", 0.5])


def test_where_an_edit_moves_the_outline_goes_with_the_face(pack):
    editor = make_editor(pack, [track(0, 0)])
    directions = dict(editor.directions.by_name)
    outline = torch.zeros(27, 2)
    outline[0] = torch.tensor([0.1, 0.0])
    directions["smile"] = replace(directions["smile"], outline_P2=outline)
    editor.directions = Directions(directions)
    (chunk,) = editor.process(chunked(frames(1), [(0, 0)]))
    (face,) = chunk.faces[0]
    moved = face.edited_landmarks - face.landmarks
    # The crop of the track has a side of 40 px.
    assert moved[0].tolist() == pytest.approx([4.0, 0.0], abs=1e-4)
    assert not moved[1:].any()
    (unknown,) = make_editor(pack, [track(0, 0)]).process(chunked(frames(1), [(0, 0)]))
    assert unknown.faces[0][0].edited_landmarks is None


def test_two_faces_in_a_frame_are_both_edited(pack):
    editor = make_editor(pack, [track(0, 3), track(2, 3, id=1)])
    (chunk,) = editor.process(chunked(frames(4), [(0, 3)]))
    assert [len(faces) for faces in chunk.faces] == [1, 1, 2, 2]


def test_deep_frames_keep_their_depth(pack):
    source = frames(2, dtype=np.uint16)
    chunks = make_editor(pack, [track(0, 1)]).process(chunked(source, [(0, 1)]))
    for frame, picture in paste(shots=[(0, 1)]).process(chunks):
        assert picture.dtype == np.uint16
        assert not np.array_equal(picture, frame.image)


def test_frames_without_counts_gaps_once():
    tracks = (track(2, 5), track(4, 6, id=1))
    assert frames_without(Analysis(10, ((0, 9),), tracks), tracks) == 5
    assert frames_without(Analysis(10, ((0, 9),), tracks), ()) == 10


def test_tensor_and_array_are_inverse():
    images = np.random.default_rng(0).uniform(0, 255, (2, 8, 8, 3)).astype(np.float32)
    np.testing.assert_allclose(to_array(to_tensor(images)), images, atol=1e-3)
    assert to_array(torch.full((1, 3, 2, 2), 3.0)).max() == 255
    assert as_float_rgb(np.full((1, 1, 3), 65535, np.uint16)).max() == 255


def test_a_chunk_has_at_most_the_stated_frames():
    assert max(map(len, chunked(frames(30), [(0, 29)]))) == MAX_CHUNK_FRAMES
