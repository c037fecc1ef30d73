"""Workers of this process that run the stages themselves, one task at a time."""

from __future__ import annotations

import io

from pipelines.batch.schedule import Schedule
from pipelines.batch.status.journal import Journal
from pipelines.batch.status.progress import RunMonitor
from pipelines.batch.workers.protocol import Outcome


class InProcessWorkers:
    """``done`` are the stages that ran, with the output's name; ``look`` is called before each."""

    count = 2
    running = ()

    def __init__(self, stages, look=lambda task: None):
        self.stages, self.look = stages, look
        self.done, self._waiting = [], []

    def start(self, task, payload):
        if len(self._waiting) == self.count:
            return False
        self._waiting.append((task, payload))
        return True

    def wait(self, *, timeout_seconds):
        assert self._waiting, "nothing runs and nothing can start"
        task, payload = self._waiting.pop(0)
        self.look(task)
        self.done.append((task.clip.job.output, task.stage.name))
        return [Outcome(task, self.stages.run(payload))]


def run_jobs(jobs, output, workers, **how):
    """The rows of a run, by output."""
    journal = Journal(output)
    log = io.StringIO()
    monitor = RunMonitor(output / "log", num_workers=2, stream=log)
    try:
        schedule = Schedule(
            jobs, output=output, journal=journal, workers=workers, monitor=monitor, **how
        )
        return {row["output"]: row for row in schedule.run()}
    finally:
        journal.close()
        monitor.close()
