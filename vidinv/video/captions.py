"""Closed captions of pictures (CEA-608 and 708, as in ATSC A/53) put into encoded packets.

PyAV gives frames no side data, so that an encoder never sees them. What encoders do with them is
small and exact, and done here to their packets: one message more in front of the picture, which
depends on nothing and on which nothing depends.
"""

from __future__ import annotations

import re
from typing import Any

import av
from av.sidedata.sidedata import Type

# user_data_registered_itu_t_t35: country USA, provider ATSC, "GA94", caption data (A/53-4, 6.2.3).
_HEAD = b"\xb5\x00\x31GA94\x03"
MOST_TRIPLETS = 31  # cc_count has 5 bits
_START_CODE = re.compile(b"\0\0\1")

# By codec: the header of the unit, and whether one (by its first byte) holds part of a picture.
_SEI_HEADERS = {"h264": b"\x06", "hevc": b"\x4e\x01"}
CODECS = (*_SEI_HEADERS, "av1")
_OBU_METADATA, _OBU_FRAMES, _METADATA_T35 = 5, (3, 6), 4  # AV1 specification, 6.2.2 and 6.7.1


def captions_of(frame: av.VideoFrame) -> bytes:
    """``cc_data``, three bytes each, or empty."""
    side_data: Any = frame.side_data
    data = side_data.get(Type.A53_CC)
    return b"" if data is None else bytes(data)


def with_captions(packet: Any, codec: str, cc_data: bytes) -> Any:
    """A copy of an encoder's packet (H.264 and H.265: Annex B) whose picture has captions."""
    data, message = bytes(packet), _message(cc_data)
    if codec == "av1":
        place = _first_frame(data)
        unit = bytes([_METADATA_T35]) + message + b"\x80"
        insert = bytes([_OBU_METADATA << 3 | 2]) + _leb128(len(unit)) + unit
    else:
        place = _first_slice(data, codec)
        payload = b"\x04" + bytes([len(message)]) + message + b"\x80"
        insert = b"\0\0\0\1" + _SEI_HEADERS[codec] + _escaped(payload)
    copy = av.Packet(data[:place] + insert + data[place:])
    copy.pts, copy.dts, copy.duration = packet.pts, packet.dts, packet.duration
    copy.time_base, copy.stream = packet.time_base, packet.stream
    # PyAV cannot say that nothing refers to it, which MP4 would repeat as a hint to editors.
    copy.is_keyframe = packet.is_keyframe
    for side_data in packet.iter_sidedata():
        copy.set_sidedata(side_data)
    return copy


def _message(cc_data: bytes) -> bytes:
    """The message of A/53; ``cc_data`` beyond what it can count is left out."""
    cc_data = cc_data[: 3 * min(MOST_TRIPLETS, len(cc_data) // 3)]
    process_cc_data = 0x40
    return _HEAD + bytes([process_cc_data | len(cc_data) // 3, 0xFF]) + cc_data + b"\xff"


def _first_slice(data: bytes, codec: str) -> int:
    """Where the first unit with part of a picture begins, its start code included."""
    for start in _START_CODE.finditer(data):
        header = data[start.end()]
        is_picture = 1 <= header & 31 <= 5 if codec == "h264" else (header >> 1) & 63 < 32
        if is_picture:
            place = start.start()
            return place - 1 if place and data[place - 1] == 0 else place
    return len(data)


def _first_frame(data: bytes) -> int:
    """Where the first frame or frame header of a temporal unit of AV1 begins."""
    place = 0
    while place < len(data):
        header = data[place]
        has_extension, has_size = header >> 2 & 1, header >> 1 & 1
        if (header >> 3) & 15 in _OBU_FRAMES or not has_size:
            return place
        start = place + 1 + has_extension
        size, length = _read_leb128(data, start)
        place = start + length + size
    return len(data)


def _escaped(payload: bytes) -> bytes:
    """With emulation prevention bytes (H.264 7.4.1, H.265 7.4.2)."""
    out, zeros = bytearray(), 0
    for byte in payload:
        if zeros >= 2 and byte <= 3:
            out.append(3)
            zeros = 0
        out.append(byte)
        zeros = zeros + 1 if byte == 0 else 0
    return bytes(out)


def _leb128(number: int) -> bytes:
    out = bytearray()
    while True:
        number, low = number >> 7, number & 127
        out.append(low | (128 if number else 0))
        if not number:
            return bytes(out)


def _read_leb128(data: bytes, place: int) -> tuple[int, int]:
    """Number, and how many bytes it takes."""
    number = 0
    for length in range(8):
        byte = data[place + length]
        number |= (byte & 127) << 7 * length
        if byte < 128:
            return number, length + 1
    return number, 8
