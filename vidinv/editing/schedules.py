"""What changes, whose, and how much over time: ``[INDEX:]NAME[=STRENGTH]`` as after ``--attr``.

``smile`` means strength 1, ``smile=-0.5`` a constant, and ``smile=0:0,2.5:1.5,4:0`` keyframes
(seconds:strength), linear between them and constant outside. ``1:smile`` is for face 1 alone
(``FaceTrack.person``), and goes before what all faces get. The parsed form is the one that
``vidinv.types.EditSpec.attributes`` holds.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from vidinv.errors import UsageError

Keyframes = tuple[tuple[float, float], ...]

DEFAULT_STRENGTH = 1.0  # docs/REFERENCES.md, "Directions and units"
_EXAMPLE = (
    "write NAME, NAME=STRENGTH or keyframes such as smile=0:0,2.5:1.5,4:0; "
    "INDEX:NAME=... for one face"
)


def parse_attribute(text: str) -> tuple[str, Keyframes]:
    """Parse one ``--attr`` value.

    Args:
        text: ``NAME``, ``NAME=STRENGTH`` or ``NAME=SECONDS:STRENGTH,...``; ``INDEX:`` before it.

    Returns:
        The name, with the face's number where there is one, and its keyframes (seconds,
        strength) in time order; one keyframe at 0 s stands for a constant.

    Raises:
        UsageError: wrong syntax, a number that is not finite, or times not in rising order.
    """
    name, separator, value = text.partition("=")
    name = _checked_name(name, text)
    if not separator:
        return name, ((0.0, DEFAULT_STRENGTH),)
    if ":" not in value:
        return name, ((0.0, _number(value, text)),)
    return name, _parse_keyframes(value, text)


def parse_attributes(texts: Iterable[str]) -> dict[str, Keyframes]:
    """Parse every ``--attr`` value of a run into ``EditSpec.attributes``.

    Raises:
        UsageError: as ``parse_attribute``, and when a name is given twice.
    """
    attributes: dict[str, Keyframes] = {}
    for text in texts:
        name, keyframes = parse_attribute(text)
        if name in attributes:
            raise _bad(text, f"{name!r} is given twice")
        attributes[name] = keyframes
    return attributes


def check_attributes(
    attributes: Mapping[str, float | Sequence[Sequence[float]]],
) -> dict[str, Keyframes]:
    """Validate attributes that come from Python: strengths, or keyframes as ``check_keyframes``.

    Raises:
        UsageError: as ``parse_attributes`` and ``check_keyframes``.
    """
    checked: dict[str, Keyframes] = {}
    for key, value in attributes.items():
        if not isinstance(key, str):
            raise UsageError(f"attributes: {key!r} is no name, such as 'smile' or '0:smile'")
        name = _checked_name(key, key)
        if name in checked:
            raise _bad(key, f"{name!r} is given twice")
        keyframes = [(0.0, value)] if isinstance(value, (int, float)) else value
        checked[name] = check_keyframes(keyframes, name=name)
    return checked


def face_and_name(key: str) -> tuple[int | None, str]:
    """``"1:age"`` is ``(1, "age")``; ``"age"``, which all faces get, is ``(None, "age")``."""
    number, colon, name = key.partition(":")
    return (int(number), name) if colon else (None, key)


def named_faces(attributes: Mapping[str, Keyframes]) -> list[int]:
    """Numbers of the faces that have attributes of their own, in rising order."""
    return sorted({face for face, _ in map(face_and_name, attributes) if face is not None})


def attributes_of(attributes: Mapping[str, Keyframes], face: int) -> dict[str, Keyframes]:
    """What an edited face gets, by plain name: what all get, and instead of it its own."""
    keys = [(*face_and_name(key), keyframes) for key, keyframes in attributes.items()]
    everyones = {name: keyframes for number, name, keyframes in keys if number is None}
    return {**everyones, **{name: keyframes for number, name, keyframes in keys if number == face}}


def check_keyframes(keyframes: Sequence[Sequence[float]], *, name: str) -> Keyframes:
    """Validate keyframes that come from Python rather than from text.

    Args:
        keyframes: (seconds, strength) pairs.
        name: the attribute, for messages.

    Raises:
        UsageError: no keyframes, not pairs, a number that is not finite, or times out of order.
    """
    shown = f"{name}={keyframes!r}"
    try:
        checked = tuple((_real(seconds), _real(strength)) for seconds, strength in keyframes)
    except OverflowError:  # an integer that no float holds
        raise _bad(f"{name}=...", "a number is not finite") from None
    except (TypeError, ValueError):
        raise _bad(shown, "keyframes are pairs (seconds, strength) of numbers") from None
    if not checked:
        raise _bad(shown, "there is no keyframe")
    if not all(math.isfinite(number) for pair in checked for number in pair):
        raise _bad(shown, "a number is not finite")
    _check_order(checked, shown)
    return checked


def strength_at(
    keyframes: Sequence[Sequence[float]], time_seconds: float | npt.ArrayLike
) -> float | npt.NDArray[np.float64]:
    """Strength at a time: linear between keyframes, constant before the first and after the last.

    Args:
        keyframes: (seconds, strength) pairs in time order, at least one.
        time_seconds: one time, or an array of times of any shape.

    Returns:
        A float for one time, else a float64 array of the same shape.
    """
    times, strengths = np.asarray(keyframes, np.float64).T
    values = np.interp(np.asarray(time_seconds, np.float64), times, strengths)
    return float(values) if np.ndim(time_seconds) == 0 else np.asarray(values)


def _checked_name(key: str, text: str) -> str:
    """``NAME`` or ``INDEX:NAME``, written in one way."""
    number, colon, name = (part.strip() for part in key.rpartition(":"))
    if not name:
        raise _bad(text, "the name is missing")
    if not colon:
        return name
    if not re.fullmatch(r"[0-9]{1,9}", number):
        raise _bad(text, f"{number!r} is no number of a face")
    return f"{int(number)}:{name}"


def _parse_keyframes(value: str, text: str) -> Keyframes:
    pairs = []
    for part in value.split(","):
        seconds, separator, strength = part.partition(":")
        if not separator:
            raise _bad(text, f"{part.strip()!r} is not SECONDS:STRENGTH")
        pairs.append((_number(seconds, text), _number(strength, text)))
    _check_order(pairs, text)
    return tuple(pairs)


def _check_order(pairs: Sequence[tuple[float, float]], text: str) -> None:
    times = [seconds for seconds, _ in pairs]
    if any(later <= earlier for earlier, later in pairwise(times)):
        raise _bad(text, "times must rise from one keyframe to the next")


def _real(value: Any) -> float:
    if isinstance(value, (str, bytes, bool)):  # float() takes them, nobody means them
        raise TypeError
    return float(value)


def _number(value: str, text: str) -> float:
    try:
        number = float(value)
    except ValueError:
        raise _bad(text, f"{value.strip()!r} is not a number") from None
    if not math.isfinite(number):
        raise _bad(text, f"{value.strip()!r} is not finite")
    return number


def _bad(text: str, reason: str) -> UsageError:
    return UsageError(f"--attr {text!r}: {reason}; {_EXAMPLE}")


def is_zero(attributes: Mapping[str, Keyframes]) -> bool:
    """Nothing is changed at any time."""
    return all(strength == 0 for keys in attributes.values() for _, strength in keys)


def as_plain(attributes: Mapping[str, Keyframes]) -> dict[str, Any]:
    """For JSON: a number for a constant strength, else the keyframes."""
    return {
        name: keys[0][1] if len(keys) == 1 else [list(key) for key in keys]
        for name, keys in attributes.items()
    }
