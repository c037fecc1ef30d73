"""What earlier runs have left of the clips of a run; nothing is written."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pipelines.batch.request.jobs import Job
from pipelines.batch.stages.clip_state import Clip
from pipelines.batch.stages.table import forget_part, record
from pipelines.batch.stages.tasks import Row
from pipelines.batch.status.journal import JournalHistory, Line
from pipelines.batch.status.reports import has_report
from pipelines.batch.status.stage_lines import completed_of, stage_of_line


def resume_clips(
    jobs: Sequence[Job], *, output: Path, journal: JournalHistory, with_reports: bool
) -> list[Clip]:
    """The clips of a run, with what of earlier runs still lies where they left it.

    Nothing is written. Clips that are done have their row.
    """
    clips = [Clip(job, job.id, _work_folder(journal, job.id)) for job in jobs]
    # Whose work the output is: a file that was changed and changed back is done again.
    owners = {
        line["row"]["output"]: line["clip"]
        for line in journal.lines
        if line.get("event") in ("made", "finished")
    }
    by_id = {}
    for clip in clips:
        if not _has_stamp(clip.job):  # what was made of it stays
            clip.id = owners.get(clip.job.output, clip.id)
        by_id[clip.id] = clip
    for line in journal.lines:
        known = by_id.get(line.get("clip", ""))
        if known is not None:
            _resume_stage(known, line)
            if owners.get(known.job.output) == known.id:
                _resume_output(known, line, output=output, with_reports=with_reports)
    return clips


def _has_stamp(job: Job) -> bool:
    """Its file is there now; one that is gone, or remote and silent, has no stamp."""
    return bool({*job.stamp} - {"face"})


def outdated(clips: Sequence[Clip], journal: JournalHistory) -> set[Path]:
    """Folders of work for files or requests that have become others; nobody comes back to them."""
    ids = {clip.job.output: clip.id for clip in clips if _has_stamp(clip.job)}
    begun = [line for line in journal.lines if "output" in line and stage_of_line(line)]
    old = {line["clip"] for line in begun if ids.get(line["output"], line["clip"]) != line["clip"]}
    return {_work_folder(journal, name) for name in old}


def _work_folder(journal: JournalHistory, clip: str) -> Path:
    return journal.folder / "work" / clip


def _resume_stage(clip: Clip, line: Line) -> None:
    """What a stage has left, if it is still there."""
    stage = stage_of_line(line)
    if stage is None:
        return
    done, segment = completed_of(stage, line), line.get("segment")
    if done.result.is_kept(clip):
        record(clip, stage, segment, done)
    else:
        forget_part(clip, stage, segment)


def _resume_output(clip: Clip, line: Line, *, output: Path, with_reports: bool) -> None:
    """An output that is there, and whether its report is missing."""
    if line["event"] not in ("made", "finished") or not _num_bytes(output / clip.job.output):
        return
    row: Row = line["row"]
    if line["event"] == "made" or (with_reports and not has_report(output, row)):
        clip.mark_made(row)
        clip.row = None
    else:
        clip.num_frames, clip.row = row.get("frames"), row


def _num_bytes(path: Path) -> int | None:
    return path.stat().st_size if path.is_file() else None
