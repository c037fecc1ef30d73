"""What a file says about itself: the facts that a reader reports and a writer gives back."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from fractions import Fraction
from typing import Any

# Code points of ITU-T H.273, as FFmpeg numbers them (AVCOL_*): 2 is "not said".
UNSPECIFIED = 2
FULL_RANGE = 2
LIMITED_RANGE = 1
# How PyAV reads and writes tags that are not UTF-8, as many old files have: byte for byte.
TAG_ERRORS = "surrogateescape"
MAX_PIXEL_ASPECT = 8.0  # beyond it, or below its inverse, a file can not mean it


@dataclass(frozen=True, slots=True)
class StreamInfo:
    """A stream beside the picture: ``kind`` is audio, subtitle, data, attachment or video."""

    index: int
    kind: str
    codec: str


@dataclass(frozen=True, slots=True)
class VideoInfo:
    """Facts about one clip.

    Attributes:
        path: the file, or None for a video made from scratch.
        width, height: pixels as displayed (rotation applied).
        time_base: seconds per timestamp unit.
        pix_fmt: FFmpeg's name of the stored pixel format.
        bit_depth: bits per component.
        coded_width, coded_height: pixels as stored, before rotation.
        rotation: degrees the stored picture is turned clockwise for display: 0, 90, 180 or 270.
        sample_aspect_ratio: width / height of a displayed pixel; None where the file does not say.
        average_rate: frames per second; None where unknown.
        num_frames: the container's own count, or an estimate from the duration, or None.
        duration_seconds: of the video stream where known, else of the file, or None.
        color_matrix, color_primaries, color_transfer: H.273 code points, 2 = not said. A file
            that does not name its matrix is read as BT.601, as FFmpeg does.
        color_range: 0 not said (read as limited), 1 limited, 2 full.
        codec, container: FFmpeg's names.
        other_streams: everything beside the picture, in file order.
        is_still_image: the file is a single picture, not a clip.
        frame_packing: how two views of stereo 3D share a frame (``frame_packing_arrangement_type``
            of H.264), or None.
        has_alpha: frames say how opaque their pixels are (``Frame.alpha``).
        mastering_display, light_level: of HDR10, as encoders take them (``side_info``), or empty.
    """

    path: str | None
    width: int
    height: int
    time_base: Fraction
    pix_fmt: str = "yuv420p"
    bit_depth: int = 8
    coded_width: int = 0
    coded_height: int = 0
    rotation: int = 0
    sample_aspect_ratio: Fraction | None = None
    average_rate: Fraction | None = None
    num_frames: int | None = None
    duration_seconds: float | None = None
    color_matrix: int = UNSPECIFIED
    color_range: int = 0
    color_primaries: int = UNSPECIFIED
    color_transfer: int = UNSPECIFIED
    codec: str = ""
    container: str = ""
    other_streams: tuple[StreamInfo, ...] = ()
    is_still_image: bool = False
    has_alpha: bool = False
    frame_packing: int | None = None
    mastering_display: str = ""
    light_level: str = ""

    @classmethod
    def from_scratch(cls, *, width: int, height: int, rate: Fraction | int) -> VideoInfo:
        """A new 8-bit video of constant rate: frame n has pts n in units of 1 / ``rate``.

        Tagged BT.709 limited range, which players assume for what they are not told.
        """
        rate = Fraction(rate)
        return cls(
            path=None,
            width=width,
            height=height,
            time_base=1 / rate,
            average_rate=rate,
            color_matrix=1,
            color_range=LIMITED_RANGE,
            color_primaries=1,
            color_transfer=1,
        )

    def of_pictures(self, *, width: int, height: int) -> VideoInfo:
        """A new 8-bit video of other pictures with the times, colours and streams of this one."""
        kept = ("path", "time_base", "other_streams", "color_matrix", "color_range")
        more = ("color_primaries", "color_transfer")
        new = VideoInfo.from_scratch(width=width, height=height, rate=self.average_rate or 25)
        return replace(new, **{name: getattr(self, name) for name in (*kept, *more)})

    @property
    def pixel_aspect(self) -> float:
        """Width over height of a displayed pixel; 1 where the file says none that can be meant."""
        ratio = float(self.sample_aspect_ratio or 1)
        return ratio if 1 / MAX_PIXEL_ASPECT <= ratio <= MAX_PIXEL_ASPECT else 1.0

    @property
    def frame_dtype(self) -> str:
        """NumPy's name for the samples of RGB frames: uint8, or uint16 above 8 bits."""
        return "uint16" if self.bit_depth > 8 else "uint8"

    def to_json(self) -> dict[str, Any]:
        """Plain types only; fractions as [numerator, denominator]."""
        return {key: _plain(value) for key, value in asdict(self).items()}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> VideoInfo:
        """The inverse of ``to_json``."""
        values = {field.name: data[field.name] for field in fields(cls)}
        for key in ("time_base", "sample_aspect_ratio", "average_rate"):
            values[key] = None if values[key] is None else Fraction(*values[key])
        values["other_streams"] = tuple(StreamInfo(**s) for s in values["other_streams"])
        return cls(**values)


def _plain(value: Any) -> Any:
    return [value.numerator, value.denominator] if isinstance(value, Fraction) else value
