"""What a training run is asked for, on the command line or from Python."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vidinv.errors import UsageError


@dataclass(frozen=True)
class TrainingRequest:
    """A run as started: kind of task, experiment file, folder of the run, prepared faces.

    Attributes:
        resume: go on from the checkpoint in ``out``.
        dry_run: three steps in memory, and what the run would take; nothing is written.
        ray: the workers are those of Ray Train (training.on_ray).
    """

    kind: str
    config: Path
    out: Path
    data: Path = Path("data/faces")
    resume: bool = False
    dry_run: bool = False
    ray: bool = False

    def check_new_pack(self) -> None:
        """UsageError where ``out``, which a pack is to be written into, is there already."""
        if self.out.exists():
            raise UsageError(f"{self.out} is there already: a new pack needs a new folder")
