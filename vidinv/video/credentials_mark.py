"""Whether a file has content credentials (C2PA) of its own, found without c2pa.

So that they do not vanish unsaid where a file is written anew: ``vidinv.provenance`` reads and
writes them.
"""

from __future__ import annotations

import mmap
import os
import struct

# Of the box in which C2PA embeds its store into MP4 and its like (C2PA 2.1, A.5).
_BOX_ID = bytes.fromhex("d8fec3d61b0e483c92975828877ec481")
# How every store begins, in whatever kind of file: a JUMBF box of the type "c2pa".
_STORE = b"jumdc2pa" + bytes.fromhex("00110010800000aa00389b71")
LOST = "the content credentials of the source are lost: "


def has_credentials(path: str | os.PathLike[str]) -> bool:
    """A clip in MP4 or MOV, or a picture, that carries credentials in itself."""
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size < 16:
            return False
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            if data[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free"):
                return _has_box(data, size)
            if data[:4] in _PICTURES or data[:2] == b"\xff\xd8":
                return data.find(_STORE) >= 0
    return False


_PICTURES = (b"\x89PNG", b"RIFF", b"II*\0", b"MM\0*")


def _has_box(data: mmap.mmap, size: int) -> bool:
    """Among the boxes of the file itself: no more than their heads are read."""
    place = 0
    while place + 24 <= size:
        length, name = struct.unpack_from(">I4s", data, place)
        head = 8
        if length == 1:
            (length,) = struct.unpack_from(">Q", data, place + 8)
            head = 16
        if name == b"uuid" and data[place + head : place + head + 16] == _BOX_ID:
            return True
        if length < head:  # 0: up to the end of the file
            return False
        place += length
    return False
