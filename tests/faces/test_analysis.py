"""Tracks through real frames, recomposed: two people, leaving, returning, cuts, cover, motion."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from vidinv.faces import dlib_backend, extract_crop, face_mask, group_persons
from vidinv.video import ShotDetector

from .conftest import Clip, analyse_images

EMBEDDER = dlib_backend().embedder
WALL = np.full((512, 512, 3), 90, np.uint8)
MAN, WOMAN, NO_FACE = "greenscreen_512.mp4", "expression_512.mp4", "noface_bottle.mp4"


def spans(analysis) -> list[tuple[int, int]]:
    return [(track.first, track.last) for track in analysis.tracks]


def test_one_face_is_one_track(clip: Clip) -> None:
    analysis = analyse_images(clip(MAN, 30))
    assert analysis.num_frames == 30
    assert analysis.shots == ((0, 29),)
    assert spans(analysis) == [(0, 29)]
    assert analysis.tracks[0].measured_T.all()


@pytest.mark.parametrize("aspect", [64 / 45, 3 / 4])
def test_a_face_of_pixels_that_are_not_square_is_the_face_that_is_seen(
    clip: Clip, aspect: float
) -> None:
    seen = clip(MAN, 6)
    stored = [cv2.resize(i, (round(512 / aspect), 512), interpolation=cv2.INTER_AREA) for i in seen]
    (expected,), (found,) = (
        analyse_images(images, pixel_aspect=a).tracks
        for images, a in ((seen, 1.0), (stored, 512 / round(512 / aspect)))
    )
    side = expected.crop(0).side_px
    assert np.abs(found.crops_T4 - expected.crops_T4).max() < 0.03 * side
    faces = [
        extract_crop(images[3], track.crop(3), 64).astype(float)
        for images, track in ((seen, expected), (stored, found))
    ]
    assert np.abs(faces[0] - faces[1]).mean() < 3  # levels
    # Landmarks are in the pixels of the frame, and the mask is drawn where they are.
    assert np.abs(found.landmarks(3)[:, 0] * aspect - expected.landmarks(3)[:, 0]).max() < 8
    masks = [face_mask(t.landmarks(3), crop=t.crop(3), size_px=64) for t in (expected, found)]
    assert np.abs(masks[0] - masks[1]).mean() < 0.02
    assert np.linalg.norm(found.embedding - expected.embedding) < 0.2


@pytest.mark.parametrize("degrees", [45, -90, 180])
def test_a_head_that_is_not_upright_is_found_and_aligned(clip: Clip, degrees: float) -> None:
    upright = clip(MAN, 8)
    matrix = cv2.getRotationMatrix2D((255.5, 255.5), degrees, 0.7)
    rolled = [cv2.warpAffine(i, matrix, (512, 512), borderValue=(90, 90, 90)) for i in upright]
    (expected,), (found,) = (analyse_images(images).tracks for images in (upright, rolled))
    assert (found.first, found.last) == (0, 7)
    assert found.measured_T.mean() > 0.8
    crops = [t.crop(4) for t in (expected, found)]
    middle = matrix @ [crops[0].center_x, crops[0].center_y, 1.0]
    apart = np.hypot(crops[1].center_x - middle[0], crops[1].center_y - middle[1])
    assert apart < 0.1 * crops[1].side_px
    turns = [np.degrees(np.arctan2(c.axis_y, c.axis_x)) for c in crops]
    error = (turns[1] - turns[0] + degrees + 180) % 360 - 180
    assert abs(error) < 8


@pytest.mark.parametrize("mirrored", [False, True])
def test_half_a_face_at_the_border_is_followed(clip: Clip, mirrored: bool) -> None:
    whole = clip(MAN, 10)
    (expected,) = analyse_images(whole).tracks
    crop = expected.crop(5)
    left = round(crop.center_x - 0.03 * crop.side_px)
    halves = [i[:, left:] for i in whole]
    if mirrored:
        halves = [np.ascontiguousarray(i[:, ::-1]) for i in halves]
    (found,) = analyse_images(halves).tracks
    assert (found.first, found.last) == (0, 9)
    middle = found.crop(5)
    x = halves[0].shape[1] - 1 - middle.center_x if mirrored else middle.center_x
    assert abs(x + left - crop.center_x) < 0.08 * crop.side_px
    assert abs(middle.center_y - crop.center_y) < 0.05 * crop.side_px
    assert middle.side_px == pytest.approx(crop.side_px, rel=0.12)


def test_no_face_is_no_track(clip: Clip) -> None:
    analysis = analyse_images(clip(NO_FACE, 40))
    assert analysis.tracks == ()
    assert analysis.shots == ((0, 39),)


def test_no_frames() -> None:
    analysis = analyse_images([])
    assert (analysis.num_frames, analysis.shots, analysis.tracks) == (0, (), ())


def test_still_picture_is_a_track_of_one_frame(clip: Clip) -> None:
    assert spans(analyse_images(clip(MAN, 1))) == [(0, 0)]


def test_two_people_side_by_side_are_two_tracks(clip: Clip) -> None:
    both = [np.hstack(pair) for pair in zip(clip(MAN, 30), clip(WOMAN, 30), strict=True)]
    analysis = analyse_images(both)
    assert spans(analysis) == [(0, 29), (0, 29)]
    sides = [track.crops_T4[:, 0] > 512 for track in analysis.tracks]
    assert all(side.all() or not side.any() for side in sides)
    assert sides[0][0] != sides[1][0]
    assert len(group_persons(analysis.tracks, embedder=EMBEDDER)) == 2


def test_face_that_leaves_and_returns_is_known_again(clip: Clip) -> None:
    images = clip(WOMAN, 40)
    analysis = analyse_images(images[:20] + [WALL] * 22 + images[20:])
    assert len(analysis.tracks) == 2
    gone, back = analysis.tracks
    assert gone.first == 0
    assert gone.last == 19
    assert back.first == 42  # searched for at 45, followed back
    assert back.last == 61
    assert len(group_persons([gone, back], embedder=EMBEDDER)) == 1


@pytest.mark.parametrize("cuts", [(20,), ()], ids=["cut known", "cut missed"])
def test_cut_between_two_people_ends_the_track(clip: Clip, cuts: tuple[int, ...]) -> None:
    analysis = analyse_images(clip(MAN, 20) + clip(WOMAN, 20), cuts=cuts)
    assert len(analysis.shots) == len(cuts) + 1
    assert len(analysis.tracks) == 2
    before, after = analysis.tracks
    assert before.last < 20 <= after.first
    assert before.last >= 18
    assert after.first <= 21
    assert len(group_persons([before, after], embedder=EMBEDDER)) == 2


def test_tracks_end_where_the_next_shot_shows_and_begin_where_it_prevails(clip: Clip) -> None:
    first, second = clip("greenscreen_512.mp4", 32), clip("expression_512.mp4", 32)
    shares = np.arange(1, 13) / 13
    mixed = [
        cv2.addWeighted(a, 1 - share, b, share, 0)
        for a, b, share in zip(first[20:], second, shares, strict=False)
    ]
    images = [*first[:20], *mixed, *second[12:]]
    detector = ShotDetector()
    found = analyse_images(images, new_shot=detector.update)
    (start, middle), (after, end) = found.shots
    assert (start, after, end) == (0, middle + 1, 51)
    one, other = found.tracks
    assert 18 <= one.last <= 21 < middle
    assert 26 <= other.first <= 32  # the dissolve is over at 32, and half over at 26
    assert after < other.first


def test_face_after_a_missed_cut_is_aligned_as_itself(clip: Clip) -> None:
    before, after = (
        [cv2.resize(i, (512, 409), interpolation=cv2.INTER_AREA) for i in clip(name, 20)]
        for name in ("grid_bbaf2n.mpg", "grid_pwij3p.mpg")
    )
    (expected,) = analyse_images(after).tracks
    _, found = analyse_images(before + after).tracks
    assert found.first == 20
    for row in (1, 15):  # landmarks of the face before it left this one rolled by 40 degrees
        crops = expected.crops_T4[row], found.crops_T4[row]
        assert np.abs(crops[1] - crops[0]).max() < 0.1 * expected.crop(row).side_px


def test_cut_at_the_first_frame_makes_no_empty_shot(clip: Clip) -> None:
    assert analyse_images(clip(NO_FACE, 3), cuts=(0,)).shots == ((0, 2),)


def test_change_of_frame_size_is_a_new_shot(clip: Clip) -> None:
    images = clip(MAN, 12)
    small = [cv2.resize(image, (256, 256), interpolation=cv2.INTER_AREA) for image in images]
    assert analyse_images(images + small).shots == ((0, 11), (12, 23))


def test_short_cover_is_bridged(clip: Clip) -> None:
    images = clip(MAN, 30)
    open_face = analyse_images(images).tracks[0]
    covered = [image.copy() for image in images]
    for image in covered[12:17]:
        image[100:420] = 90
    analysis = analyse_images(covered)
    assert spans(analysis) == [(0, 29)]
    track = analysis.tracks[0]
    assert not track.measured_T[12:17].any()
    assert track.measured_T[:12].all()
    assert np.abs(track.crops_T4 - open_face.crops_T4).max() < 0.04 * 275


def test_crop_follows_fast_motion_without_lag(clip: Clip) -> None:
    images = clip(MAN, 1) * 40
    path = np.rint(60 * np.sin(np.arange(40) / 3)).astype(int)  # up to 20 px a frame
    shaken = [
        cv2.warpAffine(i, np.float32([[1, 0, s], [0, 1, 0]]), (512, 512), borderMode=2)
        for i, s in zip(images, path, strict=True)
    ]
    centers = analyse_images(shaken).tracks[0].crops_T4[:, 0] - path
    assert np.abs(centers - np.median(centers)).max() < 1.5
    assert np.std(centers) < 0.6


def test_still_face_under_noise_does_not_jitter(clip: Clip) -> None:
    rng = np.random.default_rng(0)
    image = clip(MAN, 1)[0]
    noisy = [
        np.clip(image + rng.normal(0, 6, image.shape), 0, 255).astype(np.uint8) for _ in range(30)
    ]
    crops = analyse_images(noisy).tracks[0].crops_T4
    assert np.abs(np.diff(crops, 2, axis=0)).mean() < 0.1


def test_16_bit_frames_give_the_same_tracks(clip: Clip) -> None:
    images = clip(MAN, 8)
    deep = analyse_images([image.astype(np.uint16) * 257 for image in images])
    plain = analyse_images(images)
    assert np.abs(deep.tracks[0].crops_T4 - plain.tracks[0].crops_T4).max() < 2.0


def test_large_frames_are_analysed_reduced_in_their_own_pixels(clip: Clip) -> None:
    images = clip(MAN, 6)
    large = [np.repeat(np.repeat(image, 5, 0), 5, 1) for image in images]
    expected = analyse_images(images).tracks[0].crops_T4
    found = analyse_images(large).tracks[0].crops_T4
    expected[:, :2] = (expected[:, :2] + 0.5) * 5 - 0.5
    expected[:, 2:] *= 5
    assert np.abs(found - expected).max() < 0.02 * 275 * 5


def test_small_face_is_found(clip: Clip) -> None:
    analysis = analyse_images(clip("fullbody_720x1080.mp4", 12))
    assert spans(analysis) == [(0, 11)]
    assert np.hypot(*analysis.tracks[0].crops_T4[0, 2:]) * 2 < 120


def test_wide_mouth_and_turned_head_do_not_run_away(clip: Clip) -> None:
    # Frames 70-100: landmarks used to grow over the hair, each enlarging the next one's box.
    images = clip("talk_hand_512.mp4", 100)[65:]
    analysis = analyse_images(images)
    assert spans(analysis) == [(0, 34)]
    sides = np.hypot(*analysis.tracks[0].crops_T4[:, 2:].T) * 2
    assert sides.max() / sides.min() < 1.15
