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
from vidinv.video import deep_images

# 4:4:4: faces keep their colour edges.
_JPEG: tuple[str, dict[str, Any]] = ("JPEG", {"quality": 95, "subsampling": 0})
_TIFF: tuple[str, dict[str, Any]] = ("TIFF", {"compression": "tiff_adobe_deflate"})
_FORMATS: dict[str, tuple[str, dict[str, Any]]] = {
    ".png": ("PNG", {}),
    ".jpg": _JPEG,
    ".jpeg": _JPEG,
    ".jfif": _JPEG,
    ".jpe": _JPEG,
    ".webp": ("WEBP", {"quality": 95, "exact": True}),
    ".bmp": ("BMP", {}),
    ".tif": _TIFF,
    ".tiff": _TIFF,
}
if features.check("avif"):
    _FORMATS[".avif"] = ("AVIF", {"quality": 95, "subsampling": "4:4:4"})
# Tags of how TIFF stores its pixels (sizes, strips, tiles, palette), which Pillow would write into
# another file as they are.
_OF_STORAGE = (
    *(*range(254, 260), 262, 266, 273, *range(277, 281), 284, *range(288, 294), 301, 317, 320),
    *(*range(322, 326), 330, *range(338, 342), 347, *range(512, 522), *range(529, 533), 34675),
)
_AVIF_HEADER_BYTES = 1 << 16
MAX_EXIF_BYTES = 65_000  # a segment of JPEG, less the comment's
# Written with alpha; of WebP and AVIF, also the colours that it hides.
_ALPHA = ("PNG", "TIFF", "WEBP", "AVIF")
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


def keeps_alpha(path: str | os.PathLike[str]) -> bool:
    """Pictures of this extension are written with transparency."""
    return _FORMATS[Path(path).suffix.lower()][0] in _ALPHA


def read_image(path: str | os.PathLike[str]) -> Image:
    """``[H, W, 3]`` RGB, EXIF orientation applied, without transparency; uint16 where PNG or TIFF
    has 16 bits, else uint8.

    Raises:
        DecodeError: missing, damaged, truncated, an animation, or larger than ``MAX_PIXELS``.
    """
    return read_with_alpha(path)[0]


def read_with_alpha(path: str | os.PathLike[str]) -> tuple[Image, Image | None]:
    """The same, and how opaque each pixel is: ``[H, W]`` of the same type, or None where all are.

    Raises:
        DecodeError: as ``read_image``.
    """
    with opened_picture(path) as picture:
        num_frames = getattr(picture, "n_frames", 1)
        if num_frames > 1 and picture.format == "TIFF":
            raise DecodeError(f"{path}: {num_frames} pages; save the one that is meant")
        # What lies beside a photograph in its file (MPO) is a preview, or its depth.
        if num_frames > 1 and picture.format != "MPO":
            raise DecodeError(f"{path}: an animation of {num_frames} frames; convert it to a clip")
        image, alpha = _decoded(path, picture)
    hides = alpha is not None and alpha.min() < np.iinfo(alpha.dtype).max
    return image, alpha if hides else None


def _decoded(
    path: str | os.PathLike[str], picture: PillowImage.Image
) -> tuple[Image, Image | None]:
    if picture.mode == "F":
        raise DecodeError(f"{path}: floating-point pictures are not supported; use 16 bits")
    if deep_images.is_deep(picture, _head(path)):
        orientation = picture.getexif().get(ExifTags.Base.Orientation, 1)
        with _decoders_silenced():
            return deep_images.read(path, picture, orientation)
    upright = _eight_bits(ImageOps.exif_transpose(picture))
    if not upright.has_transparency_data:
        return np.array(upright.convert("RGB")), None
    return np.array(upright.convert("RGB")), np.array(upright.convert("RGBA"))[..., 3]


def _head(path: str | os.PathLike[str]) -> bytes:
    with open(path, "rb") as file:
        return file.read(32)


def _eight_bits(picture: PillowImage.Image) -> PillowImage.Image:
    """Grey of 16 bits, which Pillow would clip."""
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
        lost.append((f"{self.bits} bits a colour", self.bits > 8 and not self._keeps_bits(kind)))
        return [f"{what} of the picture: {kind} is written without" for what, gone in lost if gone]

    def _keeps_bits(self, kind: str) -> bool:
        """Those of AVIF, 10 or 12, are not even read."""
        return self.bits == 16 and kind in deep_images.KINDS


def picture_tags(path: str | os.PathLike[str]) -> PictureTags:
    """EXIF, XMP and resolution of a picture.

    Raises:
        DecodeError: as ``read_image``.
    """
    with opened_picture(path) as picture:
        exif, xmp, dpi = picture.getexif(), picture.info.get("xmp"), picture.info.get("dpi")
        for tag in (ExifTags.Base.Orientation, *_OF_STORAGE):
            exif.pop(tag, None)
        return PictureTags(
            exif=_stored(exif),
            xmp=xmp.encode() if isinstance(xmp, str) else xmp or b"",
            dpi=None if dpi is None else (float(dpi[0]), float(dpi[1])),
            bits=_bits(path, picture),
        )


def _bits(path: str | os.PathLike[str], picture: PillowImage.Image) -> int:
    """Of each colour; AVIF says it in a box of its header (ISO/IEC 23008-12, 6.5.6)."""
    if deep_images.is_deep(picture, _head(path)):
        return 16
    if picture.format != "AVIF":
        return 8
    with open(path, "rb") as file:
        header = file.read(_AVIF_HEADER_BYTES)
    place = header.find(b"pixi")
    return max(8, header[place + 9]) if 0 <= place < len(header) - 9 else 8


def _stored(exif: PillowImage.Exif) -> bytes:
    """Bytes of what can be written again: nothing of damaged data, or of more than JPEG holds."""
    try:
        data = exif.tobytes() if len(exif) else b""
    except Exception:  # whatever Pillow meets in data that a file makes up
        return b""
    return data if len(data) < MAX_EXIF_BYTES else b""


@contextlib.contextmanager
def opened_picture(path: str | os.PathLike[str]) -> Iterator[PillowImage.Image]:
    """A picture whose pixels are read inside; DecodeError for whatever is wrong with it."""
    try:
        with _open(path) as (picture, most_pixels):
            if picture.width * picture.height > most_pixels:
                size = f"{picture.width}x{picture.height}"
                raise DecodeError(f"{path}: too many pixels ({size}, at most {most_pixels})")
            with _decoders_silenced() if picture.format == "TIFF" else contextlib.nullcontext():
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
def _decoders_silenced() -> Iterator[None]:
    """They print what is wrong with a file on standard error, past Python; our line says enough."""
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
    alpha: Image | None = None,
    profile: bytes | None = None,
    comment: str | None = None,
    tags: PictureTags | None = None,
    finish: Callable[[Path], None] | None = None,
) -> None:
    """Write ``[H, W, 3]`` RGB in the format of the extension; appears only when complete.

    JPEG and AVIF are written at quality 95 without chroma subsampling, WebP at quality 95; uint16
    as 16 bits in PNG and TIFF, else as 8.

    Args:
        alpha: ``[H, W]`` of the same type, where ``keeps_alpha``.
        profile: ICC profile of the colours (``rgb_profile``).
        comment: stands in the EXIF data, as description (``keeps_comment``).
        tags: of the source, to stand in it too (but see ``PictureTags.lost_in``).
        finish: is given the complete file before it gets its name, and may change it.

    Raises:
        UsageError: unknown extension, or not an RGB picture.
        EncodeError: the file cannot be written.
    """
    path = Path(path)
    if not is_image_path(path):
        raise UsageError(f"{path}: cannot write this kind of picture; use {', '.join(_FORMATS)}")
    if image.dtype not in (np.uint8, np.uint16) or image.ndim != 3 or image.shape[2] != 3:
        raise UsageError(
            f"{path}: expected uint8 or uint16 [H, W, 3], got {image.dtype} {image.shape}"
        )
    kind, options = _FORMATS[path.suffix.lower()]
    try:
        with atomic_file(path) as temporary:
            said = _said(comment, tags or PictureTags(), kind)
            said |= {"icc_profile": profile, **options}
            shown = alpha if kind in _ALPHA else None
            if image.dtype == np.uint16 and kind in deep_images.KINDS:
                with open(temporary, "wb") as file:
                    deep_images.write(file, image, shown, kind, said)
            else:
                _as_pillow(image, shown).save(temporary, kind, **said)
            if finish is not None:
                finish(temporary)
    except OSError as error:
        raise EncodeError(f"{path}: cannot be written ({error.strerror or error})") from None


def _as_pillow(image: Image, alpha: Image | None) -> PillowImage.Image:
    """Of 8 bits."""
    levels = image if alpha is None else np.dstack([image, alpha])
    if levels.dtype == np.uint16:
        levels = ((levels.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)
    return PillowImage.fromarray(levels)


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
