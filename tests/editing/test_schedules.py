"""Strength over time as typed after ``--attr``."""

from __future__ import annotations

import numpy as np
import pytest

from vidinv.editing.schedules import (
    attributes_of,
    check_attributes,
    check_keyframes,
    named_faces,
    parse_attribute,
    parse_attributes,
    strength_at,
)
from vidinv.errors import UsageError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("smile", ("smile", ((0.0, 1.0),))),
        ("smile=-0.5", ("smile", ((0.0, -0.5),))),
        (" smile = 2 ", ("smile", ((0.0, 2.0),))),
        ("smile=0:0,2.5:1.5,4:0", ("smile", ((0.0, 0.0), (2.5, 1.5), (4.0, 0.0)))),
        ("mouth_open=1e1:-1", ("mouth_open", ((10.0, -1.0),))),
        ("1:smile", ("1:smile", ((0.0, 1.0),))),
        (" 01 : smile = -2", ("1:smile", ((0.0, -2.0),))),
        ("12:smile=0:0,2:1", ("12:smile", ((0.0, 0.0), (2.0, 1.0)))),
    ],
)
def test_parse_attribute(text, expected):
    assert parse_attribute(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "", "=1", "smile=", "smile=much", "smile=nan", "smile=inf", "smile=1,2", "smile=0:0,",
        "smile=0:0,2.5", "smile=0:0:1", "smile=0:nan", "smile=inf:1", "smile=2:0,1:1",
        "smile=1:0,1:1", "smile=1=2", "smile=:", "smile=0:", "smile:1", ":smile", "1:", "-1:smile",
        "1.0:smile", "0:1:smile", "\u0661:smile",
    ],
)  # fmt: skip
def test_parse_attribute_fails(text):
    with pytest.raises(UsageError) as caught:
        parse_attribute(text)
    assert repr(text) in str(caught.value)
    assert "smile=0:0,2.5:1.5,4:0" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_parse_attributes_keeps_order():
    assert list(parse_attributes(["smile", "age=0.5"])) == ["smile", "age"]


def test_parse_attributes_fails_for_a_name_given_twice():
    with pytest.raises(UsageError, match="'smile' is given twice"):
        parse_attributes(["smile=1", "age", "smile=2"])


def test_attributes_of_a_face_go_before_those_of_all():
    attributes = parse_attributes(["0:age=2", "smile", "age=1", "2:smile=-1", "2:yaw"])
    assert named_faces(attributes) == [0, 2]
    one, minus, two = ((0.0, 1.0),), ((0.0, -1.0),), ((0.0, 2.0),)
    assert attributes_of(attributes, 0) == {"smile": one, "age": two}
    assert attributes_of(attributes, 1) == {"smile": one, "age": one}
    assert attributes_of(attributes, 2) == {"smile": minus, "age": one, "yaw": one}


def test_check_attributes():
    checked = check_attributes({"smile": 1, "0:age": [(0, 0), (2, 1)]})
    assert checked == {"smile": ((0.0, 1.0),), "0:age": ((0.0, 0.0), (2.0, 1.0))}
    with pytest.raises(UsageError, match="'0:age' is given twice"):
        check_attributes({"0:age": 1, "00:age": 1})
    with pytest.raises(UsageError, match="'ann' is no number of a face"):
        check_attributes({"ann:age": 1})


def test_check_keyframes():
    assert check_keyframes([[0, 1], (2, 0)], name="smile") == ((0.0, 1.0), (2.0, 0.0))


@pytest.mark.parametrize(
    "keyframes",
    [
        *([], [(0, 1, 2)], [(0, 1), (0, 2)], [(1, 1), (0, 2)], [(0, float("nan"))], [1.0]),
        *([("a", 1)], ["12"], [("0", 1)], [(0, True)], [(0, 10**400)]),
    ],
)
def test_check_keyframes_fails(keyframes):
    with pytest.raises(UsageError, match="smile="):
        check_keyframes(keyframes, name="smile")


@pytest.mark.parametrize(
    ("seconds", "expected"), [(-1, 0.0), (0, 0.0), (1.25, 0.75), (2.5, 1.5), (3.25, 0.75), (9, 0.0)]
)
def test_strength_is_linear_between_and_constant_outside(seconds, expected):
    _, keyframes = parse_attribute("smile=0:0,2.5:1.5,4:0")
    value = strength_at(keyframes, seconds)
    assert isinstance(value, float)
    assert value == pytest.approx(expected)


def test_strength_of_many_times_at_once():
    values = strength_at(((1.0, 2.0), (3.0, 4.0)), np.array([[0.0, 2.0], [3.0, 5.0]]))
    assert np.array_equal(values, [[2.0, 3.0], [4.0, 4.0]])


def test_one_keyframe_is_a_constant():
    assert np.array_equal(strength_at(((0.0, -0.5),), [-5, 0, 7]), [-0.5] * 3)
