"""Clips, the tasks that make them, and workers as the schedule sees them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from pipelines.batch.request.jobs import Job

# First what is nearest to a finished clip; a picture is made in one go.
STAGES = ("report", "join", "render", "picture", "analyse", "fetch")

Row = dict[str, Any]


@dataclass
class Clip:
    """A clip on its way through the run.

    Attributes:
        num_frames: counted by its analysis; ``num_expected`` is what its header says before.
        fetched: the copy of a remote clip lies in its folder.
        made: what its row says once the output is there, while its report is not.
    """

    job: Job
    id: str
    folder: Path
    num_frames: int | None = None
    num_expected: int | None = None
    segment_frames: list[int] | None = None
    rendered: dict[int, Row] = field(default_factory=dict)
    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    fetched: bool = False
    made: Row | None = None
    row: Row | None = None

    def note_analysis(self, row: Row) -> None:
        """It was analysed: what was rendered of another plan does not count."""
        self.num_frames, self.segment_frames = row["num_frames"], row["segment_frames"]
        self.rendered.clear()
        self.seconds["analyse"] = row["seconds"]

    def note_segment(self, line: Row) -> None:
        """A segment was rendered."""
        self.rendered[line["segment"]] = line
        self.seconds["render"] += line["seconds"]

    def note_made(self, row: Row) -> None:
        """Its output is there."""
        self.seconds.update(row["seconds"])
        self.num_frames, self.made = row.get("frames"), row


@dataclass(frozen=True)
class Task:
    """One stage of one clip; ``segment`` for ``render`` only."""

    stage: str
    clip: Clip
    segment: int | None = None

    @property
    def key(self) -> tuple[str, str, int | None]:
        return self.clip.id, self.stage, self.segment

    @property
    def num_frames(self) -> int:
        """Frames that it goes through; 0 before the analysis of its clip."""
        if self.segment is None:
            return self.clip.num_frames or 0
        return (self.clip.segment_frames or [])[self.segment]

    @property
    def where(self) -> str:
        return self.stage if self.segment is None else f"{self.stage} segment {self.segment}"


@dataclass(frozen=True)
class Outcome:
    """What became of a task: a row, or the death of its worker.

    Attributes:
        death: how the worker ended.
        blamed: the task may be the cause; not so where a whole node was lost.
        details: for the log.
    """

    task: Task
    row: Row | None = None
    death: str = ""
    blamed: bool = True
    details: str = ""


@dataclass(frozen=True)
class Running:
    """A task that a worker holds.

    Attributes:
        frames: done of this task.
        num_expected: frames of its clip, as its header says.
    """

    task: Task
    frames: int
    num_expected: int | None = None


class Workers(Protocol):
    """Processes that run tasks, each one at a time."""

    @property
    def count(self) -> int:
        """How many there are."""

    @property
    def running(self) -> Sequence[Running]:
        """What they do now."""

    def start(self, task: Task, payload: Row) -> bool:
        """Hand a task to a free worker for its stage; False when there is none."""

    def wait(self, *, timeout_seconds: float) -> list[Outcome]:
        """Outcomes since the last call; waits for the first one."""
