"""``join``: make the output of a clip from its segments, or copy a clip that is not edited."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from pipelines.batch.stages.analyse import load_made_plan
from pipelines.batch.stages.clip_state import Clip
from pipelines.batch.stages.context import StageContext
from pipelines.batch.stages.edit_result import EditResult
from pipelines.batch.stages.render import RenderResult
from pipelines.batch.stages.tasks import RunOptions, StageTask
from pipelines.batch.stages.work_files import samples_path, segment_stem
from pipelines.clip.plan import ClipPlan
from pipelines.clip.samples import FaceSample, load_samples
from vidinv.files import remove_temporaries
from vidinv.provenance import EditedFrom, Finisher, edit_comment
from vidinv.video import copy_media, join_segments


@dataclass(frozen=True)
class JoinTask(StageTask):
    """The file to write, the names of all segments in the clip's folder, and their warnings."""

    output: Path
    files: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @classmethod
    def of(cls, clip: Clip, options: RunOptions, segment: int | None) -> Self:
        rendered = clip.results_of(RenderResult)
        results = [rendered[number] for number in range(len(clip.segment_frames or ()))]
        return cls(
            clip.job,
            clip.folder,
            options.output / clip.job.output,
            tuple(result.file for result in results),
            tuple(text for result in results for text in result.warnings),
        )


def join(context: StageContext, task: JoinTask) -> EditResult:
    """Write the output of a clip."""
    job, plan = task.local_job, load_made_plan(task.folder)
    session = context.session(job, plan.key)
    task.output.parent.mkdir(parents=True, exist_ok=True)
    remove_temporaries(task.output)
    warnings = [*session.request_warnings(), *task.warnings]
    how: dict[str, Any] = {"on_alive": context.beat, "worker": context.join_worker}
    if plan.segments:
        edited = EditedFrom(
            Path(job.input), task.job.name, session.spec, context.networks.pack.name
        )
        finisher = Finisher(
            context.settings.credentials, task.output, edited, on_alive=context.beat
        )
        warnings += join_segments(
            [task.folder / name for name in task.files],
            task.output,
            source=plan.info,
            times=plan.times_T2.tolist(),
            comment=edit_comment(edited.spec, pack=edited.pack),
            finish=finisher,
            **how,
        )
        warnings += finisher.warnings
    else:
        warnings.append(session.why_unchanged(plan))
        warnings += copy_media(job.input, task.output, **how)
    return EditResult.of(session.summary(plan, _samples(task.folder, plan), warnings))


def _samples(folder: Path, plan: ClipPlan) -> list[FaceSample]:
    stems = [segment_stem(folder, segment) for segment in plan.segments]
    return [sample for stem in stems for sample in load_samples(samples_path(stem))]
