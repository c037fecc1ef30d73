"""Still pictures: the same RGB arrays as video frames, upright, read and written whole."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as PillowImage
from PIL import ImageOps, UnidentifiedImageError

from vidinv.errors import DecodeError, EncodeError, UsageError
from vidinv.files import atomic_file
from vidinv.types import Image

_FORMATS: dict[str, tuple[str, dict[str, Any]]] = {
    ".png": ("PNG", {}),
    # 4:4:4: faces keep their colour edges.
    ".jpg": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".jpeg": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".webp": ("WEBP", {"quality": 95}),
}


def is_image_path(path: str | os.PathLike[str]) -> bool:
    """The extension names a still picture that can be read and written."""
    return Path(path).suffix.lower() in _FORMATS


def read_image(path: str | os.PathLike[str]) -> Image:
    """``[H, W, 3]`` uint8 RGB, EXIF orientation applied, transparency dropped.

    Raises:
        DecodeError: missing, damaged, truncated, an animation, or larger than Pillow deems safe.
    """
    with _opened(path) as picture:
        num_frames = getattr(picture, "n_frames", 1)
        # What lies beside a photograph in its file (MPO) is a preview, or its depth.
        if num_frames > 1 and picture.format != "MPO":
            raise DecodeError(f"{path}: an animation of {num_frames} frames; convert it to a clip")
        return np.array(_eight_bits(ImageOps.exif_transpose(picture)).convert("RGB"))


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
    with _opened(path) as picture:
        profile: bytes | None = picture.info.get("icc_profile")
    # Bytes 16 to 19 name the colour space: of CMYK and grey, RGB is made without their profiles.
    return profile if profile and profile[16:20] == b"RGB " else None


def has_transparency(path: str | os.PathLike[str]) -> bool:
    """Some of the picture shows what is behind it, which ``read_image`` does not tell.

    Raises:
        DecodeError: as ``read_image``.
    """
    with _opened(path) as picture:
        if not picture.has_transparency_data:
            return False
        return bool(np.asarray(picture.convert("RGBA"))[..., 3].min() < 255)


@contextlib.contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[PillowImage.Image]:
    """A picture whose pixels are read inside; DecodeError for whatever is wrong with it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", PillowImage.DecompressionBombWarning)
            with PillowImage.open(path) as picture:
                yield picture
    except DecodeError:
        raise
    except FileNotFoundError:
        raise DecodeError(f"{path}: no such file") from None
    except UnidentifiedImageError:
        raise DecodeError(f"{path}: not a picture that can be read (PNG, JPEG, WebP)") from None
    except (PillowImage.DecompressionBombError, PillowImage.DecompressionBombWarning) as error:
        raise DecodeError(f"{path}: too many pixels ({error})") from None
    except (OSError, SyntaxError, ValueError) as error:
        raise DecodeError(f"{path}: the picture is damaged ({error})") from None


def write_image(
    path: str | os.PathLike[str], image: Image, *, profile: bytes | None = None
) -> None:
    """Write ``[H, W, 3]`` uint8 RGB in the format of the extension; appears only when complete.

    JPEG is written at quality 95 without chroma subsampling, WebP at quality 95.

    Args:
        profile: ICC profile of the colours (``rgb_profile``).

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
            PillowImage.fromarray(image).save(temporary, kind, icc_profile=profile, **options)
    except OSError as error:
        raise EncodeError(f"{path}: cannot be written ({error.strerror or error})") from None
