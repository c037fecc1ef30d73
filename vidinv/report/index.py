"""The page of a data set: every clip's figures with a link to its report, worst first."""

from __future__ import annotations

import html
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from urllib.parse import quote

from vidinv.errors import UsageError
from vidinv.report.charts import box_plot
from vidinv.report.files import write_text
from vidinv.report.markup import document, section, table, value
from vidinv.report.model import DLIB_BASELINE, SCHEMA, SCHEMA_VERSION


@dataclass(frozen=True)
class IndexRow:
    """One clip of a data set; figures as in ``Summary``, None where not measured.

    Attributes:
        clip: name to show.
        page: its report, absolute or relative to the index; None where there is none.
        status: ``done``, or what became of it instead, e.g. ``quarantined``.
        cause: why it is not done.
        standing_out: frames that stand out.
        badness: of the worst frame.
    """

    clip: str
    page: str | None = None
    status: str = "done"
    cause: str = ""
    frames: int | None = None
    standing_out: int = 0
    badness: float = 0.0
    distance_median: float | None = None
    similarity_median: float | None = None
    ic_source: float | None = None
    ic_inversion: float | None = None
    ic_output: float | None = None
    tl_id: float | None = None
    tg_id: float | None = None
    flicker_source: float | None = None
    flicker_output: float | None = None
    network: str = ""


def read_index_row(json_path: str | os.PathLike[str]) -> IndexRow:
    """The row of a clip from the JSON of its report; the page is taken to lie beside it.

    Raises:
        UsageError: the file is not a report that this version reads.
    """
    path = Path(json_path)
    data = json.loads(path.read_text(encoding="utf-8"))
    if (data.get("schema"), data.get("schema_version")) != (SCHEMA, SCHEMA_VERSION):
        raise UsageError(f"{path} is not a report of schema {SCHEMA} {SCHEMA_VERSION}")
    summary, found = data["summary"], data["standing_out"]
    known = {f.name: summary[f.name] for f in fields(IndexRow) if f.name in summary}
    return IndexRow(
        clip=Path(data["output"]["path"]).name,
        page=str(path.with_suffix(".html").absolute()),
        frames=data["output"]["frames"],
        standing_out=len({item["frame"] for item in found}),
        badness=max((item["badness"] for item in found), default=0.0),
        network=data["recognition"]["network"],
        **known,
    )


def write_index(rows: Sequence[IndexRow], path: str | os.PathLike[str]) -> None:
    """Write the page of a data set: what failed first, then the clips, worst first."""
    path = Path(path)
    ordered = sorted(rows, key=_worst_first)
    done = [row for row in ordered if row.status == "done"]
    body = [_header(ordered, done), _boxes(done)]
    failed = [row for row in ordered if row.status != "done"]
    if failed:
        cells = [
            (
                _name(row, path),
                f'<span class="failed">{html.escape(row.status)}</span> {html.escape(row.cause)}',
            )
            for row in failed
        ]
        body.append(section("Not done", table(("clip", "what happened"), cells, css="index")))
    if done:
        body.append(section("Clips, worst first", _table(done, path), note=_note(done)))
    write_text(path, document("Data set · identity report", "".join(body)))


def _worst_first(row: IndexRow) -> tuple[bool, float, float, str]:
    """Frames that stand out weigh by how far; then the distance to the source."""
    return row.status == "done", -row.badness, -(row.distance_median or 0.0), row.clip


def _header(rows: Sequence[IndexRow], done: Sequence[IndexRow]) -> str:
    flagged = sum(row.standing_out > 0 for row in done)
    networks = ", ".join(sorted({row.network for row in done if row.network})) or "none"
    css = "bad" if flagged or len(done) < len(rows) else "good"
    lead = f"{len(done)} of {len(rows)} clips done, {flagged} with frames that stand out."
    return (
        '<header><p class="eyebrow">Identity-consistency report</p><h1>Data set</h1></header>'
        f'<section class="verdict {css}"><p class="lead">{lead}</p>'
        f"<p>Recognition network: <code>{html.escape(networks)}</code></p></section>"
    )


def _note(done: Sequence[IndexRow]) -> str:
    words = "Badness is that of the worst frame; flicker is output / source, in levels of 255."
    if done and all(row.network.startswith("dlib") for row in done):
        words += (
            f" Distance: one person, neutral and smiling, {DLIB_BASELINE['same_person_median']:g}; "
            f"the likest 5 % of strangers {DLIB_BASELINE['strangers_p5']:g}."
        )
    return words


def _boxes(done: Sequence[IndexRow]) -> str:
    """IC over clips, as figure 9 of the Feature-Style paper shows it."""
    groups = {
        name: (name, [v for v in (getattr(row, f"ic_{name}") for row in done) if v is not None])
        for name in ("source", "inversion", "output")
    }
    if not groups["source"][1]:
        return ""
    plot = box_plot("Identity consistency IC", groups, unit="mean cosine to the first frame")
    note = "The nearer the output's box lies to the source's, the steadier the identity."
    return section("Over clips", f'<div class="two">{plot}</div>', note=note)


def _table(rows: Sequence[IndexRow], path: Path) -> str:
    head = (
        "clip",
        "stand out",
        "frames",
        "badness",
        "distance",
        "similarity",
        "IC source",
        "IC inversion",
        "IC output",
        "TL-ID",
        "TG-ID",
        "flicker",
    )
    cells = [
        (
            _name(row, path),
            f'<span class="failed">{row.standing_out}</span>' if row.standing_out else "0",
            "–" if row.frames is None else str(row.frames),
            value(row.badness, 1),
            value(row.distance_median, 2),
            value(row.similarity_median),
            value(row.ic_source),
            value(row.ic_inversion),
            value(row.ic_output),
            value(row.tl_id),
            value(row.tg_id),
            f"{value(row.flicker_output, 2)} / {value(row.flicker_source, 2)}",
        )
        for row in rows
    ]
    return table(head, cells)


def _name(row: IndexRow, path: Path) -> str:
    """The clip's name, linked relative to the index, so that the folder can be moved."""
    if row.page is None:
        return html.escape(row.clip)
    page = Path(row.page)
    if page.is_absolute():
        page = Path(os.path.relpath(page, path.absolute().parent))
    return f'<a href="{html.escape(quote(page.as_posix()))}">{html.escape(row.clip)}</a>'
