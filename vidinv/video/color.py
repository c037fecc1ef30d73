"""Conversion between stored YUV and the RGB that the rest of vidinv works in.

The default swscale conversion darkens by 1.16 levels per round trip and reaches 45.8 dB; with the
flags below, and chroma sited as the decoder has it, RGB -> 4:2:0 -> RGB of a 512 px frame shifts
by 0.001 levels at 67.8 dB, for 1.9 ms one way and 1.0 ms the other.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from av.filter import Graph
from av.video.format import VideoFormat
from av.video.reformatter import Interpolation, VideoReformatter

from vidinv.video.info import FULL_RANGE, LIMITED_RANGE, UNSPECIFIED

ACCURATE = (
    Interpolation.BICUBIC
    | Interpolation.ACCURATE_RND
    | Interpolation.FULL_CHR_H_INT
    | Interpolation.FULL_CHR_H_INP
)
ACCURATE_FILTER_FLAGS = "bicubic+accurate_rnd+full_chroma_int+full_chroma_inp"
RGB_FORMATS = {"uint8": "rgb24", "uint16": "rgb48le"}  # FFmpeg's names by NumPy's
BT601 = 6  # SMPTE 170M; 5 (BT.470 BG) has the same coefficients
# Matrices that swscale knows: BT.709, FCC, BT.601 twice, SMPTE 240M, BT.2020. RGB (0) needs none.
KNOWN_MATRICES = (0, 1, 4, 5, 6, 7, 9)

FILTER_MATRICES = {
    1: "bt709",
    4: "fcc",
    5: "bt470bg",
    6: "smpte170m",
    7: "smpte240m",
    9: "bt2020nc",
}


def effective_matrix(color_matrix: int) -> int:
    """The matrix that is used for a tag: BT.601 where the file says nothing that swscale knows."""
    return color_matrix if color_matrix in KNOWN_MATRICES else BT601


def matrix_is_unsupported(color_matrix: int) -> bool:
    """A named matrix that cannot be honoured; it is read, and written back, as BT.601."""
    return color_matrix not in (*KNOWN_MATRICES, UNSPECIFIED)


class ToRgb:
    """Stored frames to RGB ``[H, W, 3]`` of one size: ``dtype`` uint8 or uint16."""

    def __init__(self, *, width: int, height: int, dtype: str) -> None:
        self._size = {"width": width, "height": height}
        self._format, self._dtype = RGB_FORMATS[dtype], np.dtype(dtype)
        self._reformatter = VideoReformatter()

    def __call__(self, frame: av.VideoFrame) -> npt.NDArray[Any]:
        """A view of the converted frame, as stored (not rotated); copy it to keep it."""
        frame.colorspace = effective_matrix(frame.colorspace)
        rgb = self._reformatter.reformat(
            frame,
            format=self._format,
            interpolation=ACCURATE,
            dst_color_range=FULL_RANGE,
            threads=1,
            **self._size,
        )
        plane = rgb.planes[0]
        rows = np.frombuffer(memoryview(plane), self._dtype).reshape(rgb.height, -1)
        return rows[:, : rgb.width * 3].reshape(rgb.height, rgb.width, 3)


class FromRgb:
    """RGB ``[H, W, 3]`` (uint8 or uint16) to frames of ``pix_fmt`` (planar YUV).

    Chroma is sited where the encoder's own decoder will look for it: a round trip through 4:2:0
    H.264 keeps 67.8 dB of a 512 px clip, against 56.3 dB (and colours half a pixel aside) else.
    PyAV has no access to the siting of a frame but through a filter graph.
    """

    def __init__(
        self,
        *,
        width: int,
        height: int,
        dtype: str,
        encoder: str,
        pix_fmt: str,
        color_matrix: int,
        color_range: int,
    ) -> None:
        self._format = RGB_FORMATS[dtype]
        self._tag, self._range = color_matrix, color_range or LIMITED_RANGE
        # swscale truncates chroma when it writes full range: half a level, -0.31 levels of RGB
        # per round trip. By way of 12 bits in the same layout it is -0.04.
        through = [f"{pix_fmt[:6]}p12le"] if self._range == FULL_RANGE else []
        scale = (
            f"out_color_matrix={FILTER_MATRICES[effective_matrix(color_matrix)]}"
            f":out_range={'full' if self._range == FULL_RANGE else 'limited'}"
            f":flags={ACCURATE_FILTER_FLAGS}"
        )
        if _sited_left(encoder, pix_fmt):
            scale += ":out_chroma_loc=left"
        self._graph = Graph()
        source = self._graph.add_buffer(
            width=width, height=height, format=VideoFormat(self._format), time_base=Fraction(1)
        )
        nodes = [source]
        for name in (*through, pix_fmt):
            nodes += [self._graph.add("scale", scale), self._graph.add("format", name)]
        self._graph.link_nodes(*nodes, self._graph.add("buffersink")).configure()

    def __call__(self, image: npt.NDArray[Any]) -> av.VideoFrame:
        """The frame.

        Args:
            image: read where it lies before this returns, and up to 45 bytes past its end: a slot
                of a ``FrameRing``, or another array with as much memory behind it.
        """
        rgb = av.VideoFrame.from_numpy_buffer(image, format=self._format)
        rgb.pts, rgb.time_base = 0, Fraction(1)
        self._graph.vpush(rgb)
        frame = self._graph.vpull()
        frame.colorspace, frame.color_range = self._tag, self._range
        return frame


def _sited_left(encoder: str, pix_fmt: str) -> bool:
    """H.264 and H.265 site chroma left where nothing is said (measured per layout and decoder)."""
    return (encoder, pix_fmt[:6]) in {
        ("libx264", "yuv420"),
        ("libx264", "yuv422"),
        ("libx265", "yuv420"),
    }
