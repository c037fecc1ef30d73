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
from pipelines.batch.stages.tasks import STAGES, Clip, Outcome, Row, Task, Workers
from pipelines.batch.status.journal import INDEX_FILE, STALE_FOLDER, Journal
from pipelines.batch.status.progress import Watcher
from pipelines.batch.status.reports import failure, page_name
from pipelines.batch.status.resume import outdated, recall
from vidinv.errors import EncodeError
from vidinv.report import report_files

MAX_ATTEMPTS = 2
MAX_LOSSES = 10  # however innocent it seems, a task that loses so many workers is not tried again
_POLL_SECONDS = 1.0


class Schedule:
    """Runs clips through the stages.

    Args:
        output: folder of the outputs.
        journal: started; its earlier lines say what is done already.
        reports: what the ``report`` stage is told beside the clip; None makes no reports.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        *,
        output: Path,
        journal: Journal,
        workers: Workers,
        watcher: Watcher,
        reports: Row | None = None,
    ) -> None:
        self.output, self.journal = output, journal
        self.workers, self.watcher, self.reports = workers, watcher, reports
        self.clips = recall(jobs, output=output, journal=journal, with_reports=reports is not None)
        self._ready: dict[str, deque[Task]] = {stage: deque() for stage in STAGES}
        self._attempts: Counter[tuple[str, str, int | None]] = Counter()
        self._losses: Counter[tuple[str, str, int | None]] = Counter()
        for folder in outdated(self.clips, journal):
            shutil.rmtree(folder, ignore_errors=True)
        # Clips whose copy lies on disk or is on its way, by id.
        self._copies = {clip.id for clip in self.clips if clip.fetched and clip.row is None}

    def run(self) -> list[Row]:
        """Do what is missing; the manifest rows of all clips, in the order of the jobs."""
        for clip in self.clips:
            self._queue(clip)
        self.watcher.start_clock()
        unfinished = deque(self.clips)
        while unfinished:
            if unfinished[0].row is not None:
                unfinished.popleft()
                continue
            self._start_tasks()
            running = self.workers.running
            outcomes = self.workers.wait(timeout_seconds=_POLL_SECONDS)
            self.watcher.worked(running)
            for outcome in outcomes:
                self._take(outcome)
            self._watch()
        return [clip.row for clip in self.clips if clip.row is not None]

    @property
    def frames_recalled(self) -> int:
        """Frames of the clips that are done, as long as ``run`` has not done more."""
        return sum((clip.row or clip.made or {}).get("frames", 0) for clip in self.clips)

    def _watch(self) -> None:
        running = self.workers.running
        for one in running:
            one.task.clip.num_expected = one.num_expected or one.task.clip.num_expected
        self.watcher.update(self.clips, running)

    def _queue(self, clip: Clip) -> None:
        """The tasks of a clip that can start now."""
        if clip.row is not None:
            return
        if clip.made is not None and self.reports is None:
            self._finish(clip, clip.made)
            return
        if clip.job.is_remote and not clip.fetched:
            self._ready["fetch"].append(Task("fetch", clip))
            return
        if clip.made is not None:
            self._ready["report"].append(Task("report", clip))
            return
        if clip.job.is_picture:
            self._ready["picture"].append(Task("picture", clip))
            return
        if clip.segment_frames is None:
            self._ready["analyse"].append(Task("analyse", clip))
            return
        missing = [n for n in range(len(clip.segment_frames)) if n not in clip.rendered]
        self._ready["render"].extend(Task("render", clip, n) for n in missing)
        if not missing:
            self._ready["join"].append(Task("join", clip))

    def _start_tasks(self) -> None:
        for stage in STAGES:
            queue = self._ready[stage]
            while queue:
                if queue[0].clip.row is None and (
                    self._must_wait(queue[0]) or not self._start(queue[0])
                ):
                    break
                queue.popleft()

    def _must_wait(self, task: Task) -> bool:
        """Clips that are far ahead of their rendering help nobody: plans and copies take disk."""
        if task.stage == "analyse":
            return len(self._ready["render"]) > 2 * self.workers.count
        if task.stage == "fetch":
            return len(self._copies - {task.clip.id}) > self.workers.count
        return False

    def _start(self, task: Task) -> bool:
        clip = task.clip
        payload: Row = {
            "stage": task.stage,
            "job": clip.job.to_json(),
            "folder": str(clip.folder),
            "segment": task.segment,
        }
        if task.stage == "picture":
            payload["output"] = str(self.output / clip.job.output)
        elif task.stage == "join":
            rows = [clip.rendered[n] for n in sorted(clip.rendered)]
            payload |= {
                "output": str(self.output / clip.job.output),
                "files": [row["file"] for row in rows],
                "warnings": [text for row in rows for text in row.get("warnings", ())],
            }
        elif task.stage == "report":
            payload |= {
                "output": str(self.output / clip.job.output),
                "page": page_name(clip.job.output),
                "root": str(self.output),
                **(self.reports or {}),
            }
        if not self.workers.start(task, payload):
            return False
        if task.stage == "fetch":
            self._copies.add(clip.id)
        return True

    def _take(self, outcome: Outcome) -> None:
        task, row = outcome.task, outcome.row
        if task.clip.row is not None:  # quarantined meanwhile
            return
        if row is not None and row["status"] == "done":
            self._done(task, row)
            return
        if row is not None and row["disk_full"]:
            raise EncodeError(f"{row['cause']}; make room, then run again with --resume")
        self._attempts[task.key] += outcome.blamed
        self._losses[task.key] += 1
        cause = outcome.death if row is None else row["cause"]
        retry = self._losses[task.key] < MAX_LOSSES and (row is None or row["retry"])
        details = outcome.details if row is None else row["traceback"]
        again = retry and self._attempts[task.key] < MAX_ATTEMPTS
        end = "is tried again" if again else self._end(task)
        self.watcher.note(f"{task.clip.job.shown}: {task.where} failed, {end}: {cause}", details)
        if again and task.stage == "fetch":
            self._copies.discard(task.clip.id)
            self._ready["fetch"].append(task)  # what is wrong with a network may pass
        elif again:
            self._ready[task.stage].appendleft(task)
        elif task.clip.made is not None:  # its output is there all the same
            self._finish(task.clip, {**task.clip.made, "report": failure(cause)})
        else:
            self._quarantine(task, cause)

    def _end(self, task: Task) -> str:
        return "quarantined" if task.clip.made is None else "the clip is done without it"

    def _done(self, task: Task, row: Row) -> None:
        clip = task.clip
        for text in row.pop("notes", ()):
            self.watcher.note(f"{clip.job.shown}: {text}")
        if task.stage == "fetch":
            clip.fetched = True
            clip.seconds["fetch"] += row["seconds"]
            self._note("fetched", clip, row)
            self._queue(clip)
        elif task.stage == "analyse":
            clip.note_analysis(row)
            self._note("analysed", clip, row)
            self._queue(clip)
        elif task.stage == "render":
            line = {"event": "rendered", "clip": clip.id, "segment": task.segment, **row}
            clip.note_segment(line)
            self.journal.append(line)
            if len(clip.rendered) == len(clip.segment_frames or ()):
                self._queue(clip)
        elif task.stage == "report":
            clip.seconds["report"] += row["seconds"]
            self._finish(clip, {**(clip.made or {}), "report": row["report"]})
        else:
            clip.seconds[task.stage] += row.pop("seconds")
            clip.num_frames = row["frames"]
            self._output_made(clip, {**row, "stage": None, "cause": None})
        self.watcher.task_done(task)

    def _note(self, event: str, clip: Clip, row: Row) -> None:
        self.journal.append({"event": event, "clip": clip.id, "output": clip.job.output, **row})

    def _output_made(self, clip: Clip, row: Row) -> None:
        """The output is there: the clip is done, or has its report made."""
        if self.reports is None:
            self._finish(clip, row)
            return
        row = {**row, "output": clip.job.output, "seconds": dict(clip.seconds)}
        self.journal.append({"event": "made", "clip": clip.id, "row": row})
        clip.note_made(row)
        self._queue(clip)

    def _quarantine(self, task: Task, cause: str) -> None:
        clip = task.clip
        attempts = max(1, self._attempts[task.key])
        self._finish(
            clip,
            {
                "status": "quarantined",
                "stage": task.stage,
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
        self._put_aside(job, row)
        self.journal.append({"event": event, "clip": clip.id, "row": clip.row})
        self._copies.discard(clip.id)
        # Where the join failed, a segment may be damaged: the next attempt renders them anew.
        if event == "finished" or row["stage"] == "join":
            shutil.rmtree(clip.folder, ignore_errors=True)
        elif job.is_remote:  # plan and segments help the next attempt; copies may fill the disk
            remove_copy(job.fetched(clip.folder))

    def _put_aside(self, job: Job, row: Row) -> None:
        """What an earlier run made of another wish or file is no output or report of this one."""
        if row["status"] != "done":
            self._move_to_stale(self.output / job.output)
        page = page_name(job.output)
        if page in self.journal.pages and (row.get("report") or {}).get("status") != "done":
            for path in report_files(self.output / page):
                self._move_to_stale(path)
        if self.journal.pages and self.reports is None:
            self._move_to_stale(self.output / INDEX_FILE)

    def _move_to_stale(self, path: Path) -> None:
        if path.is_file():
            stale = self.journal.folder / STALE_FOLDER / path.relative_to(self.output)
            stale.parent.mkdir(parents=True, exist_ok=True)
            path.replace(stale)
            self.watcher.note(f"{path} is of an earlier run: moved to {stale}")
