"""``render``: edit and encode one segment of a clip."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Self

from pipelines.batch.stages.analyse import load_made_plan
from pipelines.batch.stages.clip_state import Clip
from pipelines.batch.stages.context import StageContext
from pipelines.batch.stages.fit import digests_of, load_states
from pipelines.batch.stages.tasks import RunOptions, StageResult, StageTask
from pipelines.batch.stages.work_files import samples_path, segment_stem
from pipelines.clip.samples import IdentitySampler, save_samples
from vidinv.video import open_writer, segment_path


@dataclass(frozen=True)
class RenderTask(StageTask):
    """One segment.

    Attributes:
        segment: its number in the plan.
        states: digest of what the method has fitted to each track, by id.
    """

    segment: int
    states: Mapping[int, str] = field(default_factory=dict)

    @classmethod
    def of(cls, clip: Clip, options: RunOptions, segment: int | None) -> Self:
        assert segment is not None
        return cls(clip.job, clip.folder, segment, digests_of(clip))


@dataclass(frozen=True)
class RenderResult(StageResult):
    """The name of the segment's file in the clip's folder, and what its encoder says."""

    file: str
    warnings: tuple[str, ...] = ()

    def is_kept(self, clip: Clip) -> bool:
        return (clip.folder / self.file).is_file()


def render(context: StageContext, task: RenderTask) -> RenderResult:
    """Write a segment, and the faces that were sampled in it."""
    job, plan = task.local_job, load_made_plan(task.folder)
    session, segment = context.session(job, plan.key), plan.segments[task.segment]
    stem = segment_stem(task.folder, segment)
    path, options = segment_path(
        stem, output=job.output, options=context.settings.encode, source=plan.info
    )
    sampler = IdentitySampler(context.networks.backend)
    sampler.choose(plan.analysis.tracks)
    states = load_states(task.folder, task.states)
    if session.saved is not None:
        session.saved.join(plan)
    with (
        open_writer(path, source=plan.info, options=options, segment=True) as writer,
        context.open(job, part=plan.part(segment)) as reader,
    ):
        for frame, image in context.counted(session.render(plan, segment, reader, states)):
            sampler.observe(frame, image)
            writer.write(replace(frame, image=image))
    # Not in the result: embeddings would be nine tenths of the journal.
    save_samples(samples_path(stem), sampler.samples())
    context.notes += session.notes
    return RenderResult(path.name, tuple(writer.warnings))
