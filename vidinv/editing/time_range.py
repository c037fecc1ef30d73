"""Times of a clip as people write them: ``--start`` and ``--end``, in seconds or as a clock."""

from __future__ import annotations

import math
import re

from vidinv.errors import UsageError
from vidinv.types import TimeRange

Time = float | str

_CLOCK = re.compile(r"(?:(\d+):)?(\d+):(\d+(?:\.\d*)?)", re.ASCII)


def parse_seconds(value: Time, *, name: str) -> float:
    """Seconds of ``83.5``, ``"83.5"``, ``"1:23.5"`` (MM:SS) or ``"0:01:23.5"`` (HH:MM:SS).

    Args:
        name: of the option, for messages.

    Raises:
        UsageError: not such a time, or a negative one.
    """
    clock = _CLOCK.fullmatch(value.strip()) if isinstance(value, str) else None
    if clock is not None:
        hours, minutes, seconds = int(clock[1] or 0), int(clock[2]), float(clock[3])
        if seconds >= 60 or (clock[1] and minutes >= 60):
            raise UsageError(f"{name} {value}: minutes and seconds of a clock end at 59")
        return hours * 3600 + minutes * 60 + seconds
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise UsageError(f"{name} {value}: give seconds or [HH:]MM:SS, for instance 83.5 or 1:23.5")
    if number < 0:
        raise UsageError(f"{name} {value}: times count from the clip's first frame, at 0")
    return number


def time_range(start: Time | None, end: Time | None) -> TimeRange | None:
    """What ``--start`` and ``--end`` say; None where both are None: the whole clip.

    Raises:
        UsageError: as ``parse_seconds``, and where nothing lies between the two.
    """
    if start is None and end is None:
        return None
    first = 0.0 if start is None else parse_seconds(start, name="--start")
    last = None if end is None else parse_seconds(end, name="--end")
    if last is not None and last <= first:
        begin = "0" if start is None else start
        raise UsageError(f"--end {end}: not after --start {begin}")
    return TimeRange(first, last)
