"""What happens to files: they are cut off, bits flip, parts change places, blocks are lost."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable

_BLOCK = 188  # a packet of a transport stream


def truncate(data: bytes, random: random.Random) -> bytes:
    """A copy that ended early."""
    return data[: random.randrange(len(data))]


def flip_one(data: bytes, random: random.Random) -> bytes:
    """One bit, anywhere."""
    return _flipped(data, random, count=1, end=len(data))


def flip_many(data: bytes, random: random.Random) -> bytes:
    """A few dozen bytes, anywhere."""
    return _flipped(data, random, count=random.randint(2, 60), end=len(data))


def flip_head(data: bytes, random: random.Random) -> bytes:
    """Bytes of the header, where sizes and counts are."""
    return _flipped(data, random, count=random.randint(1, 12), end=min(len(data), 600))


def flip_tail(data: bytes, random: random.Random) -> bytes:
    """Bytes of the end, where many containers have their index."""
    size = min(len(data), 1500)
    kept = data[: len(data) - size]
    return kept + _flipped(data[len(kept) :], random, count=random.randint(1, 20), end=size)


def lose_block(data: bytes, random: random.Random) -> bytes:
    """A stretch that is missing."""
    start = random.randrange(len(data))
    return data[:start] + data[start + random.choice((1, 7, _BLOCK, 1024)) :]


def zero_block(data: bytes, random: random.Random) -> bytes:
    """A stretch that a disk has lost."""
    start = random.randrange(len(data))
    size = min(len(data) - start, random.choice((4, _BLOCK, 4096)))
    return data[:start] + bytes(size) + data[start + size :]


def insert_noise(data: bytes, random: random.Random) -> bytes:
    """Bytes of something else."""
    start = random.randrange(len(data))
    return data[:start] + random.randbytes(random.choice((1, 16, 700))) + data[start:]


def swap_parts(data: bytes, random: random.Random) -> bytes:
    """Two boxes of an MP4 in each other's places; two blocks of anything else."""
    parts = _boxes(data)
    if len(parts) < 2:
        parts = [data[at : at + _BLOCK] for at in range(0, len(data), _BLOCK)]
    if len(parts) < 2:
        return data[::-1]
    a, b = random.sample(range(len(parts)), 2)
    parts[a], parts[b] = parts[b], parts[a]
    return b"".join(parts)


def huge_size(data: bytes, random: random.Random) -> bytes:
    """A number of four bytes that claims far too much."""
    at = random.randrange(max(1, min(len(data), 4000) - 4))
    claim = random.choice((0xFFFFFFFF, 0x7FFFFFFF, 0x10000000, 0))
    return data[:at] + struct.pack(">I", claim) + data[at + 4 :]


HARMS: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    *(truncate, flip_one, flip_many, flip_head, flip_tail),
    *(lose_block, zero_block, insert_noise, swap_parts, huge_size),
)


def _flipped(data: bytes, random: random.Random, *, count: int, end: int) -> bytes:
    changed = bytearray(data)
    for _ in range(count):
        changed[random.randrange(end)] ^= 1 << random.randrange(8)
    return bytes(changed)


def _boxes(data: bytes) -> list[bytes]:
    """Top-level boxes of an MP4, and those inside ``moov``; empty for other files."""
    if data[4:8] not in (b"ftyp", b"moov", b"wide", b"mdat"):
        return []
    parts, at = [], 0
    while at + 8 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        if size < 8:
            break
        if data[at + 4 : at + 8] == b"moov":
            size = 8
        parts.append(data[at : at + size])
        at += size
    parts.append(data[at:])
    return parts
