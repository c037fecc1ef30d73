"""Which task runs next, and what becomes of its outcome; knows workers, but not Ray.

Finishing clips comes before starting others, so that few are half done and their segments take
little disk. A clip that fails is quarantined with stage and cause, and the others go on; a task
that kills its worker gets ``MAX_ATTEMPTS`` workers.
"""

from __future__ import annotations

import shutil
from collections import Counter, deque
from collections.abc import Sequence
from pathlib import Path

from pipelines.batch.inputs.fetching import remove_copy
from pipelines.batch.request.jobs import Job
from pipelines.batch.stages.clip_state import Clip
from pipelines.batch.stages.fetch import FetchResult
from pipelines.batch.stages.table import STAGES, next_stage, record
from pipelines.batch.stages.tasks import Completed, Failure, ReportOptions, Row, RunOptions
from pipelines.batch.status.journal import INDEX_FILE, STALE_FOLDER, Journal
from pipelines.batch.status.progress import RunMonitor
from pipelines.batch.status.reports import failed_report, page_name
from pipelines.batch.status.resume import outdated, resume_clips
from pipelines.batch.status.stage_lines import stage_line
from pipelines.batch.workers.protocol import Outcome, ScheduledTask, Workers
from vidinv.errors import EncodeError
from vidinv.report import report_files

MAX_ATTEMPTS = 2
MAX_LOSSES = 10  # however innocent it seems, a task that loses so many workers is not tried again
_POLL_SECONDS = 1.0


class Schedule:
    """Runs clips through the stages.

    Args:
        output: folder of the outputs.
        method: of the inversion: some are fitted to each clip.
        journal: started; its earlier lines say what is done already.
        reports: how each finished clip is compared with its source; None makes no reports.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        *,
        output: Path,
        journal: Journal,
        workers: Workers,
        monitor: RunMonitor,
        method: str = "fse",
        reports: ReportOptions | None = None,
    ) -> None:
        self.options, self.journal = RunOptions(output, method, reports), journal
        self.workers, self.monitor = workers, monitor
        self.clips = resume_clips(
            jobs, output=output, journal=journal, with_reports=reports is not None
        )
        self._ready: dict[str, deque[ScheduledTask]] = {stage.name: deque() for stage in STAGES}
        self._attempts: Counter[tuple[str, str, int | None]] = Counter()
        self._losses: Counter[tuple[str, str, int | None]] = Counter()
        for folder in outdated(self.clips, journal):
            shutil.rmtree(folder, ignore_errors=True)
        # Clips whose copy lies on disk or is on its way, by id.
        self._copies = {c.id for c in self.clips if c.row is None and c.result_of(FetchResult)}

    def run(self) -> list[Row]:
        """Do what is missing; the manifest rows of all clips, in the order of the jobs."""
        for clip in self.clips:
            self._queue(clip)
        self.monitor.start_clock()
        unfinished = deque(self.clips)
        while unfinished:
            if unfinished[0].row is not None:
                unfinished.popleft()
                continue
            self._start_tasks()
            running = self.workers.running
            outcomes = self.workers.wait(timeout_seconds=_POLL_SECONDS)
            self.monitor.add_time(running)
            for outcome in outcomes:
                self._take(outcome)
            self._show_progress()
        return [clip.row for clip in self.clips if clip.row is not None]

    @property
    def frames_resumed(self) -> int:
        """Frames of the clips that are done, as long as ``run`` has not done more."""
        return sum((clip.row or clip.made or {}).get("frames", 0) for clip in self.clips)

    def _show_progress(self) -> None:
        running = self.workers.running
        for one in running:
            one.task.clip.num_expected = one.num_expected or one.task.clip.num_expected
        self.monitor.update(self.clips, running)

    def _queue(self, clip: Clip) -> None:
        """The tasks of a clip that can start now."""
        if clip.row is not None:
            return
        stage = next_stage(clip, self.options)
        if stage is None:
            self._finish(clip, clip.made or {})
            return
        tasks = (ScheduledTask(stage, clip, part) for part in stage.missing(clip))
        self._ready[stage.name].extend(tasks)

    def _start_tasks(self) -> None:
        for stage in reversed(STAGES):
            queue = self._ready[stage.name]
            while queue:
                if queue[0].clip.row is None and (
                    self._must_wait(queue[0]) or not self._start(queue[0])
                ):
                    break
                queue.popleft()

    def _must_wait(self, task: ScheduledTask) -> bool:
        """Clips that are far ahead of their rendering help nobody: plans and copies take disk."""
        stage, count = task.stage, self.workers.count
        if stage.downloads and len(self._copies - {task.clip.id}) > count:
            return True
        return sum(len(self._ready[name]) for name in stage.ahead_of) > 2 * count

    def _start(self, task: ScheduledTask) -> bool:
        payload = task.stage.task.of(task.clip, self.options, task.segment)
        if not self.workers.start(task, payload):
            return False
        if task.stage.downloads:
            self._copies.add(task.clip.id)
        return True

    def _take(self, outcome: Outcome) -> None:
        task, result = outcome.task, outcome.result
        if task.clip.row is not None:  # quarantined meanwhile
            return
        if isinstance(result, Completed):
            self._done(task, result)
            return
        if result.disk_full:
            raise EncodeError(f"{result.cause}; make room, then run again with --resume")
        again = self._may_run_again(task, result)
        end = "is tried again" if again else self._end(task)
        self.monitor.message(
            f"{task.clip.job.shown}: {task.where} failed, {end}: {result.cause}", result.details
        )
        if again:
            self._queue_again(task)
        elif task.clip.made is not None:  # its output is there all the same
            self._finish(task.clip, {**task.clip.made, "report": failed_report(result.cause)})
        else:
            self._quarantine(task, result.cause)

    def _may_run_again(self, task: ScheduledTask, failure: Failure) -> bool:
        """Count a failure; whether another attempt may help."""
        self._attempts[task.key] += failure.blamed
        self._losses[task.key] += 1
        few = self._losses[task.key] < MAX_LOSSES and self._attempts[task.key] < MAX_ATTEMPTS
        return failure.retry and few

    def _queue_again(self, task: ScheduledTask) -> None:
        queue = self._ready[task.stage.name]
        if task.stage.downloads:
            self._copies.discard(task.clip.id)
            queue.append(task)  # what is wrong with a network may pass
        else:
            queue.appendleft(task)

    def _end(self, task: ScheduledTask) -> str:
        return "quarantined" if task.clip.made is None else "the clip is done without it"

    def _done(self, task: ScheduledTask, done: Completed) -> None:
        clip, stage = task.clip, task.stage
        for text in done.notes:
            self.monitor.message(f"{clip.job.shown}: {text}")
        record(clip, stage, task.segment, done)
        if fields := done.result.row_fields():
            made = clip.made or {"status": "done", "stage": None, "cause": None}
            clip.made = {**made, **fields}
        following = next_stage(clip, self.options)
        if stage.event is not None:
            self.journal.append(stage_line(stage, clip, task.segment, done))
        elif following is not None:
            self._save_made(clip)
        if following is not stage:
            self._queue(clip)
        self.monitor.task_done(task)

    def _save_made(self, clip: Clip) -> None:
        """The output is there, while its report is not."""
        row = {**(clip.made or {}), "output": clip.job.output, "seconds": dict(clip.seconds)}
        self.journal.append({"event": "made", "clip": clip.id, "row": row})

    def _quarantine(self, task: ScheduledTask, cause: str) -> None:
        clip = task.clip
        attempts = max(1, self._attempts[task.key])
        self._finish(
            clip,
            {
                "status": "quarantined",
                "stage": task.stage.name,
                "segment": task.segment,
                "cause": cause,
                "attempts": attempts,
            },
        )

    def _finish(self, clip: Clip, row: Row) -> None:
        job = clip.job
        clip.row = {
            "input": job.shown,
            "output": job.output,
            "attributes": job.to_json()["attributes"],
            "face": job.face,
            **row,
            "seconds": {stage: round(value, 3) for stage, value in clip.seconds.items()},
        }
        event = "finished" if row["status"] == "done" else "quarantined"
        self._move_stale_outputs(job, row)
        self.journal.append({"event": event, "clip": clip.id, "row": clip.row})
        self._copies.discard(clip.id)
        # Where the join failed, a segment may be damaged: the next attempt renders them anew.
        if event == "finished" or row["stage"] == "join":
            shutil.rmtree(clip.folder, ignore_errors=True)
        elif job.is_remote:  # plan and segments help the next attempt; copies may fill the disk
            remove_copy(job.fetched(clip.folder))

    def _move_stale_outputs(self, job: Job, row: Row) -> None:
        """What was made of another request or file is no output or report of this one."""
        if row["status"] != "done":
            self._move_to_stale(self.options.output / job.output)
        page = page_name(job.output)
        if page in self.journal.pages and (row.get("report") or {}).get("status") != "done":
            for path in report_files(self.options.output / page):
                self._move_to_stale(path)
        if self.journal.pages and self.options.reports is None:
            self._move_to_stale(self.options.output / INDEX_FILE)

    def _move_to_stale(self, path: Path) -> None:
        if path.is_file():
            stale = self.journal.folder / STALE_FOLDER / path.relative_to(self.options.output)
            stale.parent.mkdir(parents=True, exist_ok=True)
            path.replace(stale)
            self.monitor.message(f"{path} is of an earlier run: moved to {stale}")
