"""Reports of a data set: one of each finished clip, and the page that leads to them.

A report lies at ``reports/<output>.html`` below the output folder, with its JSON and CSV beside it;
``report.html`` is the index. What the index shows comes from the rows of the manifest, so that ten
thousand reports need not be read again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from pipelines.batch.request.jobs import Job
from pipelines.batch.status.journal import INDEX_FILE, JournalHistory
from vidinv.errors import UsageError
from vidinv.report import IndexRow, Report, report_files, write_index

REPORTS_FOLDER = "reports"
_TRACK_FIGURES = (
    *("distance_median", "similarity_median", "ic_source", "ic_inversion", "ic_output"),
    *("tl_id", "tg_id", "flicker_source", "flicker_output"),
)

Row = dict[str, Any]


def page_name(output: str) -> str:
    """Where the report of an output lies, below the same folder."""
    return f"{REPORTS_FOLDER}/{output}.html"


def check_pages(folder: Path, jobs: Sequence[Job], history: JournalHistory) -> None:
    """UsageError for files in the way that no earlier run has made."""
    known: Collection[str] = history.outputs if history.has_reports else ()
    pages = [folder / page_name(job.output) for job in jobs if job.output not in known]
    files = [path for page in pages for path in report_files(page)]
    for path in [*files, *(() if known else (folder / INDEX_FILE,))]:
        if path.exists():
            raise UsageError(
                f"{path} exists and is not from an earlier run: "
                "move it away, or give another folder"
            )


def has_report(folder: Path, row: Mapping[str, Any]) -> bool:
    """Whether the report of a finished clip is there."""
    made = row.get("report") or {}
    return made.get("status") == "done" and (folder / made["page"]).is_file()


def figures(report: Report, page: str) -> Row:
    """What the manifest says of a report: main figures of the clip and of its changed tracks."""
    data, row = report.as_dict(), IndexRow.of(report, page=page)
    tracks = [
        {
            "id": track["id"],
            "person": track["person"],
            "outlier_score": track["outlier_score"],
            **{name: track["summary"][name] for name in _TRACK_FIGURES},
        }
        for track in data["tracks"]
        if track["changed"]
    ]
    return {
        "status": "done",
        "page": page,
        "standing_out": row.standing_out,
        "outlier_score": row.outlier_score,
        "faces": row.faces,
        "network": row.network,
        "summary": data["summary"],
        "tracks": tracks,
    }


def failed_report(cause: str) -> Row:
    """The same for a report that could not be made."""
    return {"status": "failed", "cause": cause}


def write_data_set_page(folder: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    """Write the index of a run from its manifest; returns its path."""
    path = folder / INDEX_FILE
    write_index([index_row(row) for row in rows], path)
    return path


def index_row(row: Mapping[str, Any]) -> IndexRow:
    """One line of the index from one of the manifest."""
    if row["status"] != "done":
        cause = f"{row['stage']}: {row['cause']}"
        return IndexRow(row["output"], status=row["status"], cause=cause)
    made = row.get("report") or failed_report("made without --report")
    if made["status"] != "done":
        return IndexRow(row["output"], cause=made["cause"], frames=row.get("frames"))
    summary = made["summary"]
    known = {f.name: summary[f.name] for f in fields(IndexRow) if f.name in summary}
    return IndexRow(
        clip=row["output"],
        page=made["page"],
        frames=row.get("frames"),
        standing_out=made["standing_out"],
        # Manifests of earlier versions have another name for the score, and may lack the faces.
        outlier_score=made.get("outlier_score", made.get("badness", 0.0)),
        faces=made.get("faces"),
        network=made["network"],
        **known,
    )
