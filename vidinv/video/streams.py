"""Which streams of a source go into an output, and how: copied, re-encoded, or left out.

Whether a container takes a stream is found by the real thing before the work: all of its packets go
into a container that is written to nowhere, from header to trailer.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import av
from av.error import FFmpegError
from av.stream import Disposition

from vidinv.video.info import TAG_ERRORS
from vidinv.video.sound import SOUND_ENCODERS, can_encode
from vidinv.video.timing import HAVE_EDIT_LISTS, PacketTimes, Span

# Sound that programs and devices play in a container; in others, whatever goes in. FFmpeg writes
# PCM into MP4 as ISO 23003-5 has it, which most of them take for noise or silence.
_COMMON = ("aac", "mp3", "mp2", "mp1", "ac3", "eac3", "alac")
_QUICKTIME = ("amr_nb", "amr_wb", "adpcm_ima_qt", "qdm2", "qcelp", "mace3", "mace6")
PLAYED_SOUND = {
    "mp4": (*_COMMON, "opus", "flac", "dts", "truehd", "mp4als"),
    "mov": (*_COMMON, *_QUICKTIME),
}
# More of a stream's packets than this share damaged: it is no stream of what it says.
MAX_BAD_SHARE = 0.5
# Takes any stream, and hands it to the muxer that it is told.
RELAY = "tee"


class Refused(Exception):
    """The output cannot be made as asked; the message is one line for the user."""


class How(enum.Enum):
    """What becomes of a stream."""

    COPY = "copy"
    ENCODE = "encode"
    COVER = "cover"  # attached to the file
    RETOLD = "retold"  # chapters and timecode, which the muxer writes from what the file says
    LEAVE = "leave"


@dataclass(frozen=True)
class Choice:
    """What becomes of one stream.

    Attributes:
        reason: why it is not copied, for the user.
        bad: numbers of its packets, counted from 0, that the container does not take.
        relayed: only through ``RELAY``.
    """

    how: How
    reason: str = ""
    bad: frozenset[int] = field(default_factory=frozenset)
    relayed: bool = False


def picture_stream(container: Any) -> Any:
    """The stream that is edited, or None: a cover picture is no video."""
    best = container.streams.best("video")
    if best is not None and not is_cover(best):
        return best
    return next((s for s in container.streams.video if not is_cover(s)), None)


def is_cover(stream: Any) -> bool:
    """A still picture that goes with the file, as of a song's album."""
    return bool(stream.disposition & (Disposition.attached_pic | Disposition.timed_thumbnails))


def codec_name(stream: Any) -> str:
    """FFmpeg's name of the codec (not of the decoder)."""
    context = stream.codec_context
    return "unknown" if context is None else context.codec.canonical_name


def choose_streams(
    path: str | None,
    format_name: str,
    *,
    picture: bool,
    shift: Fraction,
    span: Span | None = None,
    heartbeat: Callable[[], None] = lambda: None,
) -> dict[int, Choice]:
    """What becomes of each stream of ``path``, by index; of the picture only where asked.

    Args:
        picture: choose for the picture too, which is then copied.
        shift: added to all times, seconds.
        span: what is kept of the streams; None: all.
        heartbeat: called after each packet that is tried.
    """
    if path is None:
        return {}
    with av.open(path, metadata_errors=TAG_ERRORS) as source:
        chosen = {} if picture else {getattr(picture_stream(source), "index", None)}
        streams = [s for s in source.streams if s.index not in chosen]
        choices = {s.index: c for s in streams if (c := _without_trial(s, format_name))}
        trials = {
            stream.index: _Trial(stream, format_name)
            for stream in streams
            if stream.index not in choices
        }
        tried = [index for index, trial in trials.items() if trial.is_open]
        cut = format_name not in HAVE_EDIT_LISTS
        for packet in PacketTimes(source, tried, shift=shift, cut=cut, span=span):
            trials[packet.stream_index].take(packet)
            heartbeat()
        choices |= {index: trial.choice() for index, trial in trials.items()}
    return dict(sorted(choices.items()))


def describe(stream: Any, choice: Choice, format_name: str) -> str | None:
    """One line for the user about a stream that is not copied whole, or None."""
    name = f"stream {stream.index} ({stream.type}, {codec_name(stream)})"
    if choice.how is How.LEAVE:
        return f"{name} was left out: {format_name} cannot hold it ({choice.reason})"
    if choice.how is How.ENCODE:
        return f"{name} was re-encoded to {SOUND_ENCODERS[format_name].label}: {choice.reason}"
    if choice.bad:
        return f"{name}: damaged packets were left out ({len(choice.bad)})"
    return None


def _without_trial(stream: Any, format_name: str) -> Choice | None:
    if is_cover(stream):
        return _cover_choice(stream, format_name)
    if stream.type == "data" and stream.codec_context is None and _is_retold(stream, format_name):
        return Choice(How.RETOLD)
    if stream.type == "attachment":
        return None if format_name == "matroska" else Choice(How.LEAVE, "no attachments")
    played = PLAYED_SOUND.get(format_name)
    is_pcm = codec_name(stream).startswith("pcm_")
    if is_pcm and format_name == "mov":
        return None
    if stream.type == "audio" and played and codec_name(stream) not in played:
        keeps = "; .mov keeps it" if is_pcm else ""
        return _encoded(stream, format_name, f"few players play it in {format_name}{keeps}")
    return None


def _is_retold(stream: Any, format_name: str) -> bool:
    source = stream.container
    if "mov" not in source.format.name.split(","):
        return False
    is_timecode = "timecode" in stream.metadata
    return bool(is_timecode or source.chapters()) and format_name != "webm"


def _cover_choice(stream: Any, format_name: str) -> Choice:
    if format_name == "matroska":
        return Choice(How.COVER)
    if format_name in ("mp4", "mov") and codec_name(stream) in ("mjpeg", "png", "bmp"):
        return Choice(How.COPY)
    return Choice(How.LEAVE, "no cover picture of this kind")


def _encoded(stream: Any, format_name: str, reason: str) -> Choice:
    return Choice(How.ENCODE if can_encode(stream) else How.LEAVE, reason)


class Nowhere:
    """A file that forgets what is written."""

    def __init__(self) -> None:
        self._place = self._end = 0

    def write(self, data: Any) -> int:
        self._place += len(data)
        self._end = max(self._end, self._place)
        return len(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        self._place = offset + (0, self._place, self._end)[whence]
        return self._place

    def tell(self) -> int:
        return self._place


class _Trial:
    """One stream on its way into a container of its own."""

    def __init__(self, stream: Any, format_name: str) -> None:
        self._stream, self._format = stream, format_name
        self._output: Any = av.open(Nowhere(), "w", format=format_name, metadata_errors=TAG_ERRORS)
        self._count, self._refusal, self._relayed = 0, "", False
        self._bad: set[int] = set()
        try:
            self._copy = add_like(self._output, stream)
            self._output.start_encoding()
        except (FFmpegError, ValueError) as error:
            self._refusal = _words(error)
            # Matroska takes more than PyAV believes.
            self._relayed = format_name == "matroska" and not isinstance(error, FFmpegError)

    @property
    def is_open(self) -> bool:
        return not self._refusal

    def take(self, packet: Any) -> None:
        """Mux one packet."""
        packet.stream = self._copy
        try:
            self._output.mux_one(packet)
        except (FFmpegError, ValueError) as error:
            self._bad.add(self._count)
            self._reason = _words(error)
        self._count += 1

    def choice(self) -> Choice:
        """After the last packet."""
        if self.is_open:
            try:
                self._output.close()
            except (FFmpegError, ValueError) as error:
                self._refusal = _words(error)
        if len(self._bad) > MAX_BAD_SHARE * self._count:
            self._refusal = self._refusal or self._reason
        if self._relayed and self._stream.type in ("audio", "video"):
            return Choice(How.COPY, relayed=True)
        if self._refusal and self._stream.type == "audio":
            return _encoded(self._stream, self._format, self._refusal)
        if self._refusal:
            return Choice(How.LEAVE, self._refusal)
        return Choice(How.COPY, bad=frozenset(self._bad))


def add_like(output: Any, stream: Any) -> Any:
    """Add a stream of the same kind for its packets."""
    copy = output.add_stream_from_template(stream, opaque=True)
    copy.metadata.update(stream.metadata)
    name_track(copy)
    copy.disposition = stream.disposition
    tag_codec(copy, output.format.name, like=stream)
    return copy


def name_track(stream: Any) -> None:
    """FFmpeg reads a track's name in MP4 as ``name``, and writes it from ``title``."""
    if "name" in stream.metadata:
        stream.metadata.setdefault("title", stream.metadata["name"])


def tag_codec(stream: Any, format_name: str, *, like: Any = None) -> None:
    """The name by which players know the codec of a stream to be written.

    Apple's show H.265 in MP4 as hvc1 only, for which FFmpeg's default is hev1. Of ProRes, the name
    tells the profile, and whether there is alpha.

    Args:
        like: the stream whose packets it gets.
    """
    context = stream.codec_context
    if context is None or format_name not in ("mp4", "mov"):
        return
    if context.codec.canonical_name == "hevc":
        context.codec_tag = "hvc1"
    elif context.codec.canonical_name == "prores" and like is not None:
        context.codec_tag = like.codec_context.codec_tag


def needs_relay(choices: Mapping[int, Choice]) -> bool:
    """Some stream goes in through ``RELAY`` only."""
    return any(choice.relayed for choice in choices.values())


def _words(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
