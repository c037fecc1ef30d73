"""Names of the files of a clip's work."""

from __future__ import annotations

from pathlib import Path

from pipelines.clip.plan import Segment


def segment_stem(folder: Path, segment: Segment) -> Path:
    """Where the files of a segment lie, without their suffixes."""
    return folder / f"{segment.number:05d}"


def samples_path(stem: Path) -> Path:
    """The faces of a segment, for identity figures of the whole clip."""
    return stem.with_suffix(".faces.safetensors")
