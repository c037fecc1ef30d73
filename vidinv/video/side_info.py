"""What a file says beside pixels and packets: kept where encoder and container can, else named.

What is lost is found by reading the finished output, so that nothing is named that has arrived.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from fractions import Fraction
from itertools import islice
from typing import Any

import av
from av.error import FFmpegError
from av.sidedata.sidedata import Type

from vidinv.video.alpha import has_alpha, is_beside_picture
from vidinv.video.info import TAG_ERRORS, VideoInfo
from vidinv.video.streams import picture_stream

# Written by the muxer itself, or about the file that was (AVI calls its muxer "software").
MUXER_TAGS = {
    *("encoder", "software", "major_brand", "minor_version", "compatible_brands", "duration"),
}
# Of a picture's stream: what a person or a player would miss.
PICTURE_TAGS = ("language", "handler_name", "title", "name", "stereo_mode", "creation_time")
NAMES = {
    Type.MASTERING_DISPLAY_METADATA: "mastering display (HDR10)",
    Type.CONTENT_LIGHT_LEVEL: "content light level (HDR10)",
    Type.DYNAMIC_HDR_PLUS: "dynamic metadata (HDR10+)",
    Type.DOVI_METADATA: "Dolby Vision metadata",
    Type.DYNAMIC_HDR_VIVID: "HDR Vivid metadata",
    Type.AMBIENT_VIEWING_ENVIRONMENT: "ambient viewing environment",
    Type.STEREO3D: "stereo 3D mode",
    Type.SPHERICAL: "spherical projection",
    Type.ICC_PROFILE: "colour profile",
    Type.AFD: "active format description",
}
NUM_FRAMES = 8
_UNSAID = struct.pack("<i", 8)  # AV_STEREO3D_UNSPEC
# Keys that MP4 has boxes for; with others, its muxer has to write QuickTime's keys.
BOX_TAGS = {
    *("title", "artist", "album_artist", "album", "composer", "comment", "date", "genre"),
    *("copyright", "grouping", "lyrics", "description", "synopsis", "show", "episode_id"),
    *("network", "keywords", "track", "disc", "encoder", "encoding_tool", "creation_time"),
    *("timecode", "location", "location-eng", "make", "model", "rating", "compilation"),
}


def needs_keys(tags: Mapping[str, str]) -> bool:
    """MP4 keeps the tags as QuickTime keys only (make and place of a phone's clip)."""
    return any(name.startswith("com.") for name in tags)


def mastering_display(frame: av.VideoFrame) -> str:
    """As x265 takes it (chromaticities in 0.00002, luminance in 0.0001 cd/m2), or ``""``."""
    side_data: Any = frame.side_data
    data = side_data.get(Type.MASTERING_DISPLAY_METADATA)
    if data is None:
        return ""
    numbers = struct.unpack_from("<22i", bytes(data))
    values = [Fraction(n, d or 1) for n, d in zip(numbers[:20:2], numbers[1:20:2], strict=True)]
    if not (numbers[20] and numbers[21]):
        return ""
    red, green, blue, white = (
        ",".join(str(round(v * 50000)) for v in values[i : i + 2]) for i in (0, 2, 4, 6)
    )
    low, high = (round(v * 10000) for v in values[8:10])
    return f"G({green})B({blue})R({red})WP({white})L({high},{low})"


def frame_packing(frame: av.VideoFrame) -> int | None:
    """``frame_packing_arrangement_type`` of H.264 for stereo 3D with the left view first."""
    side_data: Any = frame.side_data
    data = side_data.get(Type.STEREO3D)
    if data is None:
        return None
    kind, flags = struct.unpack_from("<2i", bytes(data))
    # By AVStereo3DType: side by side, top and bottom, frames in turn, checkerboard, lines, columns.
    packings = {1: 3, 2: 4, 3: 5, 4: 0, 6: 2, 7: 1}
    return None if flags else packings.get(kind)


def light_level(frame: av.VideoFrame) -> str:
    """Greatest light level of pixel and of frame in cd/m2 as x265 takes them, or ``""``."""
    side_data: Any = frame.side_data
    data = side_data.get(Type.CONTENT_LIGHT_LEVEL)
    return "" if data is None else "{},{}".format(*struct.unpack_from("<2I", bytes(data)))


def said_by_encoder(encoder: str, info: VideoInfo) -> dict[str, str]:
    """Encoder options for what is kept in the stream itself: HDR10's mastering, stereo 3D."""
    names = {
        "libx265": ("x265-params", "master-display", "max-cll"),
        "libx264": ("x264-params", "mastering-display", "cll"),
        "libsvtav1": ("svtav1-params", "mastering-display", "content-light"),
    }
    if encoder not in names:
        return {}
    option, display, level = names[encoder]
    mastering = info.mastering_display
    if encoder == "libsvtav1":
        mastering = _in_plain_units(mastering)
    said = [(display, mastering), (level, info.light_level)]
    if info.frame_packing is not None and encoder == "libx264":
        said.append(("frame-packing", str(info.frame_packing)))
    text = ":".join(f"{name}={value}" for name, value in said if value)
    return {option: text} if text else {}


def _in_plain_units(mastering: str) -> str:
    """As SVT-AV1 takes it: chromaticities as they are, luminance in cd/m2."""
    parts = re.findall(r"([A-Z]+)\((\d+),(\d+)\)", mastering)
    scales = {"L": 10000}
    values = [(name, *(int(n) / scales.get(name, 50000) for n in pair)) for name, *pair in parts]
    return "".join(f"{name}({one:.6f},{other:.6f})" for name, one, other in values)


def what_is_lost(source: str | None, output: str) -> list[str]:
    """One line for each thing that ``source`` says and the finished ``output`` does not."""
    if source is None:
        return []
    with (
        av.open(source, metadata_errors=TAG_ERRORS) as a,
        av.open(output, metadata_errors=TAG_ERRORS) as b,
    ):
        format_name = b.format.name.split(",")[0]
        (before, was_transparent), (after, is_transparent) = _said_by_frames(a), _said_by_frames(b)
        gone = {kind for kind, _ in before - after}
        # FFmpeg reads the emptier of the two boxes for stereo that it writes into MP4.
        if (Type.STEREO3D, _UNSAID) in after and b.metadata.get("major_brand") != "qt  ":
            gone.discard(Type.STEREO3D)
        lost = [name for kind, name in NAMES.items() if kind in gone]
        lines = [f"{what} is lost: it was not written" for what in lost]
        if a.chapters() and len(b.chapters()) < len(a.chapters()):
            lines.append(f"chapters are lost: {len(a.chapters())} before, {len(b.chapters())} now")
        if tags := _lost_tags(a, b):
            lines.append(f"tags that {format_name} does not keep are lost: {', '.join(tags)}")
        if was_transparent and not is_transparent:
            lines.append("the transparency of the source is lost: it was written opaque")
    return lines


def _said_by_frames(container: Any) -> tuple[set[tuple[Any, bytes]], bool]:
    """Kinds of side data of the first frames; whether the first one has alpha.

    Of stereo 3D, how the views share the frame is told too: MOV keeps less of it.
    """
    picture = picture_stream(container)
    found: set[tuple[Any, bytes]] = set()
    transparent = is_beside_picture(picture)
    try:
        for number, frame in enumerate(islice(container.decode(picture), NUM_FRAMES)):
            for data in frame.side_data.keys():  # noqa: SIM118
                packing = bytes(data)[:4] if data.type is Type.STEREO3D else b""
                found.add((data.type, packing))
            transparent = transparent or (number == 0 and has_alpha(frame))
    except FFmpegError:  # of a damaged file: what came so far
        pass
    return found, transparent


def _lost_tags(a: Any, b: Any) -> list[str]:
    after = {name.lower() for name in b.metadata}
    for stream in b.streams:
        after |= {name.lower() for name in stream.metadata}
    picture = picture_stream(a)
    wanted = {name.lower() for name in a.metadata} - MUXER_TAGS
    wanted |= {name.lower() for name in picture.metadata if name.lower() in PICTURE_TAGS}
    said = {name.removesuffix("-eng") for name in wanted - after}
    # Of no use to a person, or side data.
    return sorted(said - after - {"handler_name", "language", "stereo_mode"})
