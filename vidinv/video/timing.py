"""Times of a file's packets as its player counts them: where they start, go on, and are told twice.

Readers and writers of one file use the same rules, so that picture and sound stay together.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from math import ceil
from typing import Any

import av
from av.error import FFmpegError
from av.stream import Discard, Disposition

from vidinv.video.info import TAG_ERRORS

# Muxers count in units of up to this, and want decode times that differ.
TICK_SECONDS = Fraction(1, 1000)
# Of containers whose times count from their start; those of broadcasts and raw streams go on from
# anywhere, and players show what comes first at 0.
COUNT_FROM_ZERO = ("mov", "matroska", "avi", "nut", "gif", "webp", "png", "image2")
# Containers that can hide what an edit list cuts away.
HAVE_EDIT_LISTS = ("mp4", "mov")
# Files that may be joined by putting one behind the other (FFmpeg's AVFMT_TS_DISCONT).
MAY_JUMP = ("mpegts", "mpeg", "hls")
MOST_REORDERED = 32  # pictures; H.264 and H.265 allow 16
# Times that go back by more than the first, or on by more than the second, are of another clock.
BACK_SECONDS, ON_SECONDS = Fraction(1, 2), Fraction(10)


def clock_shift(container: Any, time_base: Fraction) -> Fraction:
    """Seconds to add to a file's times for its player's clock, a multiple of ``time_base``.

    A file that counts from zero keeps its times; what lies before zero there is played too, unless
    it is cut away by an edit list.
    """
    first = earliest(container)
    kind = container.format.name.split(",")
    if any(name in COUNT_FROM_ZERO for name in kind):
        if first >= -TICK_SECONDS or "mov" in kind:
            return Fraction(0)
        first = _first_heard(container)
        if first >= -TICK_SECONDS:
            return Fraction(0)
    return ceil(-first / time_base) * time_base


def earliest(container: Any) -> Fraction:
    """When the first picture or sound of a file starts, seconds, as its header has it."""
    starts = [
        stream.start_time * stream.time_base
        for stream in container.streams
        if stream.type in ("video", "audio") and stream.start_time is not None
    ]
    return min(starts, default=Fraction(0))


def _first_heard(container: Any) -> Fraction:
    """Time of the first sample, seconds: encoders put some before that are never played."""
    with av.open(container.name, metadata_errors=TAG_ERRORS) as again:
        first: dict[int, Fraction] = {}
        streams = [s for s in again.streams if s.type in ("video", "audio")]
        for packet in again.demux(streams):
            index = packet.stream.index
            if packet.pts is not None and index not in first:
                skipped = _samples_skipped(packet)
                rate = getattr(packet.stream.codec_context, "sample_rate", None) or 1
                first[index] = packet.pts * packet.time_base + Fraction(skipped, rate)
            if len(first) == len(streams):
                break
    return min(first.values(), default=Fraction(0))


def _samples_skipped(packet: Any) -> int:
    """At its start (the first of AV_PKT_DATA_SKIP_SAMPLES's numbers)."""
    if not packet.has_sidedata("skip_samples"):
        return 0
    return int(struct.unpack_from("<I", bytes(packet.get_sidedata("skip_samples")))[0])


def may_jump(container: Any) -> bool:
    """Times of the file may start anew in the middle."""
    return container.format.name in MAY_JUMP


class Jumps:
    """Puts the times of parts that were joined into one row, the same for all streams.

    Feed it the packets of every stream, in file order.
    """

    def __init__(self) -> None:
        self._offsets = [Fraction(0)]
        self._part: dict[int, int] = {}
        self._end: dict[int, Fraction] = {}  # corrected, seconds
        self._raw: dict[int, Fraction] = {}
        self.found = False

    def corrected(self, packets: Iterable[Any]) -> Iterator[Any]:
        """Packets with their times in one row."""
        for packet in packets:
            if packet.size and (packet.dts is not None or packet.pts is not None):
                self._correct(packet)
            yield packet

    def _correct(self, packet: Any) -> None:
        index, base = packet.stream_index, packet.time_base
        raw = (packet.pts if packet.dts is None else packet.dts) * base
        if packet.stream.type in ("video", "audio"):
            part = self._part_of(index, raw)
            self._part[index], self._raw[index] = part, raw
        else:
            part = len(self._offsets) - 1
        offset = self._offsets[part]
        if offset:
            moved = round(offset / base)
            packet.pts = None if packet.pts is None else packet.pts + moved
            packet.dts = None if packet.dts is None else packet.dts + moved
        if packet.stream.type in ("video", "audio"):
            end = raw + offset + (packet.duration or 0) * base
            self._end[index] = max(end, self._end.get(index, end))

    def _part_of(self, index: int, raw: Fraction) -> int:
        part = self._part.get(index, len(self._offsets) - 1)
        if index not in self._raw or _goes_on(self._raw[index], raw):
            return part
        if part + 1 < len(self._offsets):
            return part + 1
        others = [o for o in self._raw if o != index and self._part[o] == part]
        if any(_goes_on(self._raw[other], raw) for other in others):
            return part  # a gap in this stream alone
        self.found = True
        self._offsets.append(max(self._end.values()) - raw)
        return part + 1


def _goes_on(before: Fraction, after: Fraction) -> bool:
    return -BACK_SECONDS <= after - before <= ON_SECONDS


@dataclass(frozen=True, slots=True)
class Span:
    """Seconds of an output's clock that it has of the streams beside the picture.

    Attributes:
        start: packets that begin earlier are left out, so that sound begins up to one of its frames
            late; None keeps what there is at the beginning.
        end: as are those that begin from there on.
    """

    start: Fraction | None
    end: Fraction

    def is_over(self, seconds: Fraction) -> bool:
        """Nothing of it comes any more, however a file interleaves its streams."""
        return seconds > self.end + ON_SECONDS


class PacketTimes:
    """Packets of some streams of an open file, with times that any container takes.

    Args:
        indices: of the streams.
        shift: added to all times, seconds (``clock_shift``).
        cut: leave out what the file's edit list cuts away, for containers that have none.
        span: what is kept; None: all.

    Attributes:
        num_moved: by stream, packets whose decode times were not after the one before.
        num_shown: pictures before the cut that later ones need: they are not left out.
        broke_off: the file could not be read to its end.
    """

    def __init__(
        self,
        source: Any,
        indices: Collection[int],
        *,
        shift: Fraction,
        cut: bool,
        span: Span | None = None,
    ) -> None:
        self._source, self._indices = source, set(indices)
        self._shift, self._cut, self._span = shift, cut, span
        self._begun: set[int] = set()  # streams of which something lies in the span
        self._last: dict[int, int] = {}
        self._preroll: dict[int, list[Any]] = {}
        self.num_moved: dict[int, int] = {}
        self.num_shown, self.broke_off = 0, False

    def __iter__(self) -> Iterator[Any]:
        """In file order, each with a decode time after the one before of its stream.

        Matroska stores no decode times, and FFmpeg leaves those before the first reordered frame
        open: they are counted back from the first one known.
        """
        if not self._indices:
            return
        waiting: dict[int, list[Any]] = {index: [] for index in self._indices}
        for packet in self._read():
            held = waiting[packet.stream.index]
            if packet.size and packet.dts is None and not _is_timeless(packet):
                held.append(packet)
                continue
            count_back(held, packet.dts)
            for ready in (*held, packet) if packet.size else held:
                yield from self._ready(ready)
            held.clear()
        for held in waiting.values():
            count_back(held, None)
            for packet in held:
                yield from self._ready(packet)

    def _read(self) -> Iterator[Any]:
        everything = may_jump(self._source)
        for stream in self._source.streams:
            if stream.index not in self._indices and not everything:
                stream.discard = Discard.all
        packets: Iterable[Any] = self._source.demux()
        if everything:
            packets = Jumps().corrected(packets)
        try:
            for packet in packets:
                if self._is_over(packet):
                    break
                if packet.stream.index in self._indices:
                    yield packet
        except FFmpegError:
            self.broke_off = True

    def _is_over(self, packet: Any) -> bool:
        if self._span is None or packet.dts is None:
            return False
        return self._span.is_over(packet.dts * packet.time_base + self._shift)

    def _ready(self, packet: Any) -> Iterator[Any]:
        for kept in self._uncut(packet) if self._cut else (packet,):
            self._place(kept)
            if self._span is None or self._is_within(kept, self._span):
                yield kept

    def _is_within(self, packet: Any, span: Span) -> bool:
        """Whether a packet, at its time in the output, is kept; its duration ends with the span."""
        index, is_sound = packet.stream_index, packet.stream.type == "audio"
        if packet.stream.disposition & Disposition.attached_pic:
            packet.pts = packet.dts = 0
            return True
        start = packet.pts * packet.time_base
        if start >= span.end or (span.start is not None and start < span.start):
            return False
        # A picture needs the ones before it, back to a keyframe.
        needs_more = packet.stream.type == "video" and not packet.is_keyframe
        if span.start is not None and index not in self._begun and needs_more:
            return False
        self._begun.add(index)
        if not is_sound and packet.duration:
            packet.duration = min(packet.duration, ceil((span.end - start) / packet.time_base))
        return True

    def _uncut(self, packet: Any) -> list[Any]:
        """Packets to go on with: none of those that are cut away, but what pictures need."""
        index, is_picture = packet.stream_index, packet.stream.type == "video"
        if packet.is_discard and index not in self._last:
            if is_picture:
                kept = [] if packet.is_keyframe else self._preroll.get(index, [])
                self._preroll[index] = [*kept, packet]
            return []
        before = self._preroll.pop(index, [])
        self.num_shown += len(before)
        return [*before, packet]

    def _place(self, packet: Any) -> None:
        index, base = packet.stream_index, packet.time_base
        if packet.dts is None:
            packet.dts = packet.pts = 0
        moved = round(self._shift / base)
        packet.dts += moved
        packet.pts = packet.dts if packet.pts is None else packet.pts + moved
        last = self._last.get(index)
        if last is not None and packet.dts <= last:
            packet.dts = last + ceil(TICK_SECONDS / base)
            packet.pts = max(packet.pts, packet.dts)
            self.num_moved[index] = self.num_moved.get(index, 0) + 1
        self._last[index] = packet.dts


def preroll(path: str, index: int) -> Fraction:
    """Seconds before zero of pictures that an edit list cuts away and later ones need.

    Matroska has no times before zero for pictures.
    """
    with av.open(path, metadata_errors=TAG_ERRORS) as source:
        packets = PacketTimes(source, [index], shift=Fraction(0), cut=True)
        first = [p.pts * p.time_base for p in islice(packets, MOST_REORDERED)]
        if not packets.num_shown:
            return Fraction(0)
    return max(Fraction(0), -min(first))


def ended_in_time(packets: Iterable[Any], format_name: str) -> Iterator[Any]:
    """A picture's packets; the last one decoded so late, and lasting so long, that the track ends
    when its last frame does.

    Readers of MP4 (FFmpeg's, for one) add up a track's length from one decode time to the next; of
    irregular times and reordered frames, the sum is that of other frames than are shown.
    """
    if format_name not in HAVE_EDIT_LISTS:
        yield from packets
        return
    held: Any = None
    first_dts = start = end = 0
    for packet in packets:
        shown_until = packet.pts + (packet.duration or 0)
        if held is None:
            first_dts, start, end = packet.dts, packet.pts, shown_until
        else:
            yield held
        start, end, held = min(start, packet.pts), max(end, shown_until), packet
    if held is None:
        return
    lead = start - first_dts
    dts = max(held.dts, held.pts - lead)
    if held.duration and dts < end - lead:
        held.dts, held.duration = dts, end - lead - dts
    yield held


def _is_timeless(packet: Any) -> bool:
    """A cover picture, which has no time."""
    return (
        packet.pts is None
        and not packet.stream.frames
        and packet.stream.disposition & Disposition.attached_pic
    )


def count_back(packets: list[Any], next_dts: int | None) -> None:
    """Give decode times to packets that come before the one at ``next_dts`` (None: no such)."""
    for packet in reversed(packets):
        step = max(1, packet.duration or 0)
        if next_dts is not None:
            packet.dts = next_dts - step
        else:
            packet.dts = packet.pts
        next_dts = packet.dts
