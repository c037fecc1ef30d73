"""``analyse``: the plan of a clip, its shots and faces, found now or kept by an earlier run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pipelines.batch.request.jobs import Job
from pipelines.batch.stages.clip_state import Clip
from pipelines.batch.stages.context import StageContext
from pipelines.batch.stages.tasks import StageResult, StageTask
from pipelines.clip.plan import ClipPlan, load_plan, save_plan
from pipelines.clip.session import ClipSession
from vidinv.errors import DecodeError
from vidinv.latents import PLAN_FILE
from vidinv.paths import check_file
from vidinv.video import try_writing


@dataclass(frozen=True)
class AnalyseTask(StageTask):
    """A clip that lies on this machine."""


@dataclass(frozen=True)
class AnalyseResult(StageResult):
    """Frames of the clip and of each segment; no segments where nothing is edited."""

    num_frames: int
    segment_frames: tuple[int, ...]

    def is_kept(self, clip: Clip) -> bool:
        return (clip.folder / PLAN_FILE).is_file()

    def apply_to(self, clip: Clip) -> None:
        clip.num_frames, clip.segment_frames = self.num_frames, self.segment_frames


def analyse(context: StageContext, task: StageTask) -> AnalyseResult:
    """Write the plan into the clip's folder."""
    job = task.local_job
    check_file(job.input)
    session = context.session(job)
    plan = session.recall_plan() or _make_plan(context, job, session)
    task.folder.mkdir(parents=True, exist_ok=True)
    if plan.segments:  # what `edit` finds out before it renders
        try_writing(
            job.output,
            source=plan.info,
            options=context.settings.encode,
            folder=task.folder,
            on_alive=context.beat,
        )
    save_plan(task.folder / PLAN_FILE, plan)
    context.notes += session.notes
    frames = tuple(segment.num_frames for segment in plan.segments)
    return AnalyseResult(plan.analysis.num_frames, frames)


def load_made_plan(folder: Path) -> ClipPlan:
    """The plan in a clip's folder.

    Raises:
        FileNotFoundError, DecodeError: it is gone or damaged; a damaged one is removed, so that the
            next run analyses the clip anew.
    """
    path = folder / PLAN_FILE
    try:
        return load_plan(path)
    except DecodeError:
        path.unlink(missing_ok=True)
        raise


def _make_plan(context: StageContext, job: Job, session: ClipSession) -> ClipPlan:
    with context.open(job, around=session.analysed) as reader:
        context.num_expected = reader.info.num_frames
        return session.make_plan(
            context.counted(reader),
            reader.info,
            has_exact_times=lambda: reader.exact_times,
            damage=lambda: (reader.num_held, reader.notes),
        )
