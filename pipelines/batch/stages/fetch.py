"""``fetch``: copy a remote clip into the folder of its work; later stages see the copy."""

from __future__ import annotations

from dataclasses import dataclass

from pipelines.batch.inputs.fetching import fetch
from pipelines.batch.stages.clip_state import Clip
from pipelines.batch.stages.context import StageContext
from pipelines.batch.stages.tasks import StageResult, StageTask


@dataclass(frozen=True)
class FetchTask(StageTask):
    """A clip whose input is a URL."""


@dataclass(frozen=True)
class FetchResult(StageResult):
    """Size of the copy."""

    bytes: int

    def is_kept(self, clip: Clip) -> bool:
        copy = clip.job.fetched(clip.folder)
        return copy.is_file() and copy.stat().st_size == self.bytes


def fetch_clip(context: StageContext, task: FetchTask) -> FetchResult:
    """Copy it; MediaError where it cannot be had."""
    task.folder.mkdir(parents=True, exist_ok=True)
    job = task.job
    copy, size = job.fetched(task.folder), job.stamp.get("size")
    return FetchResult(fetch(job.input, copy, size=size, on_chunk=context.beat))
