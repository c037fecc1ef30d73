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
from pathlib import Path
from typing import Any

import av
from av.error import FFmpegError

from vidinv.video.color import FromRgb, matrix_is_unsupported
from vidinv.video.info import TAG_ERRORS, VideoInfo
from vidinv.video.isolation import (
    Channel,
    FrameMissing,
    FrameRing,
    Heartbeat,
    end_real_time_priority,
)
from vidinv.video.joining import join
from vidinv.video.packets import PacketCopier, Refused, add_comment, copy_all, muxer_options

FRAME_DURATION_FLAG = av.codec.context.Flags.frame_duration


def main() -> None:
    """Serve one request, then leave."""
    channel = Channel()
    request = channel.receive()
    ring = FrameRing(request["ring_fd"])
    channel.set_on_parent_gone(lambda: _remove(request["output"]))
    try:
        if request["task"] == "copy":
            warnings = copy_all(
                request["source"], request["output"], request["format"], Heartbeat(channel).beat
            )
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
        self._pix_fmt = self._choose_pix_fmt()
        # A stored RGB source has no matrix; as YUV it gets the one that players assume.
        matrix = self._info.color_matrix or 1
        self._from_rgb = FromRgb(
            width=self._info.width,
            height=self._info.height,
            dtype=self._info.frame_dtype,
            encoder=request["encoder"],
            pix_fmt=self._pix_fmt,
            color_matrix=matrix,
            color_range=self._info.color_range,
        )
        if matrix_is_unsupported(matrix):
            self._warnings.append(f"colour matrix {matrix} is not supported: treated as BT.601")

    def run(self) -> list[str]:
        with contextlib.ExitStack() as stack:
            source = self._request["source"]
            container = stack.enter_context(
                av.open(
                    self._request["output"],
                    "w",
                    format=self._request["format"],
                    metadata_errors=TAG_ERRORS,
                    container_options=muxer_options(self._request["format"], self._info, source),
                )
            )
            stream = self._add_video(container)
            copier = PacketCopier.open(source, container, stack)
            add_comment(container, self._request.get("comment"))
            container.start_encoding()
            end_real_time_priority()  # of the encoder, which is open now
            self._check_time_base(stream.time_base)
            self._warnings += copier.warnings
            self._channel.send({"ready": True})
            for packet in self._packets(stream):
                copier.copy_until(packet.dts * packet.time_base if packet.dts is not None else None)
                container.mux(packet)
            copier.copy_until(None)
        return self._warnings

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
        context.options = self._request["options"]
        context.thread_count = self._request["threads"]
        return stream

    def _packets(self, stream: Any) -> Iterator[Any]:
        height, width = self._info.height, self._info.width
        self._ring.map(height=height, width=width, dtype=self._info.frame_dtype)
        number = 0
        while "pts" in (message := self._channel.receive()):
            frame = self._from_rgb(self._ring.read(number))
            self._channel.send({"free": number})
            number += 1
            frame.pts, frame.duration = message["pts"], message["duration"]
            frame.time_base = self._info.time_base
            frame.color_primaries = self._info.color_primaries
            frame.color_trc = self._info.color_transfer
            yield from stream.encode(frame)
        if number:
            yield from stream.encode(None)

    def _choose_pix_fmt(self) -> str:
        """The encoder's format nearest to the source: its depth, its chroma, and the odd size.

        4:2:0 H.264 and H.265 cannot crop to an odd size, so an odd size takes 4:4:4 there: the
        display size stays exact at the price of hardware players, and the user is told.
        """
        encoder = self._request["encoder"]
        formats = {f.name: f for f in av.Codec(encoder, "w").video_formats or ()}
        odd = bool(self._info.width % 2 or self._info.height % 2) and not encoder.startswith(
            "libvpx"
        )
        high_bit_depth = self._info.bit_depth > 8
        source = self._info.pix_fmt
        chroma = next((c for c in ("444", "422") if c in source), "420")
        if odd or source.startswith(("rgb", "bgr", "gbr")):
            chroma = "444"
        wanted = [chroma, "444"] if odd else [chroma, "420", "422", "444"]
        depths = ("p10le", "p12le", "p") if high_bit_depth else ("p", "p10le")
        for suffix in depths:
            for layout in wanted:
                name = f"yuv{layout}{suffix}"
                if name in formats:
                    self._say_choice(name, odd, high_bit_depth)
                    return name
        size = f"{self._info.width}x{self._info.height}"
        raise Refused(f"encoder {encoder} has no pixel format for a {size} video; try libx264")

    def _say_choice(self, name: str, odd: bool, high_bit_depth: bool) -> None:
        if odd and "444" not in self._info.pix_fmt:
            self._warnings.append(
                f"{self._info.width}x{self._info.height} is an odd size: written as 4:4:4, "
                "which some hardware players do not show"
            )
        if high_bit_depth and "le" not in name:
            self._warnings.append(
                f"encoder {self._request['encoder']} writes 8 bits: the source's "
                f"{self._info.bit_depth} bits were reduced"
            )

    def _check_time_base(self, written: Fraction) -> None:
        if (self._info.time_base / written).denominator != 1:
            self._warnings.append(
                f"{self._request['format']} keeps times in units of {written} s: those of the "
                f"source, in {self._info.time_base} s, were rounded"
            )
