"""Writing a report: the page, and JSON and CSV beside it under the same name."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Sequence
from pathlib import Path

from vidinv.files import atomic_file
from vidinv.report.model import FrameRow, Report
from vidinv.report.page import render
from vidinv.report.thumbnails import Thumbnail


def report_files(page: Path) -> tuple[Path, Path, Path]:
    """The files of a report: the page, JSON and CSV."""
    return page, page.with_suffix(".json"), page.with_suffix(".csv")


def write_report(
    report: Report, page: str | os.PathLike[str], *, thumbnails: Sequence[Thumbnail] = ()
) -> None:
    """Write ``page``, and ``.json`` and ``.csv`` beside it; existing files are replaced."""
    path, json_path, csv_path = report_files(Path(page))
    data = json.dumps(report.as_dict(), indent=1, allow_nan=False)
    write_text(json_path, data + "\n")
    write_text(csv_path, as_csv(report))
    write_text(path, render(report, thumbnails=thumbnails, name=path.stem))


def as_csv(report: Report) -> str:
    """One line per frame and track, after a line of names; empty where not measured."""
    lines = io.StringIO()
    names = list(FrameRow(0, 0.0, 0, 0, True, 0.0).flat())  # also where there is no row
    writer = csv.DictWriter(lines, fieldnames=names)
    writer.writeheader()
    flat = (row.flat() for row in report.rows)
    writer.writerows(row | {"reasons": " ".join(row["reasons"])} for row in flat)
    return lines.getvalue()


def write_text(path: Path, text: str) -> None:
    """All or nothing: under a temporary name first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")
