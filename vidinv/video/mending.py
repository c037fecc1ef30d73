"""Decoding a file that is not whole: an error, or the last good picture for what is lost."""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from typing import Any

import av
from av.error import FFmpegError

from vidinv.video.integrity import Damage

OPTION = "--on-error skip holds the last good picture where one is lost, and keeps the rest"


class Mending:
    """Decodes packets of one stream.

    Args:
        time_base: of the stream.
        decode: frames of a packet; None: as its stream does.
        skips: go on after damage; else it is raised.

    Attributes:
        num_held: pictures that were lost, each with the last good one in its place.
    """

    def __init__(
        self,
        time_base: Fraction | None,
        *,
        decode: Callable[[Any], list[av.VideoFrame]] | None = None,
        skips: bool,
    ) -> None:
        self._skips, self._base = skips, time_base or Fraction(1, av.time_base)
        self._decode = decode or (lambda packet: packet.decode())
        self._num_frames, self._last_seconds = 0, 0.0
        self._damage: list[Damage] = []
        self._num_hints = 0
        self._due: list[int] = []  # times of packets whose picture is not out yet, rising
        self.num_held = 0

    def meet(self, damage: Damage) -> None:
        """Raise it with the way out, or remember it."""
        if not self._skips:
            raise Damage(f"{damage}; {OPTION}")
        self._damage.append(damage)

    def frames(self, packets: Iterable[Any]) -> Iterator[av.VideoFrame]:
        """Frames in display order.

        Raises:
            Damage: at the first packet or frame that is not whole, unless it ``skips``. What a
                demuxer thinks of a packet is a hint: frames that decode whole are whole.
        """
        decodable, good = False, None
        for packet in self._readable(packets):
            # A recording may start between keyframes: nothing before the first one can be decoded.
            decodable = decodable or packet.is_keyframe
            if packet.size and packet.pts is not None and decodable and not packet.is_discard:
                bisect.insort(self._due, packet.pts)
            self._num_hints += packet.is_corrupt
            for frame in self._decoded(packet, decodable):
                if frame.is_corrupt:
                    self.meet(Damage.after(self._num_frames, self._last_seconds))
                    continue
                yield from self._held(good, before=frame.pts)
                self._num_frames += 1
                self._last_seconds = frame.time or self._last_seconds
                yield frame
                good = frame

    def _readable(self, packets: Iterable[Any]) -> Iterator[Any]:
        try:
            yield from packets
        except FFmpegError:
            if not self._skips or not self._num_frames:
                raise
            self._damage.append(Damage.after(self._num_frames, self._last_seconds))

    def _decoded(self, packet: Any, decodable: bool) -> list[av.VideoFrame]:
        try:
            frames = self._decode(packet)
        except FFmpegError:
            if decodable:
                self.meet(Damage.after(self._num_frames, self._last_seconds))
            return []
        return frames

    def _held(self, good: av.VideoFrame | None, *, before: int | None) -> Iterator[av.VideoFrame]:
        """The last good picture at the times of those that were lost before ``before``."""
        if before is None:
            return
        place = bisect.bisect_left(self._due, before)
        lost, self._due = self._due[:place], self._due[place:]
        if self._due and self._due[0] == before:
            self._due.pop(0)
        if not self._damage or good is None:
            return
        for pts in lost:
            if good.pts is None or pts > good.pts:
                self.num_held += 1
                self._num_frames += 1
                good.pts = pts
                yield good

    def notes(self) -> list[str]:
        """What a person should know, after the last frame."""
        if self._damage:
            held = f"frames lost, the last good picture in their place: {self.num_held}"
            return [f"the file {self._damage[0]}; {held}"]
        if self._num_hints:
            return [f"the file has broken packets ({self._num_hints}), but every frame decoded"]
        return []
