"""The child process that reads the metadata of one clip; ``describing`` starts it.

It answers ``{"description": ...}`` or ``{"error": reason}``. Nothing is decoded.
"""

from __future__ import annotations

import os
from typing import Any

import av
from av.error import FFmpegError

from vidinv.video.isolation import Channel

_MOST_TEXT = 500


def main() -> None:
    """Serve one request, then leave."""
    channel = Channel()
    path = channel.receive()["path"]
    try:
        with av.open(path, metadata_errors="replace") as container:
            channel.send({"description": _describe(container)})
    except FFmpegError as error:
        channel.send({"error": f"cannot be read as video ({error.strerror or error})"})
    except Exception as error:
        channel.send({"error": f"cannot be read ({type(error).__name__}: {error})"})
    os._exit(0)


def _describe(container: Any) -> dict[str, Any]:
    duration = container.duration
    return {
        "kind": "clip",
        "format": container.format.name,
        "duration_seconds": None if duration is None else round(duration / 1e6, 3),
        "tags": _tags(container.metadata),
        "streams": [_stream(stream) for stream in container.streams],
    }


def _stream(stream: Any) -> dict[str, Any]:
    context = stream.codec_context
    found = {
        "index": stream.index,
        "kind": stream.type,
        "codec": None if context is None else context.name,
        "tags": _tags(stream.metadata),
    }
    if stream.type == "video" and context is not None:
        found["size"] = f"{context.width}x{context.height}"
    return found


def _tags(metadata: dict[str, str]) -> dict[str, str]:
    return {name: text[:_MOST_TEXT] for name, text in metadata.items()}
