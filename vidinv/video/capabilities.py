"""What the installed FFmpeg can do; ``vidinv doctor`` prints it."""

from __future__ import annotations

import av
from av.codec.codec import UnknownCodecError

from vidinv.video.codecs import ENCODERS


def versions() -> str:
    """PyAV and the FFmpeg inside it, in words."""
    return f"PyAV {av.__version__}, FFmpeg {av.ffmpeg_version_info}"


def usable_encoders() -> dict[str, bool]:
    """Encoder that ``--encoder`` takes -> the installed FFmpeg has it."""
    return {name: _has_encoder(name) for name in ENCODERS}


def _has_encoder(name: str) -> bool:
    try:
        av.Codec(name, "w")
    except UnknownCodecError:
        return False
    return True
