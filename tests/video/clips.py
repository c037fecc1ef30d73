"""Small clips made in test code: whatever ../shared/clips lacks, nothing kept on disk."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import av
import numpy as np
import psutil
from av.video.reformatter import Interpolation

from vidinv.types import Image
from vidinv.video import describing
from vidinv.video.color import ToRgb
from vidinv.video.decode_worker import Orientation

RATE = 25


def pattern(number: int, *, width: int = 96, height: int = 64, dtype: str = "uint8") -> Image:
    """``[H, W, 3]`` picture ``number`` of a smooth moving pattern with every colour in it."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    phase = 0.15 * number
    channels = [
        0.5 + 0.45 * np.sin(x / 13 + phase),
        0.5 + 0.45 * np.sin(y / 11 - phase),
        0.5 + 0.45 * np.sin((x + y) / 17 + 1.0),
    ]
    picture = np.stack(channels, axis=2)
    return (
        np.round(picture * 65535).astype(np.uint16)
        if dtype == "uint16"
        else np.round(picture * 255).astype(np.uint8)
    )


def write_clip(
    path: Path,
    images: Iterable[Image],
    *,
    pts: Sequence[int] | None = None,
    time_base: Fraction = Fraction(1, RATE),
    rotation: int = 0,
    aspect: Fraction | None = None,
    pix_fmt: str = "yuv420p",
    tags: tuple[int, int, int, int] = (2, 0, 2, 2),
    encoder: str = "libx264",
    crf: int = 12,
    audio: bool = False,
    faststart: bool = False,
) -> Path:
    """Encode ``images`` and return ``path``.

    Args:
        pts: timestamps in ``time_base``; None counts up by one frame at 25 frames a second.
        rotation: degrees clockwise for display, written as a display matrix.
        tags: matrix, range, primaries, transfer (H.273).
        audio: add a tone as long as the picture.
    """
    options = {"movflags": "faststart"} if faststart else {}
    if path.suffix in (".mp4", ".mov"):
        options["video_track_timescale"] = str(time_base.denominator)
    with av.open(str(path), "w", container_options=options) as output:
        stream, sound = None, output.add_stream("aac", rate=8000) if audio else None
        for number, image in enumerate(images):
            if stream is None:
                stream = _add_video(output, image, encoder, pix_fmt, time_base, tags, crf)
                if aspect:
                    stream.codec_context.sample_aspect_ratio = aspect
                if rotation:
                    stream.set_display_rotation(-rotation)
            frame = _stored(image, pix_fmt, tags)
            step = round(1 / (RATE * time_base))
            frame.pts, frame.time_base = number * step if pts is None else pts[number], time_base
            output.mux(stream.encode(frame))
        if stream is None:
            raise ValueError("no images to write")
        output.mux(stream.encode(None))
        if sound is not None:
            _add_tone(output, sound, seconds=(number + 1) / RATE)
    return path


def make_clip(
    path: Path,
    *,
    num_frames: int = 12,
    width: int = 96,
    height: int = 64,
    dtype: str = "uint8",
    **how: Any,
) -> Path:
    """``write_clip`` of the moving pattern."""
    images = (pattern(n, width=width, height=height, dtype=dtype) for n in range(num_frames))
    return write_clip(path, images, **how)


def with_rotation(source: Path, path: Path, *, degrees: int) -> Path:
    """Copy the video stream of a clip under a display matrix of ``degrees`` clockwise."""
    with av.open(str(source)) as input, av.open(str(path), "w") as output:
        stream = input.streams.video[0]
        copy = output.add_stream_from_template(stream, opaque=True)
        copy.set_display_rotation(-degrees)  # PyAV counts counter-clockwise
        for packet in input.demux(stream):
            if packet.dts is not None:
                packet.stream = copy
                output.mux(packet)
    return path


def images_of(path: Path, *, limit: int | None = None) -> list[Image]:
    """The first frames of a clip as ``open_reader`` gives them, without a child process."""
    with av.open(str(path)) as container:
        frames = list(islice(container.decode(container.streams.best("video")), limit))
    first = frames[0]
    dtype = "uint16" if first.format.components[0].bits > 8 else "uint8"
    to_rgb = ToRgb(width=first.width, height=first.height, dtype=dtype)
    orientation = Orientation.of(first)
    return [orientation.upright(to_rgb(frame)).copy() for frame in frames]


def side_by_side(left: Sequence[Image], right: Sequence[Image]) -> list[Image]:
    """Pictures of two clips next to each other, cut to the lower height and the shorter clip."""
    pairs = list(zip(left, right, strict=False))
    height = min(left[0].shape[0], right[0].shape[0])
    return [np.hstack([a[:height], b[:height]]) for a, b in pairs]


def packets_of(path: Path, kind: str = "audio") -> list[tuple[Fraction, Fraction, bytes]]:
    """(pts seconds, dts seconds, bytes) of every packet of the first stream of a kind."""
    with av.open(str(path)) as container:
        streams = [s for s in container.streams if s.type == kind]
        if not streams:
            return []
        base = streams[0].time_base
        packets = (p for p in container.demux(streams[0]) if p.size)
        return [(p.pts * base, (p.dts or 0) * base, bytes(p)) for p in packets]


def comment_of(path: Path) -> str | None:
    """Of a clip or picture."""
    return describing.comment_of(describing.describe(path))


def plain_times(path: Path) -> list[Fraction]:
    """Frame times in seconds as a plain demux and decode in this process gives them."""
    with av.open(str(path)) as container:
        return [frame.pts * frame.time_base for frame in container.decode(video=0)]


def psnr(a: Image, b: Image) -> float:
    """Of the RGB values, in dB of full scale."""
    scale = float(np.iinfo(a.dtype).max)
    error = np.mean((a.astype(np.float64) - b.astype(np.float64)) ** 2) / scale**2
    return float(-10 * np.log10(max(error, 1e-12)))


def _add_video(
    output: Any,
    image: Image,
    encoder: str,
    pix_fmt: str,
    time_base: Fraction,
    tags: tuple[int, int, int, int],
    crf: int,
) -> Any:
    stream = output.add_stream(encoder, rate=RATE, options={"crf": str(crf)})
    stream.height, stream.width = image.shape[:2]
    stream.pix_fmt, stream.time_base = pix_fmt, time_base
    context = stream.codec_context
    context.time_base = time_base
    context.colorspace, context.color_range = tags[:2]
    context.color_primaries, context.color_trc = tags[2:]
    return stream


def _stored(image: Image, pix_fmt: str, tags: tuple[int, int, int, int]) -> av.VideoFrame:
    kind = "rgb48le" if image.dtype == np.uint16 else "rgb24"
    rgb = av.VideoFrame.from_ndarray(image, format=kind)
    matrix = 6 if tags[0] == 2 else tags[0]
    rgb.colorspace, rgb.color_range = matrix, 2
    flags = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
    frame = rgb.reformat(format=pix_fmt, interpolation=flags, dst_color_range=tags[1] or 1)
    frame.colorspace, frame.color_range = tags[:2]
    frame.color_primaries, frame.color_trc = tags[2:]
    return frame


def _add_tone(output: Any, stream: Any, *, seconds: float) -> None:
    rate = 8000
    samples = 0.3 * np.sin(2 * np.pi * 440 * np.arange(round(seconds * rate)) / rate)
    frame = av.AudioFrame.from_ndarray(
        np.stack([samples, samples]).astype(np.float32), format="fltp", layout="stereo"
    )
    frame.sample_rate, frame.pts = rate, 0
    for resampled in av.AudioResampler("fltp", "stereo", rate, 1024).resample(frame):
        output.mux(stream.encode(resampled))
    output.mux(stream.encode(None))


def media_workers() -> list[str]:
    """Command lines of this process's decoding and encoding children (a Ray cluster is none)."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            command = " ".join(process.cmdline())
        except psutil.Error:  # it has ended meanwhile
            continue
        if "_worker" in command and "ray::" not in command and "/ray/" not in command:
            found.append(command)
    return found
