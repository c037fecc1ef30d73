"""The child process that encodes and multiplexes; ``writer`` starts it, see ``isolation``.

It opens the source again for the packets that are copied, so that an untrusted file is never
demultiplexed in the parent. It answers ``{"ready": true}``, ``{"free": n}`` for each frame taken,
and ``{"done": true, "warnings": [...]}``; or ``{"error": reason}`` at any point. While it
copies or joins it sends heartbeats.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from fractions import Fraction
from math import gcd
from pathlib import Path
from typing import Any

import av
from av.error import FFmpegError

from vidinv.video.alpha import opaque_format, with_alpha
from vidinv.video.captions import CODECS as CAPTIONED
from vidinv.video.captions import with_captions
from vidinv.video.codecs import ENCODERS
from vidinv.video.color import FromRgb, matrix_is_unsupported
from vidinv.video.info import VideoInfo
from vidinv.video.isolation import (
    Channel,
    FrameMissing,
    FrameRing,
    Heartbeat,
    end_real_time_priority,
)
from vidinv.video.joining import join
from vidinv.video.packets import (
    PacketCopier,
    add_comment,
    copy_all,
    muxer_options,
    open_output,
    source_plan,
)
from vidinv.video.pixels import PixelChoice
from vidinv.video.side_info import said_by_encoder, what_is_lost
from vidinv.video.streams import RELAY, Refused, tag_codec
from vidinv.video.timing import ended_in_time

FRAME_DURATION_FLAG = av.codec.context.Flags.frame_duration
CAPTIONS_LOST = "closed captions (A/53) are lost: H.264, H.265 and AV1 (--encoder) keep them"
GLOBAL_HEADER_FLAG = av.codec.context.Flags.global_header


def main() -> None:
    """Serve one request, then leave."""
    channel = Channel()
    request = channel.receive()
    ring = FrameRing(request["ring_fd"])
    channel.set_on_parent_gone(lambda: _remove(request["output"]))
    try:
        if request["task"] == "copy":
            warnings = copy_all(request, Heartbeat(channel).beat)
        elif request["task"] == "join":
            warnings = join(request, Heartbeat(channel).beat)
        else:
            warnings = _Encoding(channel, ring, request).run()
        channel.send({"done": True, "warnings": warnings})
    except Exception as error:
        _remove(request["output"])
        channel.send({"error": _reason(error)})
    os._exit(0)


def _remove(path: str) -> None:
    with contextlib.suppress(OSError):
        Path(path).unlink(missing_ok=True)


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "the disk is full"
    if isinstance(error, FFmpegError):
        return f"encoding failed ({error.strerror or error})"
    return (
        str(error)
        if isinstance(error, (Refused, FrameMissing))
        else f"{type(error).__name__}: {error}"
    )


class _Encoding:
    """One output file: encoder, copied streams, and the loop over the frames of the ring."""

    def __init__(self, channel: Channel, ring: FrameRing, request: dict[str, Any]) -> None:
        self._channel, self._ring, self._request = channel, ring, request
        self._info = VideoInfo.from_json(request["info"])
        self._warnings: list[str] = []
        self._codec = ENCODERS[request["encoder"]].codec
        self._captions: dict[int, bytes] = {}  # of frames in the encoder, by their time
        self._ticks = 0  # of the times of all frames, the greatest common divisor
        self._heartbeat = Heartbeat(channel).beat
        self._pix_fmt = self._choose_pix_fmt()
        # A stored RGB source has no matrix; as YUV it gets the one that players assume.
        matrix = self._info.color_matrix or 1
        self._from_rgb = FromRgb(
            width=self._info.width,
            height=self._info.height,
            dtype=self._info.frame_dtype,
            encoder=request["encoder"],
            pix_fmt=opaque_format(self._pix_fmt),
            color_matrix=matrix,
            color_range=self._info.color_range,
        )
        if matrix_is_unsupported(matrix):
            self._warnings.append(f"colour matrix {matrix} is not supported: treated as BT.601")

    def run(self) -> list[str]:
        source, format_name = self._request["source"], self._request["format"]
        shift, span, choices = source_plan(
            source, format_name, self._info, self._heartbeat, cut=self._request.get("cut")
        )
        options = muxer_options(format_name, self._info, source, segment=self._request["segment"])
        with contextlib.ExitStack() as stack:
            container = stack.enter_context(
                open_output(self._request["output"], format_name, options, choices)
            )
            stream = self._add_video(container)
            copier = PacketCopier.open(
                source,
                container,
                stack,
                format_name=format_name,
                choices=choices,
                shift=shift,
                span=span,
            )
            add_comment(container, self._request.get("comment"))
            container.start_encoding()
            end_real_time_priority()  # of the encoder, which is open now
            self._channel.send({"ready": True})
            for packet in ended_in_time(self._packets(stream, shift), format_name):
                copier.copy_until(packet.dts * packet.time_base if packet.dts is not None else None)
                container.mux(packet)
            copier.copy_until(None)
            self._check_time_base(stream.time_base)
        lost = what_is_lost(source, self._request["output"])
        return [*self._warnings, *copier.warnings, *lost]

    def _add_video(self, container: Any) -> Any:
        info = self._info
        rate = info.average_rate or Fraction(25)
        stream = container.add_stream(self._request["encoder"], rate=rate)
        stream.time_base = info.time_base
        context = stream.codec_context
        context.width, context.height, context.pix_fmt = info.width, info.height, self._pix_fmt
        context.time_base, context.framerate = info.time_base, rate
        if info.sample_aspect_ratio:
            context.sample_aspect_ratio = info.sample_aspect_ratio
        context.colorspace, context.color_range = info.color_matrix or 1, info.color_range
        context.color_primaries, context.color_trc = info.color_primaries, info.color_transfer
        context.flags |= FRAME_DURATION_FLAG
        if container.format.name == RELAY:  # it does not say that its muxer wants this
            context.flags |= GLOBAL_HEADER_FLAG
        tag_codec(stream, container.format.name)
        context.options = dict(self._request["options"])
        for name, said in said_by_encoder(self._request["encoder"], info).items():
            before = context.options.get(name)
            context.options[name] = f"{before}:{said}" if before else said
        context.thread_count = self._request["threads"]
        return stream

    def _packets(self, stream: Any, shift: Fraction) -> Iterator[Any]:
        moved = int(shift / self._info.time_base)
        info = self._info
        self._ring.map(
            height=info.height, width=info.width, dtype=info.frame_dtype, alpha=info.has_alpha
        )
        has_alpha = opaque_format(self._pix_fmt) != self._pix_fmt
        number = 0
        while "pts" in (message := self._channel.receive()):
            frame = self._from_rgb(self._ring.read(number))
            if has_alpha:
                frame = with_alpha(frame, self._ring.alpha(number), self._pix_fmt)
            self._channel.send({"free": number})
            number += 1
            frame.pts, frame.duration = message["pts"] + moved, message["duration"]
            self._ticks = gcd(self._ticks, frame.pts)
            frame.time_base = self._info.time_base
            frame.color_primaries = self._info.color_primaries
            frame.color_trc = self._info.color_transfer
            self._take_captions(frame.pts, bytes.fromhex(message.get("captions", "")))
            yield from self._captioned(stream.encode(frame))
        if number:
            yield from self._captioned(stream.encode(None))

    def _take_captions(self, pts: int, captions: bytes) -> None:
        if captions and self._codec in CAPTIONED:
            self._captions[pts] = captions
        elif captions and CAPTIONS_LOST not in self._warnings:
            self._warnings.append(CAPTIONS_LOST)

    def _captioned(self, packets: list[Any]) -> Iterator[Any]:
        """Packets in their order of decoding, each with the captions of its own picture."""
        for packet in packets:
            captions = self._captions.pop(packet.pts, b"")
            yield with_captions(packet, self._codec, captions) if captions else packet

    def _choose_pix_fmt(self) -> str:
        """What was asked for, or the encoder's format nearest to the source that players show."""
        if asked := self._request["pix_fmt"]:
            return str(asked)
        info, encoder = self._info, self._request["encoder"]
        choice = PixelChoice(info, encoder)
        name = choice.shown
        if name is None:
            size = f"{info.width}x{info.height}"
            raise Refused(f"encoder {encoder} has no pixel format for a {size} video; try libx264")
        self._warnings += choice.notes()
        return name

    def _check_time_base(self, written: Fraction) -> None:
        if (self._ticks * self._info.time_base / written).denominator != 1:
            self._warnings.append(
                f"{self._request['format']} keeps times in units of {written} s: those of the "
                f"source, in {self._info.time_base} s, were rounded"
            )
