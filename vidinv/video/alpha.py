"""Transparency of clips: how opaque each pixel is, beside its colour.

Levels of alpha are widened to the full range of the frames' type and narrowed again, so that alpha
comes back bit for bit through any codec that keeps its own levels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from av.video.format import VideoFormat
from av.video.reformatter import VideoReformatter

# FFmpeg's own decoders leave out what Matroska holds beside each picture.
DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
_COLOURS = {"colorspace": 2, "color_range": 0, "color_primaries": 2, "color_trc": 2}  # not said
_PLANAR = ("yuva", "gbrap")

Array = npt.NDArray[Any]


def is_beside_picture(stream: Any) -> bool:
    """VP8 or VP9 in Matroska, whose alpha is a second picture beside each."""
    tags = {name.lower(): value for name, value in stream.metadata.items()}
    return tags.get("alpha_mode") == "1" and _codec_name(stream) in DECODERS


def decoder(stream: Any) -> Callable[[Any], list[av.VideoFrame]]:
    """Packets to frames, with their alpha."""
    if not is_beside_picture(stream):
        return lambda packet: list(packet.decode())
    usual = stream.codec_context
    context: Any = av.CodecContext.create(DECODERS[_codec_name(stream)], "r")
    context.width, context.height = usual.width, usual.height
    return lambda packet: [_coloured(frame, usual) for frame in context.decode(packet)]


def _coloured(frame: av.VideoFrame, context: Any) -> av.VideoFrame:
    """With what the file says of its colours, where libvpx does not."""
    for name, unsaid in _COLOURS.items():
        if getattr(frame, name) == unsaid:
            setattr(frame, name, getattr(context, name))
    return frame


def has_alpha(frame: av.VideoFrame) -> bool:
    """The frame says how opaque its pixels are.

    Planar formats are chosen for it. Packed ones often come with a channel that nobody uses (GIF,
    screen recordings): there, some pixel is not opaque.
    """
    if not any(component.is_alpha for component in frame.format.components):
        return frame.format.name == "pal8" and _is_transparent(frame)
    return frame.format.name.startswith(_PLANAR) or _is_transparent(frame)


def alpha_of(frame: av.VideoFrame, dtype: str) -> Array:
    """``[H, W]`` uint8 or uint16, 0 transparent to the type's maximum; opaque where it has none."""
    name = frame.format.name
    if name.startswith(_PLANAR) and "f32" not in name and "f16" not in name:
        component = frame.format.components[3]
        return _rescaled(_rows(frame, 3), component.bits, np.dtype(dtype))
    packed = {"uint8": "rgba", "uint16": "rgba64le"}[dtype]
    rgba = VideoReformatter().reformat(frame, format=packed)
    rows = np.frombuffer(memoryview(rgba.planes[0]), dtype).reshape(rgba.height, -1)
    return rows[:, : rgba.width * 4].reshape(rgba.height, rgba.width, 4)[..., 3]


def resized(alpha: Array, *, width: int, height: int) -> Array:
    """``[H, W]`` of another size."""
    name = {1: "gray", 2: "gray16le"}[alpha.dtype.itemsize]
    grey = av.VideoFrame.from_ndarray(np.ascontiguousarray(alpha), format=name)
    return VideoReformatter().reformat(grey, width=width, height=height).to_ndarray()


def opaque_format(pix_fmt: str) -> str:
    """The same pixel format without alpha."""
    return pix_fmt.replace("yuva", "yuv", 1)


def with_alpha(frame: av.VideoFrame, alpha: Array | None, pix_fmt: str) -> av.VideoFrame:
    """A copy of a YUV frame in the format ``pix_fmt`` (``yuva...``); without ``alpha``: opaque."""
    copy = av.VideoFrame(frame.width, frame.height, pix_fmt)
    for number in range(3):
        _rows(copy, number)[:] = _rows(frame, number)
    rows, bits = _rows(copy, 3), copy.format.components[3].bits
    rows[:] = (1 << bits) - 1 if alpha is None else _rescaled(alpha, None, rows.dtype, bits)
    copy.colorspace, copy.color_range = frame.colorspace, frame.color_range
    return copy


def _is_transparent(frame: av.VideoFrame) -> bool:
    return bool(alpha_of(frame, "uint8").min() < 255)


def _rows(frame: av.VideoFrame, number: int) -> Array:
    """``[h, w]`` view of a plane of samples."""
    plane: Any = frame.planes[number]
    is_deep = VideoFormat(frame.format.name).components[0].bits > 8
    dtype = np.dtype("<u2" if is_deep else "u1")
    rows = np.frombuffer(memoryview(plane), dtype).reshape(plane.height, -1)
    return rows[:, : plane.width]


def _rescaled(
    levels: Array, bits: int | None, dtype: np.dtype[Any], to: int | None = None
) -> Array:
    """Levels of ``bits`` (None: of the whole type) as those of ``to`` bits, rounded."""
    top = (1 << (bits or 8 * levels.dtype.itemsize)) - 1
    new_top = (1 << (to or 8 * dtype.itemsize)) - 1
    if top == new_top:
        return levels.astype(dtype, copy=False)
    wide = levels.astype(np.uint32) * np.uint32(new_top) + np.uint32(top // 2)
    return (wide // np.uint32(top)).astype(dtype)


def _codec_name(stream: Any) -> str:
    context = stream.codec_context
    return "unknown" if context is None else context.codec.canonical_name
