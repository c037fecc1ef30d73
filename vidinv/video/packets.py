"""Copying encoded packets between containers, unchanged in bytes and timestamps."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from fractions import Fraction
from math import lcm
from typing import Any

import av
from av.error import FFmpegError

from vidinv.video.info import TAG_ERRORS, VideoInfo

# Written by the muxer itself.
MUXER_TAGS = {"encoder", "major_brand", "minor_version", "compatible_brands"}
MAX_TIMESCALE = 2**31 - 1


def muxer_options(format_name: str, info: VideoInfo | None, source: str | None) -> dict[str, str]:
    """Options that keep timestamps exact and files reproducible.

    MP4 states the start of each track in units of the movie timescale (1 ms by default) and would
    round it: the timescale becomes a common multiple of the tracks' own.
    """
    # bitexact: no random ids, so that the same work gives the same bytes.
    options = {"avoid_negative_ts": "disabled", "fflags": "+bitexact"}
    if format_name not in ("mp4", "mov"):
        return options
    scales = [] if info is None else [info.time_base.denominator]
    if info is not None and info.time_base.denominator <= MAX_TIMESCALE:
        options["video_track_timescale"] = str(info.time_base.denominator)
    if source is not None:
        with av.open(source, metadata_errors=TAG_ERRORS) as container:
            scales += [s.time_base.denominator for s in container.streams if s.time_base]
    movie = lcm(1000, *scales)
    if movie <= MAX_TIMESCALE:
        options["movie_timescale"] = str(movie)
    return options


class Refused(Exception):
    """The output cannot be made as asked; the message is one line for the user."""


class PacketCopier:
    """Feeds the other streams of a source into an output, in step with the new video.

    Args:
        skip: index of the stream that is not copied.
        heartbeat: called after each packet.

    Attributes:
        warnings: streams that the container does not take, one line each.
    """

    def __init__(
        self,
        source: Any,
        output: Any,
        *,
        skip: int | None,
        heartbeat: Callable[[], None] = lambda: None,
    ) -> None:
        self.warnings: list[str] = []
        self._output, self._heartbeat = output, heartbeat
        self._streams = _add_streams(source, output, skip, self.warnings)
        self._packets = _packets(source, self._streams)
        self._waiting: Any = None

    @classmethod
    def open(
        cls,
        source: str | None,
        output: Any,
        stack: ExitStack,
        heartbeat: Callable[[], None] = lambda: None,
    ) -> PacketCopier:
        """Prepare to copy everything but the main picture; before the output's header."""
        if source is None:
            return cls(None, output, skip=None, heartbeat=heartbeat)
        container = stack.enter_context(av.open(source, metadata_errors=TAG_ERRORS))
        picture: Any = container.streams.best("video")
        copy_tags(container, output, picture)
        return cls(container, output, skip=picture.index, heartbeat=heartbeat)

    def takes(self, index: int) -> bool:
        """The source's stream ``index`` is among those copied."""
        return index in self._streams

    def copy_until(self, seconds: Fraction | None) -> None:
        """Write the packets due before ``seconds`` of the video's decode time; None: all."""
        while True:
            packet = self._waiting or next(self._packets, None)
            self._waiting = packet
            if packet is None:
                return
            if seconds is not None and packet.dts * packet.time_base > seconds:
                return
            self._waiting = None
            packet.stream = self._streams[packet.stream_index]
            self._output.mux(packet)
            self._heartbeat()


def copy_tags(source: Any, output: Any, picture: Any) -> None:
    """Title, comments, chapters; and the picture's own language and name."""
    tags = {k: v for k, v in source.metadata.items() if k.lower() not in MUXER_TAGS}
    output.metadata.update(tags)
    if source.chapters():
        output.set_chapters(source.chapters())
    if picture is not None and output.streams.video:
        target = output.streams.video[0]
        target.metadata.update(
            {
                k: v
                for k, v in picture.metadata.items()
                if k in ("language", "handler_name", "title")
            }
        )
        target.disposition = picture.disposition


def add_comment(output: Any, comment: str | None) -> None:
    """Say ``comment`` behind what the source's own comment says, whatever its tag's case."""
    if comment is None:
        return
    name = next((k for k in output.metadata if k.lower() == "comment"), "comment")
    said = output.metadata.get(name)
    output.metadata[name] = f"{said} | {comment}" if said else comment


def copy_all(
    source_path: str, output_path: str, format_name: str, heartbeat: Callable[[], None]
) -> list[str]:
    """Copy every stream into a new container, a ``heartbeat`` per packet; the warnings."""
    with av.open(source_path, metadata_errors=TAG_ERRORS) as source:
        picture = source.streams.best("video")
        options = muxer_options(format_name, None, source_path)
        with av.open(
            output_path,
            "w",
            format=format_name,
            container_options=options,
            metadata_errors=TAG_ERRORS,
        ) as output:
            copier = PacketCopier(source, output, skip=None, heartbeat=heartbeat)
            if picture is None or not copier.takes(picture.index):
                raise Refused(f"{format_name} cannot hold the video of the source; use .mkv")
            copy_tags(source, output, picture)
            copier.copy_until(None)
    return copier.warnings


def _add_streams(source: Any, output: Any, skip: int | None, warnings: list[str]) -> dict[int, Any]:
    """Add what the container takes; return output streams by source index."""
    added: dict[int, Any] = {}
    for stream in source.streams if source else ():
        if stream.index == skip:
            stream.discard = av.stream.Discard.all
        elif reason := _refusal(stream, output.format.name):
            codec = stream.codec_context.name if stream.codec_context else "unknown"
            warnings.append(
                f"stream {stream.index} ({stream.type}, {codec}) was left out: "
                f"{output.format.name} cannot hold it ({reason})"
            )
            stream.discard = av.stream.Discard.all
        else:
            added[stream.index] = _add_like(output, stream)
    return added


def _add_like(output: Any, stream: Any) -> Any:
    copy = output.add_stream_from_template(stream, opaque=True)
    copy.metadata.update(stream.metadata)
    copy.disposition = stream.disposition
    return copy


def _refusal(stream: Any, format_name: str) -> str | None:
    """Why the container does not take a stream, found by writing a header to memory."""
    if stream.type == "attachment" and format_name != "matroska":
        return "no attachments"
    try:
        trial = av.open(io.BytesIO(), "w", format=format_name, metadata_errors=TAG_ERRORS)
        _add_like(trial, stream)
        trial.start_encoding()
        trial.close()
    except (FFmpegError, ValueError) as error:
        return getattr(error, "strerror", None) or str(error)
    return None


def _packets(source: Any, streams: dict[int, Any]) -> Iterator[Any]:
    """Packets in file order, each with a decode time.

    Matroska stores no decode times, and FFmpeg leaves those before the first reordered frame open:
    they are counted back from the first one known.
    """
    if not streams:
        return
    waiting: dict[int, list[Any]] = {index: [] for index in streams}
    for packet in source.demux(*(source.streams[index] for index in streams)):
        held = waiting[packet.stream.index]  # the empty last packet has no stream_index
        is_end = packet.dts is None and packet.pts is None
        if packet.dts is None and not is_end:
            held.append(packet)
            continue
        _count_back(held, packet.dts)
        yield from held
        held.clear()
        if not is_end:
            yield packet


def _count_back(packets: list[Any], next_dts: int | None) -> None:
    """Give decode times to packets that come before the one at ``next_dts`` (None: no such)."""
    for packet in reversed(packets):
        packet.dts = packet.pts if next_dts is None else next_dts - max(1, packet.duration or 0)
        next_dts = packet.dts
