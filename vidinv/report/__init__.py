"""Reports of a run: JSON, CSV and one self-contained HTML page; and an index over many clips."""

from vidinv.report.export import report_files, write_report
from vidinv.report.index import IndexRow, write_index
from vidinv.report.model import (
    ATTRIBUTES,
    DLIB_BASELINE,
    SCHEMA,
    SCHEMA_VERSION,
    ClipFacts,
    Finding,
    FrameRow,
    Recognition,
    Report,
    Summary,
    TrackFacts,
    baseline_of,
    strangers_from,
)
from vidinv.report.ranking import rank
from vidinv.report.thumbnails import MAX_REGULAR, Thumbnail, choose_thumbnails

__all__ = [
    "ATTRIBUTES",
    "DLIB_BASELINE",
    "MAX_REGULAR",
    "SCHEMA",
    "SCHEMA_VERSION",
    "ClipFacts",
    "Finding",
    "FrameRow",
    "IndexRow",
    "Recognition",
    "Report",
    "Summary",
    "Thumbnail",
    "TrackFacts",
    "baseline_of",
    "choose_thumbnails",
    "rank",
    "report_files",
    "strangers_from",
    "write_index",
    "write_report",
]
