"""Re-encoding sound that a container does not hold, or that players do not play there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
from av.error import FFmpegError


@dataclass(frozen=True)
class SoundEncoder:
    """What sound is re-encoded with.

    Attributes:
        rates: sample rates in Hz that it takes, rising.
        frame_samples: length of its frames.
        bits_per_second: for each channel.
    """

    name: str
    label: str
    rates: tuple[int, ...]
    frame_samples: int
    bits_per_second: int


_AAC = SoundEncoder(
    "aac",
    "AAC",
    (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000),
    1024,
    96_000,
)
_OPUS = SoundEncoder("libopus", "Opus", (8000, 12000, 16000, 24000, 48000), 960, 64_000)
SOUND_ENCODERS = {"mp4": _AAC, "mov": _AAC, "matroska": _AAC, "webm": _OPUS}

# By number of channels, where the file does not say what they are or says it is something else.
LAYOUTS = {1: "mono", 2: "stereo", 3: "2.1", 4: "4.0", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}


def can_encode(stream: Any) -> bool:
    """The stream is sound that can be decoded."""
    context = stream.codec_context
    return stream.type == "audio" and context is not None and bool(context.sample_rate)


class SoundTrack:
    """One stream of an output, made anew from packets of the source's.

    Args:
        source: the stream of the source.
    """

    def __init__(self, source: Any, output: Any, format_name: str) -> None:
        how = SOUND_ENCODERS[format_name]
        context = source.codec_context
        rate = next((r for r in how.rates if r >= context.sample_rate), how.rates[-1])
        channels = context.layout.nb_channels
        layout = LAYOUTS.get(channels, "stereo")
        self._stream = output.add_stream(how.name, rate=rate)
        self._stream.codec_context.layout = layout
        self._stream.codec_context.bit_rate = how.bits_per_second * min(channels, 8)
        self._stream.time_base = Fraction(1, rate)
        self._stream.metadata.update(source.metadata)
        self._stream.disposition = source.disposition
        self._source, self._layout = source, layout
        self._resampler = av.AudioResampler(
            self._stream.codec_context.format, layout, rate, how.frame_samples
        )
        self._next: int | None = None
        self.num_bad = 0

    def packets(self, packet: Any | None) -> Iterator[Any]:
        """What comes of one packet of the source; None: of the end."""
        for frame in self._decoded(packet):
            is_first = self._next is None
            frame.pts = self._place(frame)
            # Muxers hide what an encoder puts in front of the sound only where that lies before 0.
            if is_first:
                for silent in _silence(frame, before=frame.pts):
                    for resampled in self._resampler.resample(silent):
                        yield from self._stream.encode(resampled)
            for resampled in self._resampler.resample(frame):
                yield from self._stream.encode(resampled)
        if packet is None:
            for resampled in self._resampler.resample(None):
                yield from self._stream.encode(resampled)
            yield from self._stream.encode(None)

    def _decoded(self, packet: Any | None) -> Iterator[Any]:
        try:
            yield from self._source.codec_context.decode(packet)
        except FFmpegError:
            self.num_bad += 1

    def _place(self, frame: Any) -> int:
        """Time in samples of the source: counted on, unless the source leaves a gap."""
        rate, expected = frame.sample_rate, self._next
        frame_time = None if frame.pts is None else frame.pts * frame.time_base
        frame.time_base = Fraction(1, rate)
        place = 0 if expected is None else expected
        if frame_time is not None:
            stated = round(frame_time * rate)
            # Times in ms jitter by less than this; a resampler would fill it with clicks.
            if expected is None or abs(stated - expected) > rate // 20:
                place = stated
        self._next = place + frame.samples
        return place


def _silence(like: Any, *, before: int) -> Iterator[Any]:
    """Frames from time 0 to ``before``, both in samples."""
    for start in range(0, before, like.sample_rate):
        count = min(like.sample_rate, before - start)
        frame = av.AudioFrame(format=like.format.name, layout=like.layout.name, samples=count)
        middle = b"\x80" if like.format.name in ("u8", "u8p") else b"\0"
        for plane in frame.planes:
            plane.update(middle * plane.buffer_size)
        frame.sample_rate, frame.pts = like.sample_rate, start
        frame.time_base = Fraction(1, like.sample_rate)
        yield frame
