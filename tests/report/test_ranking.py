"""Exactly the faulty frames come out on top."""

from __future__ import annotations

import numpy as np

from tests.report.made_up import SWAPPED, make_rows
from vidinv.report import FrameRow, rank
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


def strangers_now_and_then():
    """33 of 78 frames, eleven in a row: too many for a running median of 25 frames."""
    rows = [FrameRow(n, n / 25, 0, 0, True, 200.0) for n in range(78)]
    swapped = {*range(4, 15), *range(30, 41), *range(58, 69)}
    for row in rows:
        row.distance = 0.15 + 0.3 * (row.frame % 26) / 26 + 0.4 * (row.frame in swapped)
        row.departure, row.pop_face, row.pop_border = 0.0, 1.0, 0.5
    far = {row.frame for row in rows if row.distance >= 0.68}
    return rows, swapped, far


def test_a_face_at_strangers_distance_stands_out_whatever_its_score():
    rows, swapped, far = strangers_now_and_then()
    rows[45].pop_face = 40.0
    assert not far <= {item.frame for item in rank(rows)}  # they need not
    found = rank(rows, strangers=0.68)
    assert {45} | far <= {item.frame for item in found} <= {45} | swapped
    assert {item.frame for item in found[: len(far)]} == far  # before the jump, which scores more
    assert all(item.reasons[0] == "identity" for item in found[: len(far)])
    assert all(item.outlier_score >= STANDS_OUT["identity"] for item in found)


def test_where_the_whole_track_is_a_stranger_nobody_stands_out_for_it():
    rows = make_rows(swapped=())
    for row in rows:
        row.distance += 0.5
    assert rank(rows, strangers=0.68) == ()
    lost, good = rows, make_rows(swapped=(5,), track=1)
    assert [(i.track, i.frame) for i in rank([*lost, *good], strangers=0.68)] == [(1, 5)]


def test_rows_embedded_in_addition_do_not_say_what_is_usual():
    """Every fifth frame and ten swapped ones: of those embedded, most are swapped."""
    rows = make_rows()
    for row in rows:
        row.additional = row.frame in SWAPPED and row.frame % 5 > 0
        if row.frame % 5 and not row.additional:
            row.distance = row.departure = None
    known = [row for row in rows if row.distance is not None]
    assert sum(row.frame in SWAPPED for row in known) > len(known) / 2
    for strangers in (None, 0.68):
        found = rank(rows, strangers=strangers)
        assert {item.frame: item.reasons for item in found} == dict.fromkeys(SWAPPED, ("identity",))


def test_a_running_median_is_over_time_not_over_looks():
    """Three of 13 frames are bad, but half of those embedded."""
    values = [1.0, 9.0, 9.0, 9.0, 1.0, *[None] * 7, 1.0]
    assert from_running_median(range(13), values)[1:4] == [8.0, 8.0, 8.0]
    assert np.isnan(from_running_median([0, 1], [None, None])).all()


def test_a_running_median_skips_what_was_not_measured():
    departures = from_running_median([0, 1, 2, 40], [1.0, None, 3.0, 9.0])
    assert departures[0] == -1.0
    assert np.isnan(departures[1])
    assert departures[2:] == [1.0, 0.0]


def test_worst_comes_first():
    found = rank(make_rows(flickers=(25,)))
    assert [item.outlier_score for item in found] == sorted(
        (i.outlier_score for i in found), reverse=True
    )
    assert found[0].frame == 25


def test_ordinary_frames_do_not_stand_out():
    rows = make_rows(swapped=())
    assert rank(rows) == ()
    assert max(row.outlier_score for row in rows) < min(STANDS_OUT.values())


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
