"""vidinv: edit faces in video by GAN inversion.

    import vidinv
    result = vidinv.edit("clip.mp4", "smiling.mp4", attributes={"smile": 1.0})

The names below load on first use, so that importing vidinv costs nothing and child processes that
only decode video start without torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from vidinv.version import __version__

if TYPE_CHECKING:
    from vidinv.api import batch, edit, invert, list_faces
    from vidinv.latents import load_latents
    from vidinv.packs import load_pack
    from vidinv.types import ClipResult

__all__ = [
    "ClipResult",
    "__version__",
    "batch",
    "edit",
    "invert",
    "list_faces",
    "load_latents",
    "load_pack",
]

_HOMES = {
    "batch": "api",
    "edit": "api",
    "invert": "api",
    "list_faces": "api",
    "load_latents": "latents",
    "load_pack": "packs",
    "ClipResult": "types",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'vidinv' has no attribute {name!r}")
    return getattr(importlib.import_module(f"vidinv.{_HOMES[name]}"), name)
