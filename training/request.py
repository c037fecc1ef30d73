"""What a training run is asked for, on the command line or from Python."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class TrainingRequest:
    """A run as started: kind of task, experiment file, folder of the run, prepared faces."""

    kind: str
    config: Path
    out: Path
    data: Path = Path("data/faces")
    resume: bool = False
