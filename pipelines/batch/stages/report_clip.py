"""``report``: compare a finished output with its source; a report that is there is replaced."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from pipelines.batch.stages.analyse import analyse, load_made_plan
from pipelines.batch.stages.clip_state import Clip
from pipelines.batch.stages.context import StageContext, TaskProgress
from pipelines.batch.stages.fit import digests_of, load_states
from pipelines.batch.stages.tasks import ReportOptions, Row, RunOptions, StageResult, StageTask
from pipelines.batch.status.reports import figures, page_name
from pipelines.report.compare import run
from pipelines.report.request import ReportRequest
from vidinv.editing.schedules import as_plain
from vidinv.inversion import TrackState
from vidinv.latents import PLAN_FILE
from vidinv.types import Analysis

# Of recognition, a clip: 12 frames of source, inversion and output, and the neighbours of 8 of them
# in source and output, 0.6 s of a CPU, and a second for the inversion; up to 6 more frames beside
# suspicious ones. A single report takes 3000 and shows 24 ordinary frames.
MAX_EMBEDDINGS = 36
ORDINARY_FRAMES = 6


@dataclass(frozen=True)
class ReportTask(StageTask):
    """A clip whose output is there.

    Attributes:
        output: file of it.
        root: folder of all outputs.
        page: where the report goes, below it.
        options: what is measured.
        states: as for ``RenderTask``.
    """

    output: Path
    root: Path
    page: str
    options: ReportOptions
    states: Mapping[int, str] = field(default_factory=dict)

    @classmethod
    def of(cls, clip: Clip, options: RunOptions, segment: int | None) -> Self:
        assert options.reports is not None
        root, output = options.output, clip.job.output
        page = page_name(output)
        states = digests_of(clip)
        return cls(clip.job, clip.folder, root / output, root, page, options.reports, states)


@dataclass(frozen=True)
class ReportResult(StageResult):
    """Main figures, as ``status.reports`` has them."""

    report: Mapping[str, Any]

    def row_fields(self) -> Row:
        return {"report": self.report}


def report(context: StageContext, task: ReportTask) -> ReportResult:
    """Write the report of a finished clip."""
    job = task.local_job
    networks = context.report_networks
    request = ReportRequest(
        source=Path(job.input),
        output=task.output,
        page=task.root / task.page,
        pack=networks.pack,
        method=networks.method,
        max_embeddings=MAX_EMBEDDINGS,
        ordinary_frames=ORDINARY_FRAMES,
        inversion=task.options.inversion,
        networks=networks,
        states=_states(context, task),
        edit={**as_plain(job.attributes), "method": networks.method},
        analysis=None if job.is_picture else _analysis(context, task),
        source_name=task.job.shown,
        overwrite=True,
        on_error=context.settings.on_error,
    )
    made = run(request, progress=TaskProgress(context))
    return ReportResult(figures(made, task.page))


def _states(context: StageContext, task: ReportTask) -> Mapping[int, TrackState] | None:
    """What the output was made with, as far as it is still there; else it is fitted again."""
    if task.states:
        return load_states(task.folder, task.states)
    return context.session(task.local_job).recall_states()


def _analysis(context: StageContext, task: ReportTask) -> Analysis:
    """The clip's; found again where an earlier run made the output, and cleared up."""
    if not (task.folder / PLAN_FILE).is_file():
        analyse(context, task)
    return load_made_plan(task.folder).analysis
