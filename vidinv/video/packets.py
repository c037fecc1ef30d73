"""Copying encoded packets between containers: the same bytes at the same times of a player."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from fractions import Fraction
from math import lcm
from pathlib import Path
from typing import Any

import av

from vidinv.video.credentials_mark import LOST, has_credentials
from vidinv.video.info import TAG_ERRORS, VideoInfo
from vidinv.video.side_info import MUXER_TAGS, PICTURE_TAGS, needs_keys, what_is_lost
from vidinv.video.sound import SoundTrack
from vidinv.video.streams import (
    RELAY,
    Choice,
    How,
    Refused,
    add_like,
    choose_streams,
    codec_name,
    describe,
    is_cover,
    name_track,
    needs_relay,
    picture_stream,
)
from vidinv.video.timing import HAVE_EDIT_LISTS, PacketTimes, Span, clock_shift, preroll

MAX_TIMESCALE = 2**31 - 1
COPY_BYTES = 1 << 24


def muxer_options(
    format_name: str, info: VideoInfo | None, source: str | None, *, segment: bool = False
) -> dict[str, str]:
    """Options that keep timestamps exact and files reproducible, and let them play at once.

    MP4 states the start of each track in units of the movie timescale (1 ms by default) and would
    round it: the timescale becomes a common multiple of the tracks' own. Its index goes in front,
    so that a player need not have the end of the file before it starts.
    """
    # bitexact: no random ids, so that the same work gives the same bytes.
    options = {"avoid_negative_ts": "disabled", "fflags": "+bitexact"}
    if format_name not in ("mp4", "mov"):
        return options
    if not segment:
        options["movflags"] = "+faststart"
    scales = [] if info is None else [info.time_base.denominator]
    if info is not None and info.time_base.denominator <= MAX_TIMESCALE:
        options["video_track_timescale"] = str(info.time_base.denominator)
    if source is not None:
        with av.open(source, metadata_errors=TAG_ERRORS) as container:
            # They take the place of the boxes that a cover would be in.
            if needs_keys(container.metadata) and not any(map(is_cover, container.streams)):
                options["movflags"] = "+faststart+use_metadata_tags"
            scales += [s.time_base.denominator for s in container.streams if s.time_base]
    movie = lcm(1000, *scales)
    if movie <= MAX_TIMESCALE:
        options["movie_timescale"] = str(movie)
    return options


def open_output(
    path: str, format_name: str, options: dict[str, str], choices: dict[int, Choice]
) -> Any:
    """A container to write; see ``streams.RELAY``."""
    if not needs_relay(choices):
        return av.open(
            path,
            "w",
            format=format_name,
            container_options=options,
            metadata_errors=TAG_ERRORS,
        )
    said = ":".join(f"{name}={value}" for name, value in options.items())
    escaped = "".join(c if c.isalnum() or c in "/._-" else f"\\{c}" for c in path)
    return av.open(
        f"[f={format_name}:{said}]{escaped}", "w", format=RELAY, metadata_errors=TAG_ERRORS
    )


def source_plan(
    source: str | None,
    format_name: str,
    info: VideoInfo,
    heartbeat: Callable[[], None],
    *,
    cut: Mapping[str, Any] | None = None,
) -> tuple[Fraction, Span | None, dict[int, Choice]]:
    """Seconds to add to all times, which of these are kept, and what becomes of the streams beside
    the picture.

    Args:
        cut: fields of ``vidinv.video.Cut``; None keeps everything.
    """
    shift, span = Fraction(0), None
    if source is not None:
        with av.open(source, metadata_errors=TAG_ERRORS) as container:
            shift = clock_shift(container, info.time_base)
    if cut is not None:
        start = cut["start"]
        shift = shift if start is None else -start * info.time_base
        first = None if start is None else Fraction(0)
        span = Span(first, cut["end"] * info.time_base + shift)
    choices = choose_streams(
        source, format_name, picture=False, shift=shift, span=span, heartbeat=heartbeat
    )
    return shift, span, choices


class PacketCopier:
    """Feeds the other streams of a source into an output, in step with the new video.

    Args:
        choices: what becomes of each stream (``choose_streams``).
        shift: added to all times, seconds.
        span: what is kept of the streams; None: all.
        heartbeat: called after each packet.

    Attributes:
        warnings: what is not copied whole, one line each; complete after the last packet.
    """

    def __init__(
        self,
        source: Any,
        output: Any,
        *,
        format_name: str,
        choices: dict[int, Choice],
        shift: Fraction = Fraction(0),
        span: Span | None = None,
        heartbeat: Callable[[], None] = lambda: None,
    ) -> None:
        self.warnings: list[str] = []
        self._output, self._heartbeat, self._choices = output, heartbeat, choices
        self._streams: dict[int, Any] = {}
        self._sound: dict[int, SoundTrack] = {}
        self._counts = dict.fromkeys(choices, 0)
        for index, choice in choices.items():
            stream = source.streams[index]
            if choice.how is How.COPY:
                self._streams[index] = add_like(output, stream)
            elif choice.how is How.ENCODE:
                self._sound[index] = SoundTrack(stream, output, format_name)
            elif choice.how is How.COVER:
                _attach(stream, output)
            if said := describe(stream, choice, format_name):
                self.warnings.append(said)
        self._times: PacketTimes | None = None
        if source is not None:
            cut = format_name not in HAVE_EDIT_LISTS
            indices = [*self._streams, *self._sound]
            self._times = PacketTimes(source, indices, shift=shift, cut=cut, span=span)
        self._packets: Iterator[Any] = self._made(iter(self._times or ()))
        self._waiting: Any = None

    @classmethod
    def open(
        cls,
        source: str | None,
        output: Any,
        stack: ExitStack,
        *,
        format_name: str,
        choices: dict[int, Choice],
        shift: Fraction,
        span: Span | None = None,
        heartbeat: Callable[[], None] = lambda: None,
    ) -> PacketCopier:
        """Prepare to copy everything but the main picture; before the output's header."""
        container = None
        if source is not None:
            container = stack.enter_context(av.open(source, metadata_errors=TAG_ERRORS))
            copy_tags(container, output, picture_stream(container), shift, span)
        return cls(
            container,
            output,
            format_name=format_name,
            choices=choices,
            shift=shift,
            span=span,
            heartbeat=heartbeat,
        )

    def copy_until(self, seconds: Fraction | None) -> None:
        """Write the packets due before ``seconds`` of the video's decode time; None: all."""
        while True:
            packet = self._waiting or next(self._packets, None)
            self._waiting = packet
            if packet is None:
                self._finish()
                return
            if seconds is not None and packet.dts * packet.time_base > seconds:
                return
            self._waiting = None
            self._output.mux(packet)
            self._heartbeat()

    def _made(self, packets: Iterator[Any]) -> Iterator[Any]:
        """Packets of the output's streams."""
        for packet in packets:
            index = packet.stream_index
            number = self._counts[index]
            self._counts[index] += 1
            if index in self._sound:
                yield from self._sound[index].packets(packet)
            elif number not in self._choices[index].bad:
                packet.stream = self._streams[index]
                yield packet
        for track in self._sound.values():
            yield from track.packets(None)

    def _finish(self) -> None:
        """After the last packet: what was met on the way."""
        times, self._times = self._times, None
        if times is None:
            return
        for index, count in times.num_moved.items():
            self.warnings.append(
                f"stream {index}: packets whose times went back were moved behind others ({count})"
            )
        for index, track in self._sound.items():
            if track.num_bad:
                self.warnings.append(
                    f"stream {index}: damaged packets were left out ({track.num_bad})"
                )
        if times.num_shown:
            self.warnings.append(
                f"{times.num_shown} frames before the trimmed start are shown: the container "
                "cannot hide them"
            )
        if times.broke_off:
            self.warnings.append("the file breaks off: streams were copied up to there")


def _attach(stream: Any, output: Any) -> None:
    """Put a cover picture into a container that holds it as an attachment."""
    with av.open(stream.container.name, metadata_errors=TAG_ERRORS) as container:
        packets = container.demux(container.streams[stream.index])
        data = next((bytes(packet) for packet in packets if packet.size), b"")
    kind = {"mjpeg": "jpeg"}.get(codec_name(stream), codec_name(stream))
    name = stream.metadata.get("filename") or f"cover.{'jpg' if kind == 'jpeg' else kind}"
    output.add_attachment(name, stream.metadata.get("mimetype") or f"image/{kind}", data)


def copy_tags(
    source: Any,
    output: Any,
    picture: Any,
    shift: Fraction = Fraction(0),
    span: Span | None = None,
) -> None:
    """Title, comments, chapters; and the picture's own language and name."""
    tags = {k: v for k, v in source.metadata.items() if k.lower() not in MUXER_TAGS}
    output.metadata.update(tags)
    if chapters := source.chapters():
        for chapter in chapters:
            moved = round(shift / chapter["time_base"])
            chapter["start"], chapter["end"] = chapter["start"] + moved, chapter["end"] + moved
        output.set_chapters(chapters if span is None else _chapters_within(chapters, span))
    if picture is not None and output.streams.video:
        target = output.streams.video[0]
        target.metadata.update(
            {k: v for k, v in picture.metadata.items() if k.lower() in PICTURE_TAGS}
        )
        name_track(target)
        target.disposition = picture.disposition


def _chapters_within(chapters: list[Any], span: Span) -> list[Any]:
    """What of the chapters lies there."""
    for chapter in chapters:
        base = chapter["time_base"]
        chapter["end"] = min(chapter["end"], round(span.end / base))
        if span.start is not None:
            chapter["start"] = max(chapter["start"], round(span.start / base))
    return [chapter for chapter in chapters if chapter["start"] < chapter["end"]]


def add_comment(output: Any, comment: str | None) -> None:
    """Say ``comment`` behind what the source's own comment says, whatever its tag's case."""
    if comment is None:
        return
    name = next((k for k in output.metadata if k.lower() == "comment"), "comment")
    said = output.metadata.get(name)
    output.metadata[name] = f"{said} | {comment}" if said else comment


def copy_all(request: dict[str, Any], heartbeat: Callable[[], None]) -> list[str]:
    """Copy every stream into a new container, a ``heartbeat`` per packet; the warnings.

    A container of the same kind is the same file.
    """
    source_path, output_path, format_name = (request[k] for k in ("source", "output", "format"))
    with av.open(source_path, metadata_errors=TAG_ERRORS) as source:
        picture = picture_stream(source)
        if picture is None:
            raise Refused("the source has no video")
        if Path(source_path).suffix.lower() == request["suffix"] and _is_kind(source, format_name):
            _copy_bytes(source_path, output_path, heartbeat)
            return []
        shift = clock_shift(source, picture.time_base)
        if format_name not in HAVE_EDIT_LISTS:
            shift += preroll(source_path, picture.index)
        choices = choose_streams(
            source_path, format_name, picture=True, shift=shift, heartbeat=heartbeat
        )
        if choices[picture.index].how is not How.COPY:
            raise Refused(_refusal(source_path, picture, request["suffix"]))
        options = muxer_options(format_name, None, source_path)
        if format_name == "mp4":  # boxes that are in no standard, of spherical video and stereo
            options["strict"] = "unofficial"
        with open_output(output_path, format_name, options, choices) as output:
            copier = PacketCopier(
                source,
                output,
                format_name=format_name,
                choices=choices,
                shift=shift,
                heartbeat=heartbeat,
            )
            copy_tags(source, output, None, shift)
            copier.copy_until(None)
    lost = what_is_lost(source_path, output_path)
    if has_credentials(source_path):
        lost.append(f"{LOST}the copy is in another container, and not signed")
    return [*copier.warnings, *lost]


def _refusal(source_path: str, picture: Any, suffix: str) -> str:
    """Why a clip cannot be copied as it is, and what can be done."""
    said = f"{suffix} cannot hold the {codec_name(picture)} video of the source as it is"
    if suffix == ".mkv":
        return f"{said}; convert the source first, to .mkv or .mp4"
    choices = choose_streams(source_path, "matroska", picture=True, shift=Fraction(0))
    is_held = choices[picture.index].how is How.COPY
    return f"{said}; use .mkv" if is_held else f"{said}, nor can .mkv; convert the source first"


def _is_kind(source: Any, format_name: str) -> bool:
    return format_name in source.format.name.split(",")


def _copy_bytes(source_path: str, output_path: str, heartbeat: Callable[[], None]) -> None:
    with open(source_path, "rb") as source, open(output_path, "wb") as output:
        while data := source.read(COPY_BYTES):
            output.write(data)
            heartbeat()
