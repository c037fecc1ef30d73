"""Names of the files of a clip's work, and what a killed worker leaves beside an output."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

from pipelines.clip.plan import Segment


def segment_stem(folder: Path, segment: Segment) -> Path:
    """Where the files of a segment lie, without their suffixes."""
    return folder / f"{segment.number:05d}"


def samples_path(stem: Path) -> Path:
    """The faces of a segment, for identity figures of the whole clip."""
    return stem.with_suffix(".faces.safetensors")


def remove_parts(output: Path) -> None:
    """What a worker that was killed while it made this output has left beside it."""
    name = re.compile(re.escape(f".{output.name}.") + r"[0-9a-f]{8}\.part")
    for found in os.listdir(output.parent):
        if name.fullmatch(found):
            with contextlib.suppress(OSError):  # of use to nobody, and in nobody's way
                (output.parent / found).unlink()
