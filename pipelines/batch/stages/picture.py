"""``picture``: edit a still picture in one go, as ``vidinv edit`` does."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pipelines.batch.stages.clip_state import Clip
from pipelines.batch.stages.context import StageContext, TaskProgress
from pipelines.batch.stages.edit_result import EditResult
from pipelines.batch.stages.tasks import RunOptions, StageTask
from pipelines.edit import edit_picture
from pipelines.edit_request import EditRequest
from vidinv.files import remove_temporaries
from vidinv.paths import check_file


@dataclass(frozen=True)
class PictureTask(StageTask):
    """``output`` is the file to write."""

    output: Path

    @classmethod
    def of(cls, clip: Clip, options: RunOptions, segment: int | None) -> Self:
        return cls(clip.job, clip.folder, options.output / clip.job.output)


def picture(context: StageContext, task: PictureTask) -> EditResult:
    """Write the output of a picture."""
    job, settings = task.local_job, context.settings
    check_file(job.input)
    task.output.parent.mkdir(parents=True, exist_ok=True)
    remove_temporaries(task.output)
    request = EditRequest(
        Path(job.input),
        task.output,
        pack=context.networks.pack,
        spec=settings.spec(job),
        device=settings.device,
        overwrite=True,
        latents=context.latents_of(job),
        segment_frames=settings.segment_frames,
        credentials=settings.credentials,
        source_name=task.job.name,
    )
    summary = edit_picture(request, context.networks, progress=TaskProgress(context))
    context.frames_done += 1
    return EditResult.of(summary)
