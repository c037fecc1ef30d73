"""Runners for tests: some go wrong on clips with telling names, some tell more."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipelines.batch.request.jobs import Job
from pipelines.batch.stages.analyse import AnalyseTask
from pipelines.batch.stages.render import RenderTask
from pipelines.batch.stages.runner import StageRunner
from pipelines.batch.stages.tasks import Completed, Failure, StageTask
from vidinv.video import VideoReader, open_reader
from vidinv.video.reader import DECODE_WORKER


class FaultyRunner(StageRunner):
    """As ``StageRunner``, but for clips whose name starts with what goes wrong."""

    def run(self, task: StageTask) -> Completed | Failure:
        name = Path(task.job.input).name
        if name.startswith("killer") and isinstance(task, RenderTask) and task.segment == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        # Of two workers that begin together, either may be first: the fault is one segment's.
        if name.startswith("once") and isinstance(task, RenderTask) and task.segment == 0:
            self._die_once(task.folder)
        if name.startswith("stuck") and isinstance(task, AnalyseTask):
            time.sleep(600)
        return super().run(task)

    def open(self, job: Job, *, worker: str = DECODE_WORKER, **part: Any) -> VideoReader:
        if Path(job.input).name.startswith("hanging"):
            return open_reader(job.input, timeout_seconds=1.0, worker="tests.video.bad_workers")
        return super().open(job, worker=worker, **part)

    def _die_once(self, folder: Path) -> None:
        marker = folder / "died"
        if not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)


class TellingRunner(StageRunner):
    """As ``StageRunner``; notes also say which GPUs Ray gave to the worker."""

    def run(self, task: StageTask) -> Completed | Failure:
        result = super().run(task)
        if isinstance(result, Failure):
            return result
        gpus = os.environ.get("CUDA_VISIBLE_DEVICES", "")
        return replace(result, notes=(*result.notes, f"{type(task).__name__} on GPUs [{gpus}]"))
