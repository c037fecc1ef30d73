"""Cuts are found where they are, and nowhere else."""

from __future__ import annotations

import itertools

import cv2
import numpy as np
import pytest

from tests.video.clips import images_of
from vidinv.video import ShotDetector, open_reader

WITHOUT_CUTS = [
    "expression_512.mp4",
    "fullbody_720x1080.mp4",
    "grid_bbaf2n.mpg",
    "sign_smallface.mkv",
    "talk_hand_512.mp4",
]
TALKING = ["expression_512.mp4", "greenscreen_512.mp4", "talk_hand_512.mp4"]


def starts(images) -> list[int]:
    detector = ShotDetector()
    return [number for number, image in enumerate(images) if detector.update(image) is not None]


def test_cuts_of_real_clip(shared_dir):
    """Looked at by eye: stage, face in the crowd from 20, singer from 82, audience from 211."""
    with open_reader(shared_dir / "clips" / "cuts_crowd.mp4") as reader:
        assert starts(frame.image for frame in reader) == [0, 20, 82, 211]


@pytest.mark.parametrize("name", WITHOUT_CUTS)
def test_motion_is_no_cut(shared_dir, name):
    with open_reader(shared_dir / "clips" / name) as reader:
        assert starts(frame.image for frame in reader) == [0]


@pytest.mark.parametrize(("one", "other"), list(itertools.permutations(TALKING, 2)))
def test_cut_between_two_talking_people(shared_dir, one, other):
    first, second = (images_of(shared_dir / "clips" / n, limit=12) for n in (one, other))
    assert starts([*first, *second]) == [0, 12]


@pytest.mark.parametrize(("gain", "offset"), [(1.5, 40), (2.0, 80), (0.4, 0), (1.0, 150)])
def test_flash_is_no_cut(shared_dir, gain, offset):
    images = images_of(shared_dir / "clips" / "expression_512.mp4", limit=12)
    for n in (6, 7):
        images[n] = np.clip(images[n] * gain + offset, 0, 255).astype(np.uint8)
    assert starts(images) == [0]


@pytest.mark.parametrize("level", [0, 16, 128, 255])
def test_cut_from_a_flat_picture_and_to_one(shared_dir, level):
    images = images_of(shared_dir / "clips/greenscreen_512.mp4", limit=6)
    rng = np.random.default_rng(0)
    flat = [
        np.clip(level + rng.integers(-2, 3, images[0].shape), 0, 255).astype(np.uint8)
        for _ in range(6)
    ]
    assert starts([*flat, *images, *flat]) == [0, 6, 12]


def test_a_flash_that_leaves_nothing_to_see_is_a_cut_to_white_and_back(shared_dir):
    """No face is there to be followed, and an edit has no reason to fade in and out around it."""
    images = images_of(shared_dir / "clips" / "expression_512.mp4", limit=12)
    for n in (6, 7):
        images[n] = np.full_like(images[n], 255)
    assert starts(images) == [0, 6, 8]


def test_a_fade_from_black_is_one_shot_but_for_the_black(shared_dir):
    picture = images_of(shared_dir / "clips/greenscreen_512.mp4", limit=1)[0]
    fade = [(picture * (n / 12)).astype(np.uint8) for n in range(13)]
    assert starts([0 * picture] * 4 + fade + [picture] * 4) == [0]


def test_a_fade_to_black_ends_the_shot_and_what_fades_in_begins_with_the_black(shared_dir):
    names = ("greenscreen_512.mp4", "expression_512.mp4")
    before, after = (images_of(shared_dir / "clips" / n, limit=1)[0] for n in names)
    steps = np.linspace(1, 0, 13)
    fade_out = [(before * s).astype(np.uint8) for s in steps]
    fade_in = [(after * s).astype(np.uint8) for s in steps[::-1]]
    images = [before] * 6 + fade_out + [0 * before] * 4 + fade_in + [after] * 6
    first, second = starts(images)
    assert first == 0
    assert 15 <= second <= 19  # black from 18 on


def dissolved(first, second, frames: int) -> list[np.ndarray]:
    """12 frames of the one, ``frames`` of both, 12 of the other; both go on moving."""
    mixed = [
        cv2.addWeighted(a, 1 - share, b, share, 0)
        for a, b, share in zip(
            first[12:], second, np.arange(1, frames + 1) / (frames + 1), strict=False
        )
    ]
    return [*first[:12], *mixed, *second[frames : frames + 12]]


# Where a hand waves or a head nods through a dissolve it may be missed (docs/LOG.md).
@pytest.mark.parametrize(
    ("one", "other", "frames"),
    [
        *[("greenscreen_512.mp4", "expression_512.mp4", n) for n in (5, 8, 12, 20, 30)],
        *[("expression_512.mp4", "greenscreen_512.mp4", n) for n in (5, 12)],
        *[("expression_512.mp4", "talk_hand_512.mp4", n) for n in (5, 8, 12)],
    ],
)
def test_a_dissolve_is_found_while_it_lasts_with_the_frame_it_begins_at(
    shared_dir, one, other, frames
):
    first, second = (
        [cv2.resize(image, (96, 96), interpolation=cv2.INTER_AREA) for image in images]
        for images in (images_of(shared_dir / "clips" / n, limit=frames + 12) for n in (one, other))
    )
    detector = ShotDetector()
    found = {
        number: mixed
        for number, image in enumerate(dissolved(first, second, frames))
        if (mixed := detector.update(image)) is not None
    }
    assert len(found) == 2, found
    _, (number, mixed) = found.items()
    assert 12 + frames / 3 < number < 12 + frames + 1
    assert abs(number - mixed - 12) <= max(1, frames // 8)


@pytest.mark.parametrize("speed", [2, 5, 10, 20, 40])
def test_a_pan_is_no_dissolve(shared_dir, speed):
    picture = images_of(shared_dir / "clips" / "landscape_1280x720.mp4", limit=1)[0]
    height, width = picture.shape[:2]
    side = width // 3
    lefts = range(0, width - side, speed)[:60]
    assert starts(picture[: height * 2 // 3, left : left + side] for left in lefts) == [0]


@pytest.mark.parametrize("growth", [1.01, 1.03, 1.06])
def test_a_zoom_is_no_dissolve(shared_dir, growth):
    picture = images_of(shared_dir / "clips" / "landscape_1280x720.mp4", limit=1)[0]
    height, width = picture.shape[:2]
    halves = [(int(height / growth**t / 2), int(width / growth**t / 2)) for t in range(30)]
    views = (
        picture[height // 2 - h : height // 2 + h, width // 2 - w : width // 2 + w]
        for h, w in halves
    )
    assert starts(views) == [0]


def test_noise_in_the_dark_is_no_cut():
    rng = np.random.default_rng(0)
    assert starts(rng.integers(0, 6, (10, 90, 160, 3), np.uint8)) == [0]


def test_16_bit_images_give_the_same_cuts(shared_dir):
    clips = [images_of(shared_dir / "clips" / n, limit=6) for n in TALKING[:2]]
    assert starts([i.astype(np.uint16) * 257 for c in clips for i in c]) == [0, 6]
