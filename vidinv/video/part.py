"""What of a clip a reader is asked for, where it is read from its start: how far, whose pictures.

Times are in seconds from the clip's first frame.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeVar

T = TypeVar("T")
_USUAL_RATE = Fraction(25)
_HIGHEST_RATE = 240  # of cameras; some WebM say 1000, whatever their frames' times


@dataclass(frozen=True, slots=True)
class Until:
    """Where reading ends, if the clip does not end before.

    Attributes:
        start: frames from there on count.
        count: how many of these are read, after all before them.
    """

    start: float
    count: int

    def cut(self, timed: Iterable[tuple[T, int]], time_base: Fraction) -> Iterator[tuple[T, int]]:
        """Frames with their times (pts), up to the last one."""
        left, first = self.count, None
        for frame, pts in timed:
            yield frame, pts
            first = pts if first is None else first
            left -= seconds_of(pts, first, time_base) >= self.start
            if left == 0:
                return


@dataclass(frozen=True, slots=True)
class Around:
    """Frames whose pictures are needed: those from ``start`` to ``end``, and some on either side.

    Attributes:
        start, end: None is that of the clip.
        margin_frames: so many before and after, at the clip's average rate, or at 25 a second
            where it is unknown or made up.
    """

    start: float | None
    end: float | None
    margin_frames: int = 0

    def covers(self, seconds: float, rate: Fraction | None) -> bool:
        """Whether a frame is among them; ``rate`` of the clip, where it is known."""
        if rate is None or not 0 < rate <= _HIGHEST_RATE:
            rate = _USUAL_RATE
        margin = float(self.margin_frames / rate)
        if self.start is not None and seconds < self.start - margin:
            return False
        return self.end is None or seconds < self.end + margin


def seconds_of(pts: int, first_pts: int, time_base: Fraction) -> float:
    """Of a frame, counted from the clip's first one: exact before it is a float, as 0.4 s is."""
    return float((pts - first_pts) * time_base)
