"""A remote clip copied into the folder of its work, by the worker that has this task."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipelines.batch.inputs.remote import SILENCE_SECONDS, open_url, reason
from pipelines.batch.inputs.sources import shown
from vidinv.errors import MediaError
from vidinv.files import atomic_file


def fetch(
    url: str,
    target: Path,
    *,
    size: int | None,
    on_chunk: Callable[[], None],
    silence_seconds: float = SILENCE_SECONDS,
) -> int:
    """Copy a remote file; it appears under its name when it is complete.

    Args:
        size: bytes that it had when it was found; None if that is not known.
        on_chunk: called whenever a part of it has come.
        silence_seconds: how long a web server may send nothing.

    Returns:
        Its size in bytes.

    Raises:
        MediaError: it cannot be had, or is not what was found; another attempt may help.
    """
    remove_copy(target)
    with atomic_file(target) as temporary:
        fs, path = open_url(url, silence_seconds=silence_seconds)
        try:
            fs.get_file(path, str(temporary), callback=_callback(on_chunk))
        except Exception as error:
            raise MediaError(f"{shown(url)}: cannot be fetched ({reason(error)})") from error
        received = temporary.stat().st_size
        if size is not None and received != size:
            raise MediaError(
                f"{shown(url)}: {received} bytes came, and it had {size} when it was found"
            )
    return received


def remove_copy(target: Path) -> None:
    """Remove what ``fetch`` wrote, and what an attempt that was killed has left."""
    # In a folder of our own: whatever is named so is ours.
    for path in (target, *target.parent.glob(f".{target.name}.*.part")):
        path.unlink(missing_ok=True)


def _callback(on_chunk: Callable[[], None]) -> Any:
    """fsspec's, which it calls for every part of a file."""

    class Parts(importlib.import_module("fsspec").Callback):  # type: ignore[misc]
        def call(self, *args: Any, **kwargs: Any) -> None:
            on_chunk()

    return Parts()
