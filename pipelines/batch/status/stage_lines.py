"""Results of stages as lines of the journal: the only place where they are JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipelines.batch.stages.clip_state import Clip
from pipelines.batch.stages.table import STAGES, Stage
from pipelines.batch.stages.tasks import Completed

Line = dict[str, Any]

_BY_EVENT = {stage.event: stage for stage in STAGES if stage.event is not None}


def stage_line(stage: Stage, clip: Clip, segment: int | None, done: Completed) -> Line:
    """The line of a result that a resumed run can build on."""
    line: Line = {"event": stage.event, "clip": clip.id, "output": clip.job.output}
    if segment is not None:
        line["segment"] = segment
    return {**line, **done.result.to_json(), "seconds": done.seconds}


def stage_of_line(line: Mapping[str, Any]) -> Stage | None:
    """The stage that it speaks of; None for lines of clips and runs."""
    return _BY_EVENT.get(line.get("event", ""))


def completed_of(stage: Stage, line: Mapping[str, Any]) -> Completed:
    """The inverse of ``stage_line``; the segment is ``line.get("segment")``."""
    return Completed(stage.result.from_json(line), line["seconds"])
