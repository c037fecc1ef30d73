"""Reading and writing video and pictures: the only part of vidinv that imports av and decord.

The names below load on first use: the decoding and encoding child processes import this package
too, and must start without torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vidinv.video.codecs import EncodeOptions, alpha_note, choose_encoder
    from vidinv.video.images import (
        check_kind,
        is_image_path,
        keeps_alpha,
        keeps_comment,
        keeps_profile,
        picture_tags,
        read_image,
        read_with_alpha,
        rgb_profile,
        same_kind,
        write_image,
    )
    from vidinv.video.info import StreamInfo, VideoInfo
    from vidinv.video.part import Around, Until
    from vidinv.video.reader import Part, VideoReader, open_reader, probe
    from vidinv.video.sampler import FrameSampler
    from vidinv.video.shots import ShotDetector
    from vidinv.video.writer import (
        Cut,
        VideoWriter,
        copy_media,
        join_segments,
        open_writer,
        segment_path,
        try_writing,
    )

_HOMES = {
    "Around": "part",
    "Cut": "writer",
    "EncodeOptions": "codecs",
    "FrameSampler": "sampler",
    "Part": "reader",
    "ShotDetector": "shots",
    "StreamInfo": "info",
    "Until": "part",
    "VideoInfo": "info",
    "VideoReader": "reader",
    "VideoWriter": "writer",
    "alpha_note": "codecs",
    "check_kind": "images",
    "choose_encoder": "codecs",
    "copy_media": "writer",
    "is_image_path": "images",
    "join_segments": "writer",
    "keeps_alpha": "images",
    "keeps_comment": "images",
    "keeps_profile": "images",
    "picture_tags": "images",
    "open_reader": "reader",
    "open_writer": "writer",
    "probe": "reader",
    "read_image": "images",
    "read_with_alpha": "images",
    "rgb_profile": "images",
    "same_kind": "images",
    "segment_path": "writer",
    "try_writing": "writer",
    "write_image": "images",
}

__all__ = [
    "Around",
    "Cut",
    "EncodeOptions",
    "FrameSampler",
    "Part",
    "ShotDetector",
    "StreamInfo",
    "Until",
    "VideoInfo",
    "VideoReader",
    "VideoWriter",
    "alpha_note",
    "check_kind",
    "choose_encoder",
    "copy_media",
    "is_image_path",
    "join_segments",
    "keeps_alpha",
    "keeps_comment",
    "keeps_profile",
    "open_reader",
    "open_writer",
    "picture_tags",
    "probe",
    "read_image",
    "read_with_alpha",
    "rgb_profile",
    "same_kind",
    "segment_path",
    "try_writing",
    "write_image",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
