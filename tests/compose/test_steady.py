"""An edit averaged over time: steadier, without lag, and never where it is not allowed."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from tests.compose.faces import face_mask, generator_pair, look, mask_in_frame, scene
from vidinv.compose import Composer, apply_change, steadied
from vidinv.metrics.temporal import flicker


def observed(frames, crops, *, strengths, detail=True, masks=None, **change):
    composer = Composer(detail=detail)
    masks = masks or [face_mask()] * len(frames)
    return [
        composer.observe(mask=mask, **generator_pair(look(frame, crop), strength=s, **change))
        for frame, crop, mask, s in zip(frames, crops, masks, strengths, strict=True)
    ]


def painted(frames, crops, changes):
    rows = zip(frames, crops, changes, strict=True)
    return [apply_change(frame, crop=crop, change=change) for frame, crop, change in rows]


def still(count):
    frame, crop = scene()
    return [frame] * count, [crop] * count


@pytest.mark.parametrize("detail", [True, False])
def test_a_jittering_edit_flickers_less(detail):
    """On a head that drifts, with noise in every frame."""
    rng = np.random.default_rng(0)
    scenes = [scene(center=(150.0 + 1.3 * t, 150.0 - 0.7 * t)) for t in range(12)]
    frames = [
        np.clip(frame + rng.normal(0, 2, frame.shape), 0, 255).astype(np.uint8)
        for frame, _ in scenes
    ]
    crops = [crop for _, crop in scenes]
    steps = observed(
        frames, crops, detail=detail, teeth=True, strengths=0.8 + rng.normal(0, 0.25, 12)
    )
    masks = [
        mask_in_frame(face_mask(), crop, frame.shape)
        for frame, crop in zip(frames, crops, strict=True)
    ]

    def shake(changes):
        return flicker(painted(frames, crops, changes), source=frames, masks=masks)

    own = flicker(frames, source=frames, masks=masks)
    before = shake([step.change for step in steps]) - own
    after = shake(steadied(steps, range(12))) - own
    assert after < 0.5 * before


def test_an_edit_that_grows_evenly_does_not_lag():
    frames, crops = still(9)
    steps = observed(frames, crops, strengths=np.linspace(0.4, 1.2, 9))
    steady = painted(frames, crops, steadied(steps, range(9)))[4]
    plain = painted(frames, crops, [step.change for step in steps])
    apart = [np.abs(steady.astype(float) - picture).mean() for picture in plain]
    assert np.argmin(apart) == 4


def test_a_frame_without_an_edit_stays_the_source_and_tells_others_nothing():
    frames, crops = still(6)
    strengths = [1.0, 1.0, 1.0, 0.0, 0.0, 0.0]
    changes = steadied(observed(frames, crops, strengths=strengths), range(6))
    assert all(np.array_equal(frames[0], image) for image in painted(frames, crops, changes)[3:])
    alone = steadied(observed(frames[:3], crops[:3], strengths=strengths[:3]), range(3))
    for change, expected in zip(changes, alone, strict=False):
        np.testing.assert_allclose(change.add_RR3, expected.add_RR3, atol=1e-3)


def test_a_single_frame_keeps_its_change():
    (frame,), (crop,) = still(1)
    (step,) = observed([frame], [crop], strengths=[1.0], teeth=True)
    (change,) = steadied([step], range(1))
    one, other = painted([frame] * 2, [crop] * 2, [change, step.change])
    assert np.abs(one.astype(int) - other).max() <= 1


@pytest.mark.parametrize("detail", [True, False])
def test_nothing_changes_outside_the_mask_of_each_frame(detail):
    """A hand comes in from below: what others change there is not laid on it."""
    frames, crops = still(5)
    covered = face_mask()
    covered[80:] = 0
    masks = [face_mask(), face_mask(), covered, face_mask(), face_mask()]
    steps = observed(frames, crops, strengths=[1.0] * 5, masks=masks, detail=detail, teeth=True)
    output = painted(frames, crops, steadied(steps, range(5)))[2]
    outside = ~mask_in_frame(covered, crops[2], frames[2].shape)
    assert np.array_equal(output[outside], frames[2][outside])


def test_neighbours_do_not_count_where_the_source_shows_something_else():
    frames, crops = still(5)
    other = frames[2].copy()
    cv2.rectangle(other, (120, 170), (210, 250), (20, 60, 20), -1)  # over mouth and chin
    frames = [*frames[:2], other, *frames[3:]]
    steps = observed(frames, crops, strengths=[1.0, 1.0, 0.5, 1.0, 1.0], teeth=True)
    change = steadied(steps, range(5))[2]
    mouth = np.s_[84:98, 50:74]  # in the crop, where a neighbour opens the mouth
    near = np.abs(change.add_RR3 - steps[2].change.add_RR3)[mouth].mean()
    far = np.abs(steps[1].change.add_RR3 - steps[2].change.add_RR3)[mouth].mean()
    assert near < 0.3 * far


def test_what_lies_beyond_the_reach_does_not_matter():
    """A segment that is computed from its halo on has the bits of the whole shot."""
    frames, crops = still(14)
    strengths = np.linspace(0.2, 1.4, 14)
    steps = observed(frames, crops, strengths=strengths)
    part = observed(frames[3:11], crops[3:11], strengths=strengths[3:11])
    whole = steadied(steps[3:11], range(3, 5))
    cut = steadied(part, range(3, 5))
    for one, other in zip(whole, cut, strict=True):
        assert np.array_equal(one.add_RR3, other.add_RR3)
        assert np.array_equal(one.flow_RR2, other.flow_RR2)
        assert np.array_equal(one.loss_RR, other.loss_RR)


def in_front(t, *, missed=()):
    """``[R, R]``: a block over the mouth that a parsing network misses in some frames."""
    occluded = np.zeros((128, 128), np.float32)
    if t not in missed:
        occluded[80:110, 40:90] = 1.0
    return occluded


@pytest.mark.parametrize("detail", [True, False])
def test_what_is_in_front_of_the_face_keeps_the_source(detail):
    frames, crops = still(6)
    own = [generator_pair(look(f, c), teeth=True) for f, c in zip(frames, crops, strict=True)]
    composer = Composer(detail=detail)
    steps = [
        composer.observe(mask=face_mask(), occluded=in_front(t), **pair)
        for t, pair in enumerate(own)
    ]
    for change in steadied(steps, range(6)):
        block = slice(80, 110), slice(40, 90)
        for field in (change.flow_RR2, change.loss_RR, change.add_RR3):
            assert not field[block].any()
        assert change.acts


def test_an_occluder_that_is_missed_in_one_frame_does_not_flicker():
    frames, crops = still(9)
    composer = Composer(detail=False)
    steps = [
        composer.observe(
            mask=face_mask(), occluded=in_front(t, missed=[4]), **generator_pair(look(frame, crop))
        )
        for t, (frame, crop) in enumerate(zip(frames, crops, strict=True))
    ]
    shown = [change.loss_RR[90:100, 50:80].mean() for change in steadied(steps, range(9))]
    assert shown[4] < 0.3  # 1 by itself
    assert np.abs(np.diff(shown)).max() < 0.2
