"""Telling that a file was cut short, before its last frames are missed.

FFmpeg ends quietly at the end of a truncated Matroska file, and of an MP4 file whose index points
past its end it reports nothing until the packet there. Both containers say how long they should
be. (In MPEG streams the last, incomplete picture comes out marked as corrupt.)
"""

from __future__ import annotations

import os
from typing import Any, BinaryIO

EBML_MAGIC = b"\x1a\x45\xdf\xa3"
SEGMENT_ID = b"\x18\x53\x80\x67"


class Damage(Exception):
    """The file is damaged; the message continues "FILE ...": what, and where."""

    @classmethod
    def after(cls, num_frames: int, seconds: float) -> Damage:
        """Damage met while decoding, with the place that was reached."""
        if not num_frames:
            return cls("is damaged: its first frame cannot be decoded")
        return cls(f"is damaged after frame {num_frames - 1} ({seconds:.2f} s)")


def check_complete(path: str, container: Any, stream: Any) -> None:
    """Raise Damage where the container itself says that the file should be longer."""
    size = os.path.getsize(path)
    expected = _indexed_bytes(stream) if "mp4" in container.format.name else _matroska_bytes(path)
    if expected > size:
        raise Damage(f"is cut short: it has {size} bytes of at least {expected}; get it again")


def _indexed_bytes(stream: Any) -> int:
    """Where the last sample of the index ends; 0 without an index."""
    return max((entry.pos + entry.size for entry in stream.index_entries), default=0)


def _matroska_bytes(path: str) -> int:
    """Where the segment ends (RFC 8794, RFC 9559); 0 for other files and for live recordings."""
    with open(path, "rb") as file:
        if file.read(4) != EBML_MAGIC:
            return 0
        header_bytes = _variable_int(file)
        if header_bytes is None:
            return 0
        file.seek(header_bytes, os.SEEK_CUR)
        if file.read(4) != SEGMENT_ID:
            return 0
        segment_bytes = _variable_int(file)
        return 0 if segment_bytes is None else file.tell() + segment_bytes


def _variable_int(file: BinaryIO) -> int | None:
    """An EBML element size; None where it is unknown (all ones) or not there."""
    first = file.read(1)
    if not first or not first[0]:
        return None
    length = 9 - first[0].bit_length()
    value = int.from_bytes(first + file.read(length - 1), "big")
    mask = (1 << 7 * length) - 1
    return None if value & mask == mask else value & mask
