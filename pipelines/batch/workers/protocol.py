"""Workers as the schedule sees them: tasks go in, outcomes come out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from pipelines.batch.stages.clip_state import Clip
from pipelines.batch.stages.table import Stage
from pipelines.batch.stages.tasks import Completed, Failure, StageTask


@dataclass(frozen=True)
class ScheduledTask:
    """One stage of one clip, or of a segment of it."""

    stage: Stage
    clip: Clip
    segment: int | None = None

    @property
    def key(self) -> tuple[str, str, int | None]:
        return self.clip.id, self.stage.name, self.segment

    @property
    def num_frames(self) -> int:
        """Frames that it goes through; 0 before the analysis of its clip."""
        if self.segment is None:
            return self.clip.num_frames or 0
        return (self.clip.segment_frames or ())[self.segment]

    @property
    def where(self) -> str:
        """``join``, ``render segment 3``."""
        name = self.stage.name
        return name if self.segment is None else f"{name} segment {self.segment}"


@dataclass(frozen=True)
class Outcome:
    """What became of a task."""

    task: ScheduledTask
    result: Completed | Failure


@dataclass(frozen=True)
class RunningTask:
    """A task that a worker holds.

    Attributes:
        frames: done of this task.
        num_expected: frames of its clip, as its header says.
    """

    task: ScheduledTask
    frames: int
    num_expected: int | None = None


class Workers(Protocol):
    """Processes that run tasks, each one at a time."""

    @property
    def count(self) -> int:
        """How many there are."""

    @property
    def running(self) -> Sequence[RunningTask]:
        """What they do now."""

    def start(self, task: ScheduledTask, payload: StageTask) -> bool:
        """Hand a task to a free worker for its stage; False when there is none."""

    def wait(self, *, timeout_seconds: float) -> list[Outcome]:
        """Outcomes since the last call; waits for the first one."""
