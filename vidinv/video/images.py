"""Still pictures: the same RGB arrays as video frames, upright, read and written whole."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, ImageOps, UnidentifiedImageError, features
from PIL import Image as PillowImage

from vidinv.errors import DecodeError, EncodeError, UsageError
from vidinv.files import atomic_file
from vidinv.types import Image
from vidinv.version import __version__

# 4:4:4: faces keep their colour edges.
_JPEG: tuple[str, dict[str, Any]] = ("JPEG", {"quality": 95, "subsampling": 0})
_TIFF: tuple[str, dict[str, Any]] = ("TIFF", {"compression": "tiff_adobe_deflate"})
_FORMATS: dict[str, tuple[str, dict[str, Any]]] = {
    ".png": ("PNG", {}),
    ".jpg": _JPEG,
    ".jpeg": _JPEG,
    ".jfif": _JPEG,
    ".jpe": _JPEG,
    ".webp": ("WEBP", {"quality": 95}),
    ".bmp": ("BMP", {}),
    ".tif": _TIFF,
    ".tiff": _TIFF,
}
if features.check("avif"):
    _FORMATS[".avif"] = ("AVIF", {"quality": 95, "subsampling": "4:4:4"})
MAX_EXIF_BYTES = 65_000  # a segment of JPEG, less the comment's
# Pillow writes XMP into these.
_XMP = ("JPEG", "WEBP", "AVIF")
IMAGE_SUFFIXES = tuple(_FORMATS)
# Known as pictures: to FFmpeg, some are clips of one frame, and a message would speak of a video.
_OTHER_PICTURES = frozenset(
    (
        *(".avif", ".heic", ".heif", ".hif", ".jxl", ".jp2", ".j2k", ".jpx", ".mpo", ".ico"),
        *(".psd", ".xcf", ".svg", ".eps", ".tga", ".exr", ".hdr", ".dpx", ".ppm", ".pgm", ".pnm"),
        *(".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".orf", ".rw2", ".pcx", ".dib", ".qoi"),
    )
)
# Phones make pictures of 200 million; decoded, these take 0.8 GB.
MAX_PIXELS = 1 << 28
_STDERR_LOCK = threading.RLock()
_PILLOW_PIXELS, _PILLOW_LIMIT = PillowImage.MAX_IMAGE_PIXELS, threading.Lock()


def is_image_path(path: str | os.PathLike[str]) -> bool:
    """The extension names a still picture that can be read and written."""
    return Path(path).suffix.lower() in _FORMATS


def check_kind(path: str | os.PathLike[str]) -> None:
    """UsageError for an extension that names a still picture that cannot be read and written."""
    suffix = Path(path).suffix.lower()
    if suffix in _OTHER_PICTURES - _FORMATS.keys():
        known = ", ".join(_FORMATS)
        raise UsageError(f"{path}: {suffix} pictures are not supported; convert it to {known}")


def same_kind(one: str | os.PathLike[str], other: str | os.PathLike[str]) -> bool:
    """Two pictures' extensions name one format, as .jpg and .jfif do."""
    kinds = [_FORMATS[Path(path).suffix.lower()][0] for path in (one, other)]
    return kinds[0] == kinds[1]


def keeps_profile(path: str | os.PathLike[str]) -> bool:
    """Pictures of this extension are written with the ICC profile of their colours."""
    return Path(path).suffix.lower() != ".bmp"


def keeps_comment(path: str | os.PathLike[str]) -> bool:
    """Pictures of this extension are written with a comment."""
    return Path(path).suffix.lower() != ".bmp"


def read_image(path: str | os.PathLike[str]) -> Image:
    """``[H, W, 3]`` uint8 RGB, EXIF orientation applied, transparency dropped.

    Raises:
        DecodeError: missing, damaged, truncated, an animation, or larger than ``MAX_PIXELS``.
    """
    with opened_picture(path) as picture:
        num_frames = getattr(picture, "n_frames", 1)
        if num_frames > 1 and picture.format == "TIFF":
            raise DecodeError(f"{path}: {num_frames} pages; save the one that is meant")
        # What lies beside a photograph in its file (MPO) is a preview, or its depth.
        if num_frames > 1 and picture.format != "MPO":
            raise DecodeError(f"{path}: an animation of {num_frames} frames; convert it to a clip")
        return np.array(_eight_bits(ImageOps.exif_transpose(picture)).convert("RGB"))


def _eight_bits(picture: PillowImage.Image) -> PillowImage.Image:
    """Grey of 16 bits, which Pillow would clip."""
    if picture.mode == "F":
        raise DecodeError("floating-point pictures are not supported; convert it to 16 bits")
    if not picture.mode.startswith("I;16"):
        return picture
    return PillowImage.fromarray((np.asarray(picture) >> 8).astype(np.uint8))


def rgb_profile(path: str | os.PathLike[str]) -> bytes | None:
    """The ICC profile that says how the RGB of a picture looks (Display P3, say), if it has one.

    Raises:
        DecodeError: as ``read_image``.
    """
    with opened_picture(path) as picture:
        profile: bytes | None = picture.info.get("icc_profile")
    # Bytes 16 to 19 name the colour space: of CMYK and grey, RGB is made without their profiles.
    return profile if profile and profile[16:20] == b"RGB " else None


@dataclass(frozen=True)
class PictureTags:
    """What a picture says beside its pixels and colours.

    Attributes:
        exif: as stored, but upright: ``read_image`` has turned the picture.
        xmp: a packet, or empty.
        dpi: pixels an inch, across and down.
        bits: of each colour, where more than 8.
    """

    exif: bytes = b""
    xmp: bytes = b""
    dpi: tuple[float, float] | None = None
    bits: int = 8

    def lost_in(self, path: str | os.PathLike[str]) -> list[str]:
        """What a picture of this extension is written without."""
        kind = _FORMATS[Path(path).suffix.lower()][0]
        lost = [("EXIF data", self.exif and kind == "BMP"), ("XMP", self.xmp and kind not in _XMP)]
        lost.append((f"{self.bits} bits a colour", self.bits > 8))
        return [f"{what} of the picture: {kind} is written without" for what, gone in lost if gone]


def picture_tags(path: str | os.PathLike[str]) -> PictureTags:
    """EXIF, XMP and resolution of a picture.

    Raises:
        DecodeError: as ``read_image``.
    """
    with opened_picture(path) as picture:
        exif, xmp, dpi = picture.getexif(), picture.info.get("xmp"), picture.info.get("dpi")
        exif.pop(ExifTags.Base.Orientation, None)
        with open(path, "rb") as file:
            head = file.read(32)
        is_deep = head[:4] == b"\x89PNG" and head[24] == 16 and head[25] in (2, 6)
        return PictureTags(
            exif=_stored(exif),
            xmp=xmp.encode() if isinstance(xmp, str) else xmp or b"",
            dpi=None if dpi is None else (float(dpi[0]), float(dpi[1])),
            bits=16 if is_deep else 8,
        )


def _stored(exif: PillowImage.Exif) -> bytes:
    """Bytes of what can be written again: nothing of damaged data, or of more than JPEG holds."""
    try:
        data = exif.tobytes() if len(exif) else b""
    except Exception:  # whatever Pillow meets in data that a file makes up
        return b""
    return data if len(data) < MAX_EXIF_BYTES else b""


def has_transparency(path: str | os.PathLike[str]) -> bool:
    """Some of the picture shows what is behind it, which ``read_image`` does not tell.

    Raises:
        DecodeError: as ``read_image``.
    """
    with opened_picture(path) as picture:
        if not picture.has_transparency_data:
            return False
        return bool(np.asarray(picture.convert("RGBA"))[..., 3].min() < 255)


@contextlib.contextmanager
def opened_picture(path: str | os.PathLike[str]) -> Iterator[PillowImage.Image]:
    """A picture whose pixels are read inside; DecodeError for whatever is wrong with it."""
    try:
        with _open(path) as (picture, most_pixels):
            if picture.width * picture.height > most_pixels:
                size = f"{picture.width}x{picture.height}"
                raise DecodeError(f"{path}: too many pixels ({size}, at most {most_pixels})")
            with _libtiff_silenced() if picture.format == "TIFF" else contextlib.nullcontext():
                yield picture
    except DecodeError:
        raise
    except FileNotFoundError:
        raise DecodeError(f"{path}: no such file") from None
    except UnidentifiedImageError:
        raise DecodeError(f"{path}: not a picture of a kind that can be read") from None
    except Exception as error:  # on damaged files, Pillow's readers raise whatever comes up
        reason = str(error) or type(error).__name__
        raise DecodeError(f"{path}: the picture is damaged ({reason})") from None


@contextlib.contextmanager
def _libtiff_silenced() -> Iterator[None]:
    """It prints what is wrong with a file on standard error, past Python; our line says enough."""
    with contextlib.ExitStack() as stack, _STDERR_LOCK:
        with contextlib.suppress(OSError):  # there is none to silence
            saved, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, 2)
            os.close(nowhere)
            stack.callback(os.close, saved)
            stack.callback(os.dup2, saved, 2)
        yield


@contextlib.contextmanager
def _open(path: str | os.PathLike[str]) -> Iterator[tuple[PillowImage.Image, int]]:
    """A picture and how many pixels it may have.

    Pillow's own limit is below what phones make; one that the calling program set is kept.
    """
    with _PILLOW_LIMIT:
        limit, PillowImage.MAX_IMAGE_PIXELS = PillowImage.MAX_IMAGE_PIXELS, None
        try:
            picture = PillowImage.open(path)
        finally:
            PillowImage.MAX_IMAGE_PIXELS = limit
    with picture:
        yield picture, MAX_PIXELS if limit in (None, _PILLOW_PIXELS) else limit


def write_image(
    path: str | os.PathLike[str],
    image: Image,
    *,
    profile: bytes | None = None,
    comment: str | None = None,
    tags: PictureTags | None = None,
    finish: Callable[[Path], None] | None = None,
) -> None:
    """Write ``[H, W, 3]`` uint8 RGB in the format of the extension; appears only when complete.

    JPEG and AVIF are written at quality 95 without chroma subsampling, WebP at quality 95.

    Args:
        profile: ICC profile of the colours (``rgb_profile``).
        comment: stands in the EXIF data, as description (``keeps_comment``).
        tags: of the source, to stand in it too (but see ``PictureTags.lost_in``).
        finish: is given the complete file before it gets its name, and may change it.

    Raises:
        UsageError: unknown extension, or not a uint8 RGB picture.
        EncodeError: the file cannot be written.
    """
    path = Path(path)
    if not is_image_path(path):
        raise UsageError(f"{path}: cannot write this kind of picture; use {', '.join(_FORMATS)}")
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise UsageError(f"{path}: expected uint8 [H, W, 3], got {image.dtype} {image.shape}")
    kind, options = _FORMATS[path.suffix.lower()]
    try:
        with atomic_file(path) as temporary:
            said = _said(comment, tags or PictureTags(), kind)
            PillowImage.fromarray(image).save(
                temporary, kind, icc_profile=profile, **said, **options
            )
            if finish is not None:
                finish(temporary)
    except OSError as error:
        raise EncodeError(f"{path}: cannot be written ({error.strerror or error})") from None


def _said(comment: str | None, tags: PictureTags, kind: str) -> dict[str, Any]:
    """What ``save`` is given of ``tags`` and ``comment``."""
    said: dict[str, Any] = {}
    if comment is not None or tags.exif:
        said["exif"] = _exif(comment, tags.exif)
    if tags.xmp and kind in _XMP:
        said["xmp"] = tags.xmp
    if tags.dpi is not None:
        said["dpi"] = tags.dpi
    return said


def _exif(comment: str | None, stored: bytes) -> PillowImage.Exif:
    exif = PillowImage.Exif()
    if stored:
        exif.load(stored)
    if comment is None:
        return exif
    exif[ExifTags.Base.ImageDescription] = comment
    exif[ExifTags.Base.Software] = f"vidinv {__version__}"
    return exif
