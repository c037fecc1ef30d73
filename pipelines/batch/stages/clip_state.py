"""A clip on its way through a run: what its stages have found out, made, and how long they took."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar, cast

from pipelines.batch.request.jobs import Job
from pipelines.batch.stages.tasks import Row, StageResult

R = TypeVar("R", bound=StageResult)


@dataclass
class Clip:
    """A clip or picture of a run.

    Attributes:
        folder: of its work.
        num_frames: counted by its analysis; ``num_expected`` is what its header says before.
        segment_frames: frames of each segment; None before its analysis.
        results: of its stages, by their type; ``None``, or the number of the segment.
        seconds: by the name of the stage.
        made: what its row says as soon as the output is there, while its report is not.
        row: of the manifest; the clip is done, or quarantined.
    """

    job: Job
    id: str
    folder: Path
    num_frames: int | None = None
    num_expected: int | None = None
    segment_frames: Sequence[int] | None = None
    results: dict[type[StageResult], dict[int | None, StageResult]] = field(default_factory=dict)
    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    made: Row | None = None
    row: Row | None = None

    def results_of(self, kind: type[R]) -> dict[int | None, R]:
        """Results of one type, by segment."""
        return cast(dict[int | None, R], self.results.get(kind, {}))

    def result_of(self, kind: type[R]) -> R | None:
        """The result of a stage that has one a clip."""
        return self.results_of(kind).get(None)

    def mark_made(self, row: Row) -> None:
        """Its output is there; ``row`` says what it is, and what it took."""
        self.seconds.update(row["seconds"])
        self.num_frames, self.made = row.get("frames"), row
