"""What a stage is told and what it answers: plain dataclasses, which Ray carries as they are.

They become JSON in the journal only (``status/stage_lines.py``).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pipelines.batch.request.jobs import Job

if TYPE_CHECKING:
    from pipelines.batch.stages.clip_state import Clip

Row = dict[str, Any]


@dataclass(frozen=True)
class ReportOptions:
    """How the reports of a run are made.

    Attributes:
        inversion: also measure what the inversion alone loses.
    """

    inversion: bool = True


@dataclass(frozen=True)
class RunOptions:
    """What decides the tasks of a run, beside its clips.

    Attributes:
        output: folder of the outputs.
        method: of the inversion.
        reports: None makes none.
    """

    output: Path
    method: str = "fse"
    reports: ReportOptions | None = None


@dataclass(frozen=True)
class StageTask:
    """What every stage is told.

    Attributes:
        job: as it was asked for.
        folder: the clip's own, for its copy, plan and segments.
    """

    job: Job
    folder: Path

    @classmethod
    def of(cls, clip: Clip, options: RunOptions, segment: int | None) -> Self:
        """The task of a clip whose earlier stages are done; ``segment`` as ``Stage.parts`` says."""
        return cls(clip.job, clip.folder)

    @property
    def local_job(self) -> Job:
        """The job with the copy that was fetched in the place of a remote clip."""
        return self.job.local(self.folder)


@dataclass(frozen=True)
class StageResult:
    """What a stage answers; fields are numbers, texts, and tuples and dataclasses of these."""

    def is_kept(self, clip: Clip) -> bool:
        """Whether the files that it speaks of are still there, when a run is resumed."""
        return True

    def apply_to(self, clip: Clip) -> None:
        """What else is known of the clip by it."""

    def row_fields(self) -> Row:
        """What the manifest's row of the clip says of it; plain JSON."""
        return {}

    def to_json(self) -> Row:
        """Plain types, as they come back from the journal: tuples are lists."""
        data: Row = json.loads(json.dumps(asdict(self)))
        return data

    @classmethod
    def from_json(cls, line: Mapping[str, Any]) -> Self:
        """The inverse of ``to_json`` for results that the journal keeps; other keys are ignored."""
        values = {f.name: line[f.name] for f in fields(cls) if f.name in line}
        return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})


@dataclass(frozen=True)
class Completed:
    """A task that was done.

    Attributes:
        seconds: that it took.
        notes: what a person should know of it, for the log.
    """

    result: StageResult
    seconds: float
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Failure:
    """Why a task has no result: what its stage says of the clip, or how its worker ended.

    Attributes:
        cause: one line.
        file: of the clip, where it is the clip.
        retry: whether another attempt may help.
        blamed: the task may be the cause; not so where a whole node was lost.
        disk_full: nothing can be done before there is room.
        details: for the log: a traceback, or Ray's own words.
    """

    cause: str
    file: str = ""
    retry: bool = True
    blamed: bool = True
    disk_full: bool = False
    details: str = ""
