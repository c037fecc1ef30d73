"""Which frames the analysis of a clip looks at: all, or what an edit of a part of it needs.

Frames outside the window go by undecided: they only leave their times. Those of the clip before
and after the window count as shots of their own, without faces, so that chunks and segments are
placed there as anywhere, and an edit that begins or ends in the middle of a shot fades.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from vidinv.composing import halo_frames
from vidinv.editing.schedules import named_faces
from vidinv.errors import UsageError
from vidinv.faces import face_numbers
from vidinv.rendering import chunk_length
from vidinv.types import Analysis, EditSpec, Frame, TimeRange
from vidinv.video import Around, VideoInfo
from vidinv.video.part import seconds_of

# Landmarks are averaged over 12 frames on either side, crops of these over 18 more
# (vidinv.faces.smooth); the rest is for a face to be found and to settle.
MARGIN_FRAMES = 40


class AnalysisWindow:
    """Remembers the times of the frames that go by, and the lengths that their size decides.

    Args:
        spec: of the edit.
    """

    def __init__(self, info: VideoInfo, spec: EditSpec) -> None:
        self._info, self._within, self._around = info, spec.within, around_of(spec)
        self.chunk_frames = self.halo_frames = 1
        self._times: list[tuple[int, int]] = []
        self._first: int | None = None  # of the window

    def watch(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        """The frames of the window, of all frames of the clip."""
        for frame in frames:
            if not self._times:
                self.chunk_frames, self.halo_frames = chunk_length(frame), halo_frames(frame)
            self._times.append((frame.pts, frame.duration))
            seconds = self._seconds(frame.pts)
            if self._around is None or self._around.covers(seconds, self._info.average_rate):
                self._first = len(self._times) - 1 if self._first is None else self._first
                yield frame

    def times(self) -> npt.NDArray[np.int64]:
        """``[T, 2]``: pts and duration."""
        return np.array(self._times, np.int64).reshape(-1, 2)

    def edited(self) -> range:
        """Frames that are to be edited; UsageError where there are none."""
        frames = frames_within(self.times(), self._info, self._within)
        if self._within is None or frames:
            return frames
        start, last = self._within.start, self._seconds(self._times[-1][0])
        if start > last:
            raise UsageError(
                f"--start {start:g}: the last frame of {self._info.path} begins at {last:.3f} s"
            )
        raise UsageError(f"{self._info.path}: no frame begins {self._within}")

    def first_wanted(self) -> int:
        """The frame with which the range begins."""
        within = None if self._within is None else TimeRange(self._within.start)
        return frames_within(self.times(), self._info, within).start

    def placed(self, analysis: Analysis) -> Analysis:
        """An analysis of the window as one of the clip."""
        first, total = self._first or 0, len(self._times)
        after = first + analysis.num_frames
        ahead = ((0, first - 1),) if first else ()
        behind = ((after, total - 1),) if after < total else ()
        shots = tuple((start + first, end + first) for start, end in analysis.shots)
        tracks = tuple(
            replace(track, first=track.first + first, shot=track.shot + len(ahead))
            for track in analysis.tracks
        )
        return Analysis(total, (*ahead, *shots, *behind), tracks)

    def _seconds(self, pts: int) -> float:
        return seconds_of(pts, self._times[0][0], self._info.time_base)


def around_of(spec: EditSpec) -> Around | None:
    """The frames that the analysis for an edit looks at; None: all.

    People are numbered from the start of the clip, whatever part of it is edited.
    """
    if spec.within is None:
        return None
    by_number = bool(face_numbers(spec.face) or named_faces(spec.attributes))
    start = None if by_number else spec.within.start
    return Around(start, spec.within.end, MARGIN_FRAMES)


def searched_frames(times_T2: npt.NDArray[np.int64], info: VideoInfo, spec: EditSpec) -> range:
    """The frames that an analysis for ``spec`` looked at.

    Args:
        times_T2: pts and duration of every frame of the clip.
    """
    around = around_of(spec)
    if around is None:
        return range(len(times_T2))
    rate = info.average_rate
    return _frames_where(times_T2, info, lambda seconds: around.covers(seconds, rate))


def without_edges(analysis: Analysis, searched: range) -> Analysis:
    """With the shots that were seen: what ``AnalysisWindow.placed`` adds joins its neighbours."""
    edges = {searched.start, searched.stop}
    firsts = [first for first, _ in analysis.shots if first == 0 or first not in edges]
    ends = [*firsts[1:], analysis.num_frames]
    shots = tuple((first, end - 1) for first, end in zip(firsts, ends, strict=True))
    tracks = tuple(
        replace(track, shot=sum(first <= track.first for first in firsts) - 1)
        for track in analysis.tracks
    )
    return Analysis(analysis.num_frames, shots, tracks)


def frames_within(
    times_T2: npt.NDArray[np.int64], info: VideoInfo, within: TimeRange | None
) -> range:
    """The frames whose times lie in a range.

    Args:
        times_T2: pts and duration of every frame of the clip.
    """
    if within is None:
        return range(len(times_T2))
    return _frames_where(times_T2, info, within.covers)


def _frames_where(
    times_T2: npt.NDArray[np.int64], info: VideoInfo, covers: Callable[[float], bool]
) -> range:
    """From the first to the last frame whose time from the clip's start is covered."""
    start = int(times_T2[0, 0])
    inside = [
        number
        for number, pts in enumerate(times_T2[:, 0].tolist())
        if covers(seconds_of(pts, start, info.time_base))
    ]
    return range(inside[0], inside[-1] + 1) if inside else range(0)
