"""Still pictures: the same RGB arrays as video frames, upright, read and written whole."""

from __future__ import annotations

import os
import secrets
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as PillowImage
from PIL import ImageOps, UnidentifiedImageError

from vidinv.errors import DecodeError, EncodeError, UsageError
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
        DecodeError: missing, damaged, truncated, or larger than Pillow deems safe.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", PillowImage.DecompressionBombWarning)
            with PillowImage.open(path) as picture:
                return np.array(ImageOps.exif_transpose(picture).convert("RGB"))
    except FileNotFoundError:
        raise DecodeError(f"{path}: no such file") from None
    except UnidentifiedImageError:
        raise DecodeError(f"{path}: not a picture that can be read (PNG, JPEG, WebP)") from None
    except (PillowImage.DecompressionBombError, PillowImage.DecompressionBombWarning) as error:
        raise DecodeError(f"{path}: too many pixels ({error})") from None
    except (OSError, SyntaxError, ValueError) as error:
        raise DecodeError(f"{path}: the picture is damaged ({error})") from None


def write_image(path: str | os.PathLike[str], image: Image) -> None:
    """Write ``[H, W, 3]`` uint8 RGB in the format of the extension; appears only when complete.

    JPEG is written at quality 95 without chroma subsampling, WebP at quality 95.

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
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        PillowImage.fromarray(image).save(temporary, kind, **options)
        os.replace(temporary, path)
    except OSError as error:
        raise EncodeError(f"{path}: cannot be written ({error.strerror or error})") from None
    finally:
        temporary.unlink(missing_ok=True)
