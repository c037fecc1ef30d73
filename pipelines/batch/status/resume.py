"""What earlier runs have left of the clips of a run; nothing is written."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pipelines.batch.request.jobs import Job
from pipelines.batch.stages.tasks import Clip, Row
from pipelines.batch.status.journal import Past
from pipelines.batch.status.reports import has_report
from vidinv.latents import PLAN_FILE


def recall(jobs: Sequence[Job], *, output: Path, journal: Past, with_reports: bool) -> list[Clip]:
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
        if not _is_seen(clip.job):  # what was made of it stays
            clip.id = owners.get(clip.job.output, clip.id)
        by_id[clip.id] = clip
    for line in journal.lines:
        known = by_id.get(line.get("clip", ""))
        if known is not None:
            is_owner = owners.get(known.job.output) == known.id
            _recall_line(known, line, output=output, is_owner=is_owner, with_reports=with_reports)
    return clips


def _is_seen(job: Job) -> bool:
    """Its file is there now; one that is gone, or remote and silent, has no stamp."""
    return bool({*job.stamp} - {"face"})


def outdated(clips: Sequence[Clip], journal: Past) -> set[Path]:
    """Folders of work for files or wishes that have become others; nobody comes back to them."""
    ids = {clip.job.output: clip.id for clip in clips if _is_seen(clip.job)}
    begun = [line for line in journal.lines if line.get("event") in ("fetched", "analysed")]
    old = {line["clip"] for line in begun if ids.get(line["output"], line["clip"]) != line["clip"]}
    return {_work_folder(journal, name) for name in old}


def _work_folder(journal: Past, clip: str) -> Path:
    return journal.folder / "work" / clip


def _recall_line(
    clip: Clip, line: Row, *, output: Path, is_owner: bool, with_reports: bool
) -> None:
    path = output / clip.job.output
    if line["event"] == "fetched":
        clip.fetched = _num_bytes(clip.job.fetched(clip.folder)) == line["bytes"]
    elif line["event"] == "analysed" and (clip.folder / PLAN_FILE).is_file():
        clip.note_analysis(line)
    elif line["event"] == "rendered" and (clip.folder / line["file"]).is_file():
        clip.note_segment(line)
    elif line["event"] == "made" and is_owner and _num_bytes(path):
        clip.note_made(line["row"])
    elif line["event"] == "finished" and is_owner and _num_bytes(path):
        row = line["row"]
        clip.num_frames, clip.row = row.get("frames"), row
        if with_reports and not has_report(output, row):
            clip.seconds.update(row["seconds"])
            clip.made, clip.row = row, None


def _num_bytes(path: Path) -> int | None:
    return path.stat().st_size if path.is_file() else None
