"""The stages as one plain object per worker process: tasks go in, results or failures come out.

Nothing here knows Ray: the same object runs in this process in tests.
"""

from __future__ import annotations

import os
import time
import traceback
from dataclasses import replace
from typing import Any

from pipelines.batch.inputs.sources import without_secrets
from pipelines.batch.request.jobs import Job
from pipelines.batch.stages.context import StageContext
from pipelines.batch.stages.table import stage_of
from pipelines.batch.stages.tasks import Completed, Failure, StageTask
from pipelines.batch.status.journal import DISK_FULL
from vidinv.errors import DecodeError, UsageError, VidinvError


class StageRunner(StageContext):
    """Runs tasks one after another."""

    def run(self, task: StageTask) -> Completed | Failure:
        """Do one task; never raises for a clip."""
        started = time.monotonic()
        self.num_expected, self.notes = None, []
        try:
            result = stage_of(task).function(self, task)
            seconds = round(time.monotonic() - started, 3)
            return _as_shown(Completed(result, seconds, tuple(self.notes)), task)
        except Exception as error:
            return _failure_as_shown(_failure(error, task.job), task)


def _failure(error: Exception, job: Job) -> Failure:
    """What an error says of a clip; the traceback only of what nobody expected."""
    expected = isinstance(error, (UsageError, DecodeError))
    known = isinstance(error, (VidinvError, OSError))
    cause = " ".join(str(error).split()) if known else f"{type(error).__name__}: {error}"
    disk_full = _is_disk_full(error)
    if disk_full and isinstance(error, OSError):  # it does not always know the file
        cause = f"{job.shown}: the disk is full"
    return Failure(
        cause,
        file=job.shown,
        retry=not expected,
        disk_full=disk_full,
        details="" if known else "".join(traceback.format_exception(error)),
    )


def _is_disk_full(error: Exception) -> bool:
    code = error.errno if isinstance(error, OSError) else None
    said = ("the disk is full", *map(os.strerror, DISK_FULL))  # by encoders; by safetensors
    return code in DISK_FULL or any(text in str(error) for text in said)


def _as_shown(done: Completed, task: StageTask) -> Completed:
    """What is said of the copy of a remote clip, said of the clip; without passwords."""
    if not task.job.is_remote:
        return done
    result: Any = done.result
    if hasattr(result, "warnings"):
        result = replace(result, warnings=_say_all(result.warnings, task))
    return replace(done, result=result, notes=_say_all(done.notes, task))


def _failure_as_shown(failure: Failure, task: StageTask) -> Failure:
    if not task.job.is_remote:
        return failure
    cause, details = _say_all((failure.cause, failure.details), task)
    return replace(failure, cause=cause, details=details)


def _say_all(texts: tuple[str, ...], task: StageTask) -> tuple[str, ...]:
    job = task.job
    copy = task.local_job.input
    return tuple(
        without_secrets(text.replace(copy, job.shown).replace(job.input, job.shown))
        for text in texts
    )
