"""Whole pictures of interlaced frames, whose lines were taken at two times.

BWDIF ("Bob Weaver Deinterlacing Filter", the W3FDIF of BBC R&D with the motion checks of yadif) as
FFmpeg has it, one picture a frame. It looks at the frames before and after, and at no others.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

import av
from av.error import BlockingIOError as NothingYet
from av.error import EOFError as NoMore
from av.filter import Graph

OPTIONS = "mode=send_frame:parity=auto:deint=interlaced"
NOTE = "the clip is interlaced: edited frames are deinterlaced, and written progressive"


class Deinterlacer:
    """Passes progressive frames on; ``has_met_fields`` tells whether there were others."""

    def __init__(self) -> None:
        self.has_met_fields = False

    def frames(self, frames: Iterable[av.VideoFrame]) -> Iterator[av.VideoFrame]:
        """The frames, with their times and as many; interlaced ones deinterlaced."""
        before: av.VideoFrame | None = None
        fields: _Fields | None = None
        for frame in frames:
            if fields is not None and not fields.takes(frame):
                yield from fields.rest()
                before = fields = None
            if fields is None and frame.interlaced_frame:
                self.has_met_fields = True
                fields = _Fields(frame)
                if before is not None and fields.takes(before):
                    fields.look_at(before)
            if fields is not None:
                yield from fields.put(frame)
            else:
                before = frame
                yield frame
        if fields is not None:
            yield from fields.rest()


class _Fields:
    """The filter, for frames of one size and format."""

    def __init__(self, first: av.VideoFrame) -> None:
        self._shape = _shape(first)
        self._waiting: deque[tuple[int | None, int, Any]] = deque()
        self._passed = 0
        self._graph = Graph()
        source = self._graph.add_buffer(
            width=first.width,
            height=first.height,
            format=first.format,
            time_base=first.time_base,
        )
        nodes = source, self._graph.add("bwdif", OPTIONS), self._graph.add("buffersink")
        self._graph.link_nodes(*nodes).configure()
        self._number = 0

    def takes(self, frame: av.VideoFrame) -> bool:
        """Whether a frame goes through this filter."""
        return _shape(frame) == self._shape

    def look_at(self, frame: av.VideoFrame) -> None:
        """Take in a frame that was passed on already."""
        self._passed += 1
        self._push(frame)

    def put(self, frame: av.VideoFrame) -> Iterator[av.VideoFrame]:
        """Take in the next frame; those that are ready."""
        self._push(frame)
        yield from self._ready()

    def rest(self) -> Iterator[av.VideoFrame]:
        """What is left when no frame follows."""
        self._graph.vpush(None)
        yield from self._ready()

    def _push(self, frame: av.VideoFrame) -> None:
        pts = frame.pts
        self._waiting.append((pts, frame.duration or 0, frame.time_base))
        # Times of the clip may be missing or fall back: the filter gets a count.
        frame.pts, self._number = self._number, self._number + 1
        self._graph.vpush(frame)
        frame.pts = pts  # whoever gave it may look at it again

    def _ready(self) -> Iterator[av.VideoFrame]:
        while True:
            try:
                frame: Any = self._graph.vpull()
            except (NothingYet, NoMore):
                return
            pts, duration, time_base = self._waiting.popleft()
            if self._passed:
                self._passed -= 1
                continue
            frame.pts, frame.duration, frame.time_base = pts, duration, time_base
            yield frame


def _shape(frame: av.VideoFrame) -> tuple[int, int, str]:
    return frame.width, frame.height, frame.format.name
