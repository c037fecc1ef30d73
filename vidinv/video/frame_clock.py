"""Times of decoded frames: those of the file, and others for frames to which it gives none."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction

import av

from vidinv.video.info import VideoInfo

# Frames without a time are kept until one that has one is decoded: as many as fit in here. Raw
# streams have no times at all, and are not waited for again.
WAITING_BYTES, MIN_WAITING = 1 << 27, 16

TimedFrame = tuple[av.VideoFrame, int]


class FrameClock:
    """Increasing times, in a clip's time base; made-up ones lie between those of the file.

    Args:
        starts_at: when anything in the file starts, seconds; no time is made up before it.

    Attributes:
        exact: every frame so far had a time of its own.
    """

    def __init__(self, info: VideoInfo, *, starts_at: Fraction = Fraction(0)) -> None:
        rate = info.average_rate or Fraction(25)
        self._step = max(1, round(1 / (rate * info.time_base)))
        self._start = round(starts_at / info.time_base)
        size = max(1, info.coded_width * info.coded_height * (4 if info.bit_depth > 8 else 2))
        self._most_waiting = max(MIN_WAITING, WAITING_BYTES // size)
        self._last: int | None = None
        self.exact = True

    def times(self, frames: Iterable[av.VideoFrame]) -> Iterator[TimedFrame]:
        """Each frame with its time."""
        waiting: list[av.VideoFrame] = []
        for frame in frames:
            if frame.pts is None and self._most_waiting:
                waiting.append(frame)
                if len(waiting) > self._most_waiting:
                    self._most_waiting = 0
                    yield from self._made_up(waiting, None)
                continue
            yield from self._made_up(waiting, frame.pts)
            yield frame, self._next(frame.pts)
        yield from self._made_up(waiting, None)

    def _next(self, pts: int | None) -> int:
        last = self._last
        if pts is None:
            time = 0 if last is None else last + self._step
        else:
            time = pts if last is None else max(pts, last + 1)  # encoders refuse two at one time
        self.exact = self.exact and time == pts
        self._last = time
        return time

    def _before(self, end: int, count: int) -> int:
        """Where to count from for ``count`` frames before the first that has a time, ``end``."""
        if end - self._step * count >= self._start:
            return end - self._step * (count + 1)
        return min(self._start, end) - 1

    def _made_up(self, frames: list[av.VideoFrame], end: int | None) -> Iterator[TimedFrame]:
        """Times for ``frames``, all before ``end``."""
        count, last = len(frames), self._last
        for number, frame in enumerate(frames):
            if end is None:
                time = self._next(None)
            else:
                start = self._before(end, count) if last is None else last
                time = self._next(start + (end - start) * (number + 1) // (count + 1))
            self.exact = False
            yield frame, time
        frames.clear()
