"""The encoders that outputs can be written with: container, preset and quality that each takes.

What each takes was tried with FFmpeg 8.1 (PyAV 18). libx264 takes a CRF above 51 for 51, and one of
-1 is FFmpeg's word for none given.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from vidinv.errors import UnknownNameError, UsageError
from vidinv.video.info import VideoInfo

FORMATS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm"}

_X264_PRESETS = (
    *("ultrafast", "superfast", "veryfast", "faster", "fast"),
    *("medium", "slow", "slower", "veryslow", "placebo"),
)
_SVT_PRESETS = tuple(map(str, range(-2, 14)))


@dataclass(frozen=True, slots=True)
class Encoder:
    """How one encoder is driven.

    Attributes:
        crf, preset: the defaults; None where it has none.
        crfs: lowest (best) and highest quality that it takes; None where it takes none.
        presets: all that it takes.
        formats: containers that hold what it makes.
        codec: FFmpeg's name of what it makes.
        options: what it is always given.
        alpha: it writes transparency where players look for it.
    """

    crf: int | None = None
    crfs: tuple[int, int] | None = None
    preset: str | None = None
    presets: tuple[str, ...] = ()
    formats: tuple[str, ...] = ("mp4", "mov", "matroska")
    codec: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    alpha: bool = False


# libx264 at CRF 16: every frame of 14 test clips keeps 40 dB RGB PSNR, the least in a
# talker of the GRID corpus (40.4 dB), which falls below at 18. The other encoders' values were
# chosen near it and not measured on every clip.
ENCODERS = {
    "libx264": Encoder(
        crf=16, crfs=(0, 51), preset="veryfast", presets=_X264_PRESETS, codec="h264"
    ),
    "libx265": Encoder(
        crf=14,
        crfs=(0, 51),
        preset="veryfast",
        presets=_X264_PRESETS,
        codec="hevc",
        options={"x265-params": "log-level=none"},
    ),
    "libsvtav1": Encoder(
        crf=18,
        crfs=(0, 63),
        preset="9",
        presets=_SVT_PRESETS,
        codec="av1",
        formats=("mp4", "matroska", "webm"),
    ),
    "libvpx-vp9": Encoder(
        crf=15,
        crfs=(0, 63),
        codec="vp9",
        formats=("mp4", "matroska", "webm"),
        options={"deadline": "good", "cpu-used": "5", "row-mt": "1", "b": "0"},
        alpha=True,
    ),
    "prores_ks": Encoder(formats=("mov", "matroska"), codec="prores", alpha=True),
    "ffv1": Encoder(formats=("matroska",), codec="ffv1", alpha=True),
}


# Those who play what they make play all of it: masters and archives, whatever their pixels.
KEEP_PIXELS = ("prores_ks", "ffv1")


@dataclass(frozen=True, slots=True)
class EncodeOptions:
    """How to encode.

    Attributes:
        encoder: a key of ``ENCODERS``; None takes libx264, or libvpx-vp9 for .webm.
        preset: the encoder's own name for its speed; None takes the default.
        crf: constant quality, lower is better; None takes the default.
        threads: encoder threads, 0 lets the encoder choose.
        pix_fmt: FFmpeg's name of the stored pixel format; None takes the one nearest to the source
            that players show.
    """

    encoder: str | None = None
    preset: str | None = None
    crf: int | None = None
    threads: int = 0
    pix_fmt: str | None = None


def container_format(path: Path) -> str:
    """FFmpeg's name of the container for an extension; UsageError lists those there are."""
    try:
        return FORMATS[path.suffix.lower()]
    except KeyError:
        raise UsageError(
            f"{path}: cannot write {path.suffix or 'a file without extension'} video; "
            f"name it {', '.join(FORMATS)}"
        ) from None


def choose_encoder(path: Path, options: EncodeOptions, *, source: VideoInfo | None = None) -> str:
    """The encoder of an output.

    Args:
        source: what is encoded, where it is known. Few players show H.264 of more than 8 bits;
            those of H.265 do, so that it is the default for sources that have more (unless they
            are such H.264 themselves). A source with alpha gets one that has it, where the
            container does.

    Raises:
        UsageError: an extension or encoder that is unknown, a pair that does not go together, or a
            preset or quality that the encoder does not take.
    """
    format_name = container_format(path)
    if options.encoder is None:
        encoder = _default_encoder(format_name, options, source)
    else:
        encoder = options.encoder
    if encoder not in ENCODERS:
        raise UnknownNameError("encoder", encoder, ENCODERS)
    if format_name not in ENCODERS[encoder].formats:
        takers = [e for e, how in ENCODERS.items() if format_name in how.formats]
        raise UsageError(f"{path}: {path.suffix} does not hold {encoder}; use {', '.join(takers)}")
    _check_values(encoder, options)
    return encoder


def _default_encoder(format_name: str, options: EncodeOptions, source: VideoInfo | None) -> str:
    if format_name == "webm":
        return "libvpx-vp9"
    if source is None:
        return "libx264"
    wants_opaque = "yuva" not in (options.pix_fmt or "yuva")
    if source.has_alpha and format_name != "mp4" and not wants_opaque:
        is_deep = source.bit_depth > 8
        return "prores_ks" if format_name == "mov" or is_deep else "libvpx-vp9"
    deep = source.bit_depth > 8 and source.codec != "h264"
    return "libx265" if deep else "libx264"


def pixel_formats(encoder: str) -> tuple[str, ...]:
    """FFmpeg's names of what an encoder takes and frames can be made in."""
    import av  # not for every command

    names = [f.name for f in av.Codec(encoder, "w").video_formats or ()]
    kind = "yuva?" if ENCODERS[encoder].alpha else "yuv"
    return tuple(name for name in names if re.fullmatch(kind + r"4(20|22|44)p(10le|12le)?", name))


def alpha_note(path: Path, options: EncodeOptions, source: VideoInfo) -> str | None:
    """One line where an output will lose the transparency of its source, or None.

    Raises:
        UsageError: as ``choose_encoder``.
    """
    encoder = choose_encoder(path, options, source=source)
    if not source.has_alpha:
        return None
    if ENCODERS[encoder].alpha and "yuva" in (options.pix_fmt or "yuva"):
        return None
    return (
        f"the source has transparency, which {path.name} ({encoder}) will not have; "
        ".mov (ProRes 4444), .webm and .mkv (VP9) keep it"
    )


def encoder_options(encoder: str, options: EncodeOptions) -> dict[str, str]:
    """What FFmpeg is given."""
    how = ENCODERS[encoder]
    values = dict(how.options)
    crf = how.crf if options.crf is None else options.crf
    preset = how.preset if options.preset is None else options.preset
    if crf is not None:
        values["crf"] = str(crf)
    if preset is not None:
        values["preset"] = preset
    return values


def _check_values(encoder: str, options: EncodeOptions) -> None:
    """FFmpeg would refuse them late and without their name, correct them, or leave them out."""
    how = ENCODERS[encoder]
    if options.pix_fmt is not None and options.pix_fmt not in pixel_formats(encoder):
        possible = ", ".join(pixel_formats(encoder))
        raise UsageError(f"--pix-fmt {options.pix_fmt}: {encoder} takes {possible}")
    if options.preset is not None and options.preset not in how.presets:
        possible = ", ".join(how.presets) or "none"
        raise UsageError(f"--preset {options.preset}: {encoder} takes {possible}")
    if options.crf is not None:
        low, high = how.crfs or (1, 0)
        if not low <= options.crf <= high:
            possible = f"{low} to {high}" if how.crfs else "none"
            raise UsageError(f"--crf {options.crf}: {encoder} takes {possible}")
