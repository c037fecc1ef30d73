"""Joining encoded segments of one clip without re-encoding; runs in the encoding child process.

Every segment is a closed group of pictures that was encoded with the same parameters, so packets
follow each other as they are. Their order of display gives them the clip's own times again, and
their decode times are those that one encoder would have written for the whole clip.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from fractions import Fraction
from typing import Any

import av

from vidinv.video.alpha import is_beside_picture
from vidinv.video.info import TAG_ERRORS, VideoInfo
from vidinv.video.packets import (
    PacketCopier,
    add_comment,
    muxer_options,
    open_output,
    source_plan,
)
from vidinv.video.side_info import what_is_lost
from vidinv.video.streams import Refused, tag_codec
from vidinv.video.timing import ended_in_time

Times = Sequence[Sequence[int]]


def join(request: dict[str, Any], heartbeat: Callable[[], None]) -> list[str]:
    """Write ``output`` from ``segments`` and the other streams of ``source``; the warnings.

    Segments are read twice, one at a time: files open and memory used do not grow with the clip.

    Args:
        heartbeat: called after each segment that is checked and each packet that is written.
    """
    info, paths, times = VideoInfo.from_json(request["info"]), request["segments"], request["times"]
    delay = _check(paths, len(times), heartbeat)
    source, format_name = request["source"], request["format"]
    shift, _, choices = source_plan(source, format_name, info, heartbeat)
    moved = int(shift / info.time_base)
    with ExitStack() as stack:
        options = muxer_options(format_name, info, source)
        output: Any = stack.enter_context(
            open_output(request["output"], format_name, options, choices)
        )
        with av.open(paths[0], metadata_errors=TAG_ERRORS) as first:
            stream = output.add_stream_from_template(first.streams.video[0], opaque=True)
            if is_beside_picture(first.streams.video[0]):
                stream.metadata["alpha_mode"] = "1"
            tag_codec(stream, output.format.name, like=first.streams.video[0])
        stream.time_base = info.time_base
        _tag(stream.codec_context, info)
        copier = PacketCopier.open(
            source,
            output,
            stack,
            format_name=format_name,
            choices=choices,
            shift=shift,
            heartbeat=heartbeat,
        )
        add_comment(output, request.get("comment"))
        output.start_encoding()
        for packet in ended_in_time(_timed(paths, times, delay), format_name):
            packet.stream, packet.time_base = stream, info.time_base
            packet.pts, packet.dts = packet.pts + moved, packet.dts + moved
            copier.copy_until(packet.dts * info.time_base)
            output.mux(packet)
            heartbeat()
        copier.copy_until(None)
    return [*copier.warnings, *what_is_lost(source, request["output"])]


def _tag(context: Any, info: VideoInfo) -> None:
    """What the container states and the segments' own format may not hold."""
    context.framerate = info.average_rate or Fraction(25)
    context.colorspace, context.color_range = info.color_matrix or 1, info.color_range
    context.color_primaries, context.color_trc = info.color_primaries, info.color_transfer
    if info.sample_aspect_ratio:
        context.sample_aspect_ratio = info.sample_aspect_ratio


def _packets(segment: Any) -> list[Any]:
    return [packet for packet in segment.demux(segment.streams.video[0]) if packet.size]


def _check(paths: Sequence[str], num_times: int, heartbeat: Callable[[], None]) -> int:
    """The clip's reordering (see ``_reordering``); Refused where segments do not fit together."""
    headers, count, delay = set(), 0, 0
    for path in paths:
        with av.open(path, metadata_errors=TAG_ERRORS) as segment:
            packets = _packets(segment)
            headers.add(bytes(segment.streams.video[0].codec_context.extradata or b""))
        count, delay = count + len(packets), max(delay, _reordering(packets))
        heartbeat()
    if len(headers) != 1:
        raise Refused("its segments were encoded with different parameters; render them again")
    if count != num_times:
        raise Refused(f"its segments hold {count} frames of {num_times}; render them again")
    return delay


def _timed(paths: Sequence[str], times: Times, delay: int) -> Iterator[Any]:
    """Packets in decode order with the times of the clip.

    A frame is decoded at the time at which the frame ``delay`` places before it in the order of
    display is shown; the first ones at times before the start, at the same distance.
    """
    start = times[0][0]
    lead = times[min(delay, len(times) - 1)][0] - start
    number = 0
    for path in paths:
        with av.open(path, metadata_errors=TAG_ERRORS) as segment:
            packets = _packets(segment)
        first = number
        for packet, rank in zip(packets, _ranks(packets), strict=True):
            packet.pts, packet.duration = times[first + rank]
            ahead = number - delay
            packet.dts = times[ahead][0] if ahead >= 0 else times[number][0] - lead
            number += 1
            yield packet


def _ranks(packets: Sequence[Any]) -> list[int]:
    """Place of each packet in the order of display."""
    place = {pts: rank for rank, pts in enumerate(sorted(packet.pts for packet in packets))}
    return [place[packet.pts] for packet in packets]


def _reordering(packets: Sequence[Any]) -> int:
    """How many places at most a frame is displayed before it is decoded."""
    return max((number - rank for number, rank in enumerate(_ranks(packets))), default=0)
