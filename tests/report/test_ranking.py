"""Exactly the faulty frames come out on top."""

from __future__ import annotations

import numpy as np

from tests.report.made_up import SWAPPED, make_rows
from vidinv.report import rank
from vidinv.report.ranking import STANDS_OUT, from_running_median, robust_z


def test_faulty_frames_and_no_others_stand_out():
    rows = make_rows(flickers=(25, 29, 33))
    found = rank(rows)
    assert {item.frame for item in found} == {*SWAPPED, 25, 29, 33}
    reasons = {item.frame: item.reasons for item in found}
    assert all(reasons[frame][0] == "identity" for frame in SWAPPED)
    assert all(reasons[frame] == ("flicker",) for frame in (25, 29, 33))


def test_another_face_stands_out_of_a_clip_whose_identity_drifts():
    """From 0.15 to 0.35 over the clip; the stranger is no outlier of all distances."""
    rows = make_rows(swapped=())
    for row in rows:
        row.distance = 0.15 + 0.005 * row.frame + (0.35 if row.frame in SWAPPED else 0)
        row.departure = 0.0
    z = robust_z([row.distance for row in rows], least_spread=0.03)
    assert z[list(SWAPPED)].min() < STANDS_OUT["identity"]
    assert {item.frame: item.reasons for item in rank(rows)} == dict.fromkeys(
        SWAPPED, ("identity",)
    )


def test_a_running_median_skips_what_was_not_measured():
    departures = from_running_median([0, 1, 2, 40], [1.0, None, 3.0, 9.0])
    assert departures[0] == -1.0
    assert np.isnan(departures[1])
    assert departures[2:] == [1.0, 0.0]


def test_worst_comes_first():
    found = rank(make_rows(flickers=(25,)))
    assert [item.badness for item in found] == sorted((i.badness for i in found), reverse=True)
    assert found[0].frame == 25


def test_ordinary_frames_do_not_stand_out():
    rows = make_rows(swapped=())
    assert rank(rows) == ()
    assert max(row.badness for row in rows) < min(STANDS_OUT.values())


def test_a_blink_is_no_fault():
    """It moves the edit of a still face by 3.4 levels (fullbody_720x1080.mp4)."""
    rows = make_rows(swapped=())
    for row in rows[20:24]:
        row.pop_face += 3.4
    assert rank(rows) == ()


def test_each_track_is_its_own_measure():
    """A person whom the edit changes more is not bad for that."""
    much = make_rows(swapped=(), track=1)
    for row in much:
        row.distance += 0.4
    assert rank([*make_rows(swapped=()), *much]) == ()


def test_frames_without_a_measure_are_ordinary():
    z = robust_z([1.0, None, 1.0, 9.0], least_spread=0.5)
    assert z[1] == 0
    assert z[3] > max(STANDS_OUT.values())
    assert np.array_equal(robust_z([None, None], least_spread=1), [0, 0])


def test_noise_of_a_still_clip_is_not_a_fault():
    assert robust_z([1.0] * 9 + [1.05], least_spread=0.3).max() < 1
