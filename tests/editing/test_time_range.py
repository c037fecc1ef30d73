"""Times as people write them; what makes no sense is tested with the command."""

from __future__ import annotations

import pytest

from vidinv.editing.time_range import parse_seconds, time_range
from vidinv.errors import UsageError
from vidinv.types import TimeRange


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("83.5", 83.5),
        (7, 7.0),
        ("1:23.5", 83.5),
        ("0:01:02", 62.0),
        ("90:00", 5400.0),
        ("2:3:4", 7384),
    ],
)
def test_seconds_and_clocks(text, seconds):
    assert parse_seconds(text, name="--start") == seconds


@pytest.mark.parametrize("text", ["", "1:60", "1:60:00", "1:2:3:4", "1:-2", "1.5:00", "inf", "-1"])
def test_other_texts_are_refused(text):
    with pytest.raises(UsageError, match=f"--end {text}: "):
        parse_seconds(text, name="--end")


def test_a_range_has_its_start_and_not_its_end():
    assert time_range(None, None) is None
    within = time_range("0.4", 1)
    assert within == TimeRange(0.4, 1.0)
    assert [within.covers(t) for t in (0.3999, 0.4, 0.9999, 1.0)] == [False, True, True, False]
    assert time_range(2, None).covers(1e9)
    assert time_range(None, 2).covers(0)
