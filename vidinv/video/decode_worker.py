"""The child process that opens and decodes one file; ``reader`` starts it, see ``isolation``.

It answers ``{"info": ...}`` after the first decoded picture, then ``{"pts", "duration"}`` for each
frame put into the ring (with its ``"captions"``, if any; ``"black"`` for one that is left out),
then ``{"end": true, "exact_times"}``; or ``{"error": reason}`` at any point. While it passes over
the frames before a part it sends heartbeats.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from fractions import Fraction
from itertools import chain, islice
from typing import Any

import av
from av.error import FFmpegError
from av.video.stream import VideoStream

from vidinv.video.alpha import decoder, has_alpha
from vidinv.video.captions import captions_of
from vidinv.video.deinterlace import NOTE, Deinterlacer
from vidinv.video.displayed import Displayed, Orientation
from vidinv.video.frame_clock import FrameClock, TimedFrame
from vidinv.video.info import TAG_ERRORS, StreamInfo, VideoInfo
from vidinv.video.integrity import Damage, check_complete
from vidinv.video.isolation import Channel, FrameRing, Heartbeat
from vidinv.video.mending import Mending
from vidinv.video.part import Around, Until, seconds_of
from vidinv.video.side_info import frame_packing, light_level, mastering_display
from vidinv.video.streams import picture_stream
from vidinv.video.timing import Jumps, earliest, may_jump

# Per 512 px H.264 frame, two frame threads took 0.5 ms wall and 0.87 ms of CPU, two slice threads
# (of which this clip can use one) 0.70 and 0.70.
DECODE_THREADS = 2


def main() -> None:
    """Serve one request, then leave."""
    channel = Channel()
    request = channel.receive()
    ring = FrameRing(request["ring_fd"])
    try:
        _decode(channel, ring, request)
    except Damage as error:
        channel.send({"error": str(error)})
    except FFmpegError as error:
        channel.send({"error": f"cannot be read as video ({error.strerror or error})"})
    except Exception as error:
        channel.send({"error": f"cannot be decoded ({type(error).__name__}: {error})"})
    # Frame-threaded decoders left early can dead-lock while they are freed.
    os._exit(0)


def _decode(channel: Channel, ring: FrameRing, request: dict[str, Any]) -> None:
    path, skips = request["path"], request["on_error"] == "skip"
    with av.open(path, metadata_errors=TAG_ERRORS) as container:
        stream = _picture_stream(container)
        mending, jumps = _mending(stream, skips=skips), Jumps()
        try:
            check_complete(path, container, stream)
        except Damage as damage:
            mending.meet(damage)
        frames = mending.frames(_picture_packets(container, stream, jumps))
        first = next(frames, None)
        if first is None:
            raise Damage("holds no picture that can be decoded")
        orientation = Orientation.of(first)
        info = _describe(path, container, stream, first, orientation)
        channel.send({"info": info.to_json()})
        if request["probe_only"]:
            return
        clock = FrameClock(info, starts_at=earliest(container))
        deinterlacer, displayed = Deinterlacer(), Displayed(info, orientation)
        timed = clock.times(deinterlacer.frames(chain([first], frames)))
        if (part := request.get("part")) is not None:
            timed = _part(timed, clock, path, Heartbeat(channel), **part)
        elif (until := request.get("until")) is not None:
            timed = Until(**until).cut(timed, info.time_base)
        around = Around(**asked) if (asked := request.get("around")) else None
        _send_frames(channel, ring, timed, displayed, info, around)
        exact = clock.exact and not mending.num_held and not jumps.found
        notes = mending.notes() + [NOTE] * deinterlacer.has_met_fields + displayed.notes
        channel.send({"end": True, "exact_times": exact, "notes": notes, "held": mending.num_held})
        os._exit(0)  # see main: a part leaves decoding early


def _mending(stream: VideoStream, *, skips: bool) -> Mending:
    return Mending(stream.time_base, decode=decoder(stream), skips=skips)


def _picture_packets(container: Any, stream: VideoStream, jumps: Jumps) -> Iterator[Any]:
    """Packets of the picture; where times may jump, as all streams say together."""
    if not may_jump(container):
        yield from container.demux(stream)
        return
    for packet in jumps.corrected(container.demux()):
        if packet.stream.index == stream.index:
            yield packet


def _picture_stream(container: Any) -> VideoStream:
    stream: VideoStream | None = picture_stream(container)
    if stream is None and container.streams.video:
        raise Damage("is no video: its only picture is a cover")
    if stream is None:
        raise Damage("has no video stream")
    if stream.codec_context is None:
        raise Damage("has a video stream of a codec that this FFmpeg cannot decode")
    stream.thread_type, stream.thread_count = "AUTO", DECODE_THREADS
    return stream


def _part(
    timed: Iterator[TimedFrame],
    clock: FrameClock,
    path: str,
    heartbeat: Heartbeat,
    *,
    first: int,
    count: int,
    pts: int | None,
) -> Iterator[TimedFrame]:
    """``count`` frames from number ``first`` on, whose time is ``pts`` (None: counted)."""
    frames = None if pts is None or first == 0 else _frames_from(path, pts, heartbeat)
    if frames is not None:
        return islice(clock.times(frames), count)
    for _ in islice(timed, first):
        heartbeat.beat()
    return islice(timed, count)


def _frames_from(path: str, pts: int, heartbeat: Heartbeat) -> Iterator[av.VideoFrame] | None:
    """Frames from the one at ``pts`` on, exactly as a decode from the start gives them, or None.

    Frames displayed after a keyframe need nothing before it; those displayed before it may. So that
    the first one is deinterlaced as in a whole read, decoding begins with a frame before it.
    """
    container: Any = av.open(path, metadata_errors=TAG_ERRORS)
    _never_freed.append(container)
    stream = _picture_stream(container)
    try:
        container.seek(pts - 1, stream=stream, backward=True)
    except FFmpegError:
        return None
    packets = container.demux(stream)
    keyframe = next((packet for packet in packets if packet.is_keyframe), None)
    if keyframe is None or keyframe.pts is None or keyframe.pts >= pts:
        return None
    decoded = _mending(stream, skips=False).frames(chain([keyframe], packets))
    frames = Deinterlacer().frames(decoded)
    for frame in frames:
        if frame.pts == pts:
            return chain([frame], frames)
        if frame.pts is None or frame.pts > pts:
            return None
        heartbeat.beat()
    return None


# Frame-threaded decoders left early can dead-lock while they are freed.
_never_freed: list[Any] = []


def _send_frames(
    channel: Channel,
    ring: FrameRing,
    frames: Iterator[TimedFrame],
    displayed: Displayed,
    info: VideoInfo,
    around: Around | None,
) -> None:
    """Convert, turn upright and put into the ring as the parent frees slots."""
    ring.map(height=info.height, width=info.width, dtype=info.frame_dtype, alpha=info.has_alpha)
    before: av.VideoFrame | None = None
    num_pictures, first_pts = 0, None
    for number, (frame, pts) in enumerate(frames):
        first_pts = pts if first_pts is None else first_pts
        seconds = seconds_of(pts, first_pts, info.time_base)
        if around is not None and not around.covers(seconds, info.average_rate):
            displayed.look_at(frame, number)
            channel.send({"pts": pts, "duration": frame.duration or 0, "black": True})
            continue
        if num_pictures >= ring.num_slots:
            channel.receive()  # the parent copied a slot
        alpha = displayed.alpha(frame) if info.has_alpha else None
        ring.write(num_pictures, displayed(frame, number), alpha)
        num_pictures += 1
        # A picture that is held in another's place has said its captions already.
        captions = b"" if frame is before else captions_of(frame)
        before = frame
        message = {"pts": pts, "duration": frame.duration or 0}
        channel.send({**message, "captions": captions.hex()} if captions else message)


def _describe(
    path: str, container: Any, stream: VideoStream, frame: av.VideoFrame, orientation: Orientation
) -> VideoInfo:
    size = (frame.height, frame.width) if orientation.transpose else (frame.width, frame.height)
    aspect = stream.sample_aspect_ratio or None
    rate = stream.average_rate or stream.guessed_rate or None
    duration = _duration_seconds(container, stream)
    estimate = round(duration * rate) if duration and rate else None
    return VideoInfo(
        path=path,
        width=size[0],
        height=size[1],
        time_base=stream.time_base or Fraction(1, av.time_base),
        pix_fmt=frame.format.name,
        bit_depth=max(component.bits for component in frame.format.components),
        coded_width=frame.width,
        coded_height=frame.height,
        rotation=orientation.degrees_clockwise,
        sample_aspect_ratio=1 / aspect if aspect and orientation.transpose else aspect,
        average_rate=rate,
        num_frames=stream.frames or estimate,
        duration_seconds=duration,
        color_matrix=int(frame.colorspace),
        color_range=2 if frame.format.name.startswith("yuvj") else int(frame.color_range),
        color_primaries=int(frame.color_primaries),
        color_transfer=int(frame.color_trc),
        codec=stream.codec_context.codec.canonical_name,
        container=container.format.name,
        other_streams=tuple(_other_streams(container, stream)),
        frame_packing=frame_packing(frame),
        mastering_display=mastering_display(frame),
        light_level=light_level(frame),
        has_alpha=has_alpha(frame),
        is_still_image=container.format.name.endswith(("_pipe", "image2")),
    )


def _duration_seconds(container: Any, stream: VideoStream) -> float | None:
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    return container.duration / av.time_base if container.duration else None


def _other_streams(container: Any, picture: VideoStream) -> Iterator[StreamInfo]:
    for stream in container.streams:
        if stream.index != picture.index:
            codec = stream.codec_context.name if stream.codec_context else "none"
            yield StreamInfo(stream.index, stream.type, codec)
