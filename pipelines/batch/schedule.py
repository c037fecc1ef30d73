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

from pipelines.batch.fetching import remove_copy
from pipelines.batch.jobs import Job
from pipelines.batch.journal import STALE_FOLDER, Journal, Past
from pipelines.batch.progress import Watcher
from pipelines.batch.reports import failure, has_report, page_name
from vidinv.errors import EncodeError
from vidinv.latents import PLAN_FILE

# First what is nearest to a finished clip; a picture is made in one go.
STAGES = ("report", "join", "render", "picture", "analyse", "fetch")
MAX_ATTEMPTS = 2
MAX_LOSSES = 10  # however innocent it seems, a task that loses so many workers is not tried again
_POLL_SECONDS = 1.0

Row = dict[str, Any]


@dataclass
class Clip:
    """A clip on its way through the run.

    Attributes:
        num_frames: counted by its analysis; ``num_expected`` is what its header says before.
        fetched: the copy of a remote clip lies in its folder.
        made: what its row says once the output is there, while its report is not.
    """

    job: Job
    id: str
    folder: Path
    num_frames: int | None = None
    num_expected: int | None = None
    segment_frames: list[int] | None = None
    rendered: dict[int, Row] = field(default_factory=dict)
    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    fetched: bool = False
    made: Row | None = None
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
    def num_frames(self) -> int:
        """Frames that it goes through; 0 before the analysis of its clip."""
        if self.segment is None:
            return self.clip.num_frames or 0
        return (self.clip.segment_frames or [])[self.segment]

    @property
    def where(self) -> str:
        return self.stage if self.segment is None else f"{self.stage} segment {self.segment}"


@dataclass(frozen=True)
class Outcome:
    """What became of a task: a row, or the death of its worker.

    Attributes:
        death: how the worker ended.
        blamed: the task may be the cause; not so where a whole node was lost.
        details: for the log.
    """

    task: Task
    row: Row | None = None
    death: str = ""
    blamed: bool = True
    details: str = ""


@dataclass(frozen=True)
class Running:
    """A task that a worker holds.

    Attributes:
        frames: done of this task.
        num_expected: frames of its clip, as its header says.
    """

    task: Task
    frames: int
    num_expected: int | None = None


class Workers(Protocol):
    """Processes that run tasks, each one at a time."""

    @property
    def count(self) -> int:
        """How many there are."""

    @property
    def running(self) -> Sequence[Running]:
        """What they do now."""

    def start(self, task: Task, payload: Row) -> bool:
        """Hand a task to a free worker for its stage; False when there is none."""

    def wait(self, *, timeout_seconds: float) -> list[Outcome]:
        """Outcomes since the last call; waits for the first one."""


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
        self.clips = clips_of(jobs, journal)
        self._ready: dict[str, deque[Task]] = {stage: deque() for stage in STAGES}
        self._attempts: Counter[tuple[str, str, int | None]] = Counter()
        self._losses: Counter[tuple[str, str, int | None]] = Counter()
        recall(self.clips, output=output, journal=journal, with_reports=reports is not None)
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
            for outcome in self.workers.wait(timeout_seconds=_POLL_SECONDS):
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
        if task.stage == "fetch":
            self._copies.add(clip.id)
        elif task.stage == "picture":
            payload["output"] = str(self.output / clip.job.output)
        elif task.stage == "join":
            rows = [clip.rendered[n] for n in sorted(clip.rendered)]
            payload |= {
                "output": str(self.output / clip.job.output),
                "files": [row["file"] for row in rows],
            }
        elif task.stage == "report":
            payload |= {
                "output": str(self.output / clip.job.output),
                "page": page_name(clip.job.output),
                "root": str(self.output),
                **(self.reports or {}),
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
        details = outcome.details if row is None else row["traceback"]
        again = retry and self._attempts[task.key] < MAX_ATTEMPTS
        end = "is tried again" if again else self._end(task)
        self.watcher.note(f"{task.clip.job.shown}: {task.where} failed, {end}: {cause}", details)
        if again and task.stage == "fetch":
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
            self.journal.append({"event": "fetched", "clip": clip.id, **row})
            self._queue(clip)
        elif task.stage == "analyse":
            _note_analysis(clip, row)
            self.journal.append({"event": "analysed", "clip": clip.id, **row})
            self._queue(clip)
        elif task.stage == "render":
            line = {"event": "rendered", "clip": clip.id, "segment": task.segment, **row}
            _note_segment(clip, line)
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

    def _output_made(self, clip: Clip, row: Row) -> None:
        """The output is there: the clip is done, or has its report made."""
        if self.reports is None:
            self._finish(clip, row)
            return
        seconds = dict(clip.seconds)
        self.journal.append({"event": "made", "clip": clip.id, "row": {**row, "seconds": seconds}})
        _note_made(clip, {**row, "seconds": seconds})
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
        if event == "quarantined":
            self._put_aside(job.output)
        self.journal.append({"event": event, "clip": clip.id, "row": clip.row})
        self._copies.discard(clip.id)
        # Where the join failed, a segment may be damaged: the next attempt renders them anew.
        if event == "finished" or row["stage"] == "join":
            shutil.rmtree(clip.folder, ignore_errors=True)
        elif job.is_remote:  # plan and segments help the next attempt; copies may fill the disk
            remove_copy(job.fetched(clip.folder))

    def _put_aside(self, name: str) -> None:
        """What an earlier run made of another wish or file is no output of this one."""
        output = self.output / name
        if output.is_file():
            stale = self.journal.folder / STALE_FOLDER / name
            stale.parent.mkdir(parents=True, exist_ok=True)
            output.replace(stale)
            self.watcher.note(f"the output of an earlier run was moved to {stale}")


def clips_of(jobs: Sequence[Job], journal: Past) -> list[Clip]:
    """The clips of a run, each with the folder of its work."""
    return [Clip(job, job.id, journal.folder / "work" / job.id) for job in jobs]


def recall(clips: Sequence[Clip], *, output: Path, journal: Past, with_reports: bool) -> None:
    """Take over from earlier runs what still lies where they left it; nothing is written."""
    # Whose work the output is: a file that was changed and changed back is done again.
    owners = {
        line["row"]["output"]: line["clip"]
        for line in journal.lines
        if line.get("event") == "finished"
    }
    by_id = {}
    for clip in clips:
        # A remote file that does not answer now has no stamp: what was made of it stays.
        if clip.job.is_remote and not {*clip.job.stamp} - {"face"}:
            clip.id = owners.get(clip.job.output, clip.id)
        by_id[clip.id] = clip
    for line in journal.lines:
        known = by_id.get(line.get("clip", ""))
        if known is not None:
            is_owner = owners.get(known.job.output) == known.id
            _recall_line(known, line, output=output, is_owner=is_owner, with_reports=with_reports)


def _recall_line(
    clip: Clip, line: Row, *, output: Path, is_owner: bool, with_reports: bool
) -> None:
    path = output / clip.job.output
    if line["event"] == "fetched":
        clip.fetched = _num_bytes(clip.job.fetched(clip.folder)) == line["bytes"]
    elif line["event"] == "analysed" and (clip.folder / PLAN_FILE).is_file():
        _note_analysis(clip, line)
    elif line["event"] == "rendered" and (clip.folder / line["file"]).is_file():
        _note_segment(clip, line)
    elif line["event"] == "made" and path.is_file():
        _note_made(clip, line["row"])
    elif line["event"] == "finished" and is_owner and path.is_file():
        row = line["row"]
        clip.num_frames, clip.row = row.get("frames"), row
        if with_reports and not has_report(output, row):
            clip.seconds.update(row["seconds"])
            clip.made, clip.row = row, None


def _note_made(clip: Clip, row: Row) -> None:
    clip.seconds.update(row["seconds"])
    clip.num_frames, clip.made = row.get("frames"), row


def _note_analysis(clip: Clip, row: Row) -> None:
    clip.num_frames, clip.segment_frames = row["num_frames"], row["segment_frames"]
    clip.rendered.clear()
    clip.seconds["analyse"] = row["seconds"]


def _note_segment(clip: Clip, line: Row) -> None:
    clip.rendered[line["segment"]] = line
    clip.seconds["render"] += line["seconds"]


def _num_bytes(path: Path) -> int | None:
    return path.stat().st_size if path.is_file() else None
