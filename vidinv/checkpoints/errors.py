"""The error of files that cannot be imported."""

from __future__ import annotations

from vidinv.errors import PackError


class CheckpointError(PackError):
    """A checkpoint that is damaged, not what it seems, of an unknown layout, or not safe."""
