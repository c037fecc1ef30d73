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
from pipelines.clip.plan import ClipPlan
from pipelines.clip.window import frames_within, searched_frames
from pipelines.report.compare import run
from pipelines.report.request import EditedPart, ReportRequest
from vidinv.editing.schedules import as_plain
from vidinv.inversion import TrackState
from vidinv.latents import PLAN_FILE
from vidinv.types import EditSpec, TimeRange

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
    made = run(request_of(context, task), progress=TaskProgress(context))
    return ReportResult(figures(made, task.page))


def request_of(context: StageContext, task: ReportTask) -> ReportRequest:
    """What is compared; a clip without its plan is analysed for it."""
    job, settings = task.local_job, context.settings
    networks = context.report_networks
    plan = None if job.is_picture else _plan(context, task)
    return ReportRequest(
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
        edit={**as_plain(job.attributes), **_times(settings.within), "method": networks.method},
        analysis=None if plan is None else plan.analysis,
        part=None if plan is None else _part(plan, settings.spec(job)),
        source_name=task.job.shown,
        overwrite=True,
        on_error=settings.on_error,
        device="cpu",
        landmarks=settings.landmarks,
    )


def _times(within: TimeRange | None) -> dict[str, float]:
    """``start`` and ``end`` in seconds, where the clip does not begin or end with them."""
    if within is None:
        return {}
    times = {"start": within.start or None, "end": within.end}
    return {name: seconds for name, seconds in times.items() if seconds is not None}


def _part(plan: ClipPlan, spec: EditSpec) -> EditedPart | None:
    if spec.within is None:
        return None
    edited = frames_within(plan.times_T2, plan.info, spec.within)
    return EditedPart(edited, searched_frames(plan.times_T2, plan.info, spec))


def _states(context: StageContext, task: ReportTask) -> Mapping[int, TrackState] | None:
    """What the output was made with, as far as it is still there; else it is fitted again."""
    if task.states:
        return load_states(task.folder, task.states)
    return context.session(task.local_job).recall_states()


def _plan(context: StageContext, task: ReportTask) -> ClipPlan:
    """The clip's; found again where an earlier run made the output, and cleared up."""
    if not (task.folder / PLAN_FILE).is_file():
        analyse(context, task)
    return load_made_plan(task.folder)
