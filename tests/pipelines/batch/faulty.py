"""Stages for tests of a run: some go wrong on clips with telling names, some tell more."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from pipelines.batch.request.jobs import Job
from pipelines.batch.stages.functions import Row, Stages
from vidinv.video import Part, VideoReader, open_reader


class FaultyStages(Stages):
    """As ``Stages``, but for clips whose name starts with what goes wrong."""

    def run(self, task: Row) -> Row:
        name = Path(task["job"]["input"]).name
        if name.startswith("killer") and task["stage"] == "render" and task["segment"] == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        if name.startswith("once") and task["stage"] == "render":
            self._die_once(Path(task["folder"]))
        if name.startswith("stuck") and task["stage"] == "analyse":
            time.sleep(600)
        return super().run(task)

    def open(self, job: Job, *, part: Part | None = None) -> VideoReader:
        if Path(job.input).name.startswith("hanging"):
            return open_reader(job.input, timeout_seconds=1.0, worker="tests.video.bad_workers")
        return super().open(job, part=part)

    def _die_once(self, folder: Path) -> None:
        marker = folder / "died"
        if not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)


class TellingStages(Stages):
    """As ``Stages``; rows also say which GPUs Ray gave to the worker."""

    def run(self, task: Row) -> Row:
        return {**super().run(task), "gpus": os.environ.get("CUDA_VISIBLE_DEVICES", "")}
