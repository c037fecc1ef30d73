"""Which task runs next, and what becomes of its outcome; knows workers, but not Ray.

Finishing clips comes before starting others, so that few are half done and their segments take
little disk. A clip that fails is quarantined with stage and cause, and the others go on; a task
that kills its worker gets ``MAX_ATTEMPTS`` workers.
"""

from __future__ import annotations

import shutil
from collections import Counter, defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from pipelines.batch.jobs import Job
from pipelines.batch.journal import Journal
from pipelines.batch.progress import Watcher
from vidinv.errors import EncodeError

STAGES = ("join", "render", "analyse")  # first what is nearest to a finished clip
MAX_ATTEMPTS = 2
MAX_LOSSES = 10  # however innocent it seems, a task that loses so many workers is not tried again
_POLL_SECONDS = 1.0

Row = dict[str, Any]


@dataclass
class Clip:
    """A clip on its way through the run."""

    job: Job
    id: str
    folder: Path
    num_frames: int | None = None
    segment_frames: list[int] | None = None
    rendered: dict[int, Row] = field(default_factory=dict)
    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    row: Row | None = None


@dataclass(frozen=True)
class Task:
    """One stage of one clip; ``segment`` for ``render`` only."""

    stage: str
    clip: Clip
    segment: int | None = None

    @property
    def key(self) -> tuple[str, str, int | None]:
        return self.clip.id, self.stage, self.segment

    @property
    def where(self) -> str:
        return self.stage if self.segment is None else f"{self.stage} segment {self.segment}"


@dataclass(frozen=True)
class Outcome:
    """What became of a task: a row, or the death of its worker.

    Attributes:
        death: how the worker ended.
        blamed: the task may be the cause; not so where a whole node was lost.
    """

    task: Task
    row: Row | None = None
    death: str = ""
    blamed: bool = True


class Workers(Protocol):
    """Processes that run tasks, each one at a time."""

    @property
    def count(self) -> int:
        """How many there are."""

    @property
    def frames_done(self) -> int:
        """Frames through any stage so far."""

    def start(self, task: Task, payload: Row) -> bool:
        """Hand a task to a free worker for its stage; False when there is none."""

    def wait(self, *, timeout_seconds: float) -> list[Outcome]:
        """Outcomes since the last call; waits for the first one."""


class Schedule:
    """Runs clips through the stages.

    Args:
        output: folder of the outputs.
        journal: started; its earlier lines say what is done already.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        *,
        output: Path,
        journal: Journal,
        workers: Workers,
        watcher: Watcher,
    ) -> None:
        self.output, self.journal = output, journal
        self.workers, self.watcher = workers, watcher
        self.clips = [Clip(job, job.id, journal.folder / "work" / job.id) for job in jobs]
        self._ready: dict[str, deque[Task]] = {stage: deque() for stage in STAGES}
        self._attempts: Counter[tuple[str, str, int | None]] = Counter()
        self._losses: Counter[tuple[str, str, int | None]] = Counter()
        self._recall()

    def run(self) -> list[Row]:
        """Do what is missing; the manifest rows of all clips, in the order of the jobs."""
        for clip in self.clips:
            self._queue(clip)
        while any(clip.row is None for clip in self.clips):
            self._start_tasks()
            for outcome in self.workers.wait(timeout_seconds=_POLL_SECONDS):
                self._take(outcome)
            self.watcher.update(self.clips, frames_done=self.workers.frames_done)
        return [clip.row for clip in self.clips if clip.row is not None]

    def _recall(self) -> None:
        """Take over from earlier runs what still lies where they left it."""
        by_id = {clip.id: clip for clip in self.clips}
        for line in self.journal.lines:
            clip = by_id.get(line.get("clip", ""))
            if clip is None:
                continue
            if line["event"] == "analysed" and clip.folder.is_dir():
                self._note_analysis(clip, line)
            elif line["event"] == "rendered" and (clip.folder / line["file"]).is_file():
                self._note_segment(clip, line)
            elif line["event"] == "finished" and (self.output / clip.job.output).is_file():
                clip.num_frames, clip.row = line["row"].get("frames"), line["row"]

    def _queue(self, clip: Clip) -> None:
        """The tasks of a clip that can start now."""
        if clip.row is not None:
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
            # A plan waits on disk, but clips that are far ahead of their rendering help nobody.
            if stage == "analyse" and len(self._ready["render"]) > 2 * self.workers.count:
                return
            while queue:
                if queue[0].clip.row is None and not self._start(queue[0]):
                    break
                queue.popleft()

    def _start(self, task: Task) -> bool:
        clip = task.clip
        payload: Row = {
            "stage": task.stage,
            "job": clip.job.to_json(),
            "folder": str(clip.folder),
            "segment": task.segment,
        }
        if task.stage == "join":
            rows = [clip.rendered[n] for n in sorted(clip.rendered)]
            payload |= {
                "output": str(self.output / clip.job.output),
                "files": [row["file"] for row in rows],
                "samples": [sample for row in rows for sample in row["samples"]],
            }
        return self.workers.start(task, payload)

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
        self.watcher.note(f"{task.clip.job.input}: {task.where} failed: {cause}", row)
        if retry and self._attempts[task.key] < MAX_ATTEMPTS:
            self._ready[task.stage].appendleft(task)
        else:
            self._quarantine(task, cause)

    def _done(self, task: Task, row: Row) -> None:
        clip = task.clip
        self.watcher.stage_done(task.stage, row["seconds"])
        if task.stage == "analyse":
            self._note_analysis(clip, row)
            self.journal.append({"event": "analysed", "clip": clip.id, **row})
            self._queue(clip)
        elif task.stage == "render":
            line = {"event": "rendered", "clip": clip.id, "segment": task.segment, **row}
            self._note_segment(clip, line)
            self.journal.append(line)
            if len(clip.rendered) == len(clip.segment_frames or ()):
                self._queue(clip)
        else:
            clip.seconds["join"] += row.pop("seconds")
            self._finish(clip, {**row, "stage": None, "cause": None})

    def _note_analysis(self, clip: Clip, row: Row) -> None:
        clip.num_frames, clip.segment_frames = row["num_frames"], row["segment_frames"]
        clip.rendered.clear()
        clip.seconds["analyse"] = row["seconds"]

    def _note_segment(self, clip: Clip, line: Row) -> None:
        clip.rendered[line["segment"]] = line
        clip.seconds["render"] += line["seconds"]

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
        self.watcher.note(f"{clip.job.input}: quarantined at {task.where} ({attempts} attempts)")

    def _finish(self, clip: Clip, row: Row) -> None:
        job = clip.job
        clip.row = {
            "input": job.input,
            "output": job.output,
            "attributes": job.to_json()["attributes"],
            "face": job.face,
            **row,
            "seconds": {stage: round(value, 3) for stage, value in clip.seconds.items()},
        }
        event = "finished" if row["status"] == "done" else "quarantined"
        self.journal.append({"event": event, "clip": clip.id, "row": clip.row})
        if event == "finished":
            shutil.rmtree(clip.folder, ignore_errors=True)
