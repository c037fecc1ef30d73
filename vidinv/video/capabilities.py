"""What the installed FFmpeg can do; ``vidinv doctor`` prints it."""

from __future__ import annotations

from collections.abc import Iterable

import av
from av.codec.codec import UnknownCodecError


def versions() -> str:
    """PyAV and the FFmpeg inside it, in words."""
    return f"PyAV {av.__version__}, FFmpeg {av.ffmpeg_version_info}"


def usable_encoders(names: Iterable[str]) -> dict[str, bool]:
    """Encoder -> the installed FFmpeg has it."""
    return {name: _has_encoder(name) for name in names}


def _has_encoder(name: str) -> bool:
    try:
        av.Codec(name, "w")
    except UnknownCodecError:
        return False
    return True
