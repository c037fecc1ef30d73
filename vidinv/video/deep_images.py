"""Pictures of 16 bits a colour in PNG and TIFF, which Pillow reads as 8 and does not write.

OpenCV reads them, and compresses the pixels of PNG; what a file says beside its pixels is written
by Pillow, and put around them.
"""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image as PillowImage

from vidinv.errors import DecodeError
from vidinv.types import Image

KINDS = ("PNG", "TIFF")
Array16 = npt.NDArray[np.uint16]

_BITS, _PHOTOMETRIC, _SAMPLE_FORMAT, _WIDTH = 258, 262, 339, 256  # tags of TIFF
_PNG_BITS = 24  # where PNG says it: signature, then length and name of the first chunk


def is_deep(picture: PillowImage.Image, head: bytes) -> bool:
    """The file has 16 bits a colour or shade of grey, as whole numbers.

    Args:
        head: its first 32 bytes.
    """
    if picture.format == "PNG":
        return head[_PNG_BITS] == 16
    if picture.format != "TIFF":
        return False
    tags: Any = picture.tag_v2  # type: ignore[attr-defined]
    whole = set(tags.get(_SAMPLE_FORMAT, (1,))) == {1}
    return whole and set(tags.get(_BITS, (1,))) == {16} and tags.get(_PHOTOMETRIC) in (1, 2)


def read(
    path: str | os.PathLike[str], picture: PillowImage.Image, orientation: int
) -> tuple[Array16, Any]:
    """RGB ``[H, W, 3]`` upright, and alpha ``[H, W]`` or None.

    Args:
        picture: the same, open; Pillow finds out whether the file is whole.
        orientation: of EXIF, 1 to 8.
    """
    import cv2  # not for every command

    picture.load()
    pixels: Any = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.dtype != np.uint16:
        raise DecodeError(f"{path}: its 16-bit pixels cannot be read; convert it to 8 bits")
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    colours = pixels.shape[2]
    alpha = pixels[..., 3] if colours == 4 else None
    image = np.repeat(pixels[..., :1], 3, 2) if colours < 3 else pixels[..., 2::-1]
    upright = _turned(image, orientation)
    return upright, None if alpha is None else _turned(alpha, orientation)


def _turned(image: Array16, orientation: int) -> Array16:
    """As EXIF has it: 2, 4, 5, 7 are mirrored; 5 to 8 lie on their side."""
    if orientation in (5, 6, 7, 8):
        image = image.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    return np.ascontiguousarray(image)


def write(file: Any, image: Image, alpha: Image | None, kind: str, said: dict[str, Any]) -> None:
    """Write uint16 RGB ``[H, W, 3]`` and its alpha to an open file.

    Args:
        kind: of ``KINDS``.
        said: what Pillow's ``save`` is given of all else.
    """
    pixels: Any = image if alpha is None else np.dstack([image, alpha])
    file.write(_png(pixels, said) if kind == "PNG" else _tiff(pixels, said))


def _png(pixels: Image, said: dict[str, Any]) -> bytes:
    """The chunks of a small picture of Pillow's, with these pixels."""
    import cv2

    order = [2, 1, 0, 3][: pixels.shape[2]]
    done, encoded = cv2.imencode(".png", pixels[..., order])
    if not done:
        raise OSError("the pixels could not be compressed")
    small = io.BytesIO()
    PillowImage.new("RGB", (1, 1)).save(small, "PNG", **said)
    chunks = list(_chunks(encoded.tobytes()))
    more = [data for name, data in _chunks(small.getvalue()) if name not in _OF_PIXELS]
    own = [data for name, data in chunks if name in _OF_PIXELS]
    return b"".join([encoded.tobytes()[:8], own[0], *more, *own[1:]])


_OF_PIXELS = (b"IHDR", b"IDAT", b"IEND")


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Name and bytes of each chunk of PNG, length and checksum included."""
    place = 8
    while place < len(data):
        (length,) = struct.unpack_from(">I", data, place)
        end = place + length + 12
        yield data[place + 4 : place + 8], data[place:end]
        place = end


def _tiff(pixels: Image, said: dict[str, Any]) -> bytes:
    """TIFF of twice the width in 8 bits has the same bytes: its width and bits are put right."""
    height, width, colours = pixels.shape
    halves = pixels.astype("<u2").view(np.uint8).reshape(height, 2 * width, colours)
    mode = "RGB" if colours == 3 else "RGBA"
    whole = io.BytesIO()
    PillowImage.frombytes(mode, (2 * width, height), halves.tobytes()).save(whole, "TIFF", **said)
    data = bytearray(whole.getvalue())
    (place,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, place)
    for entry in range(place + 2, place + 2 + 12 * count, 12):
        tag, kind, number, value = struct.unpack_from("<HHII", data, entry)
        if tag == _WIDTH:
            struct.pack_into("<H" if kind == 3 else "<I", data, entry + 8, width)
        elif tag == _BITS:
            struct.pack_into(f"<{number}H", data, value, *[16] * number)
    return bytes(data)
