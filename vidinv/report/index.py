"""The page of a data set: every clip's figures with a link to its report, worst first."""

from __future__ import annotations

import html
import os
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from urllib.parse import quote

from vidinv.report.charts import Level, box_plot
from vidinv.report.export import write_text
from vidinv.report.markup import document, failed, section, table, value
from vidinv.report.model import DLIB_BASELINE, MAX_PAIRS, Report, strangers_from


@dataclass(frozen=True)
class IndexRow:
    """One clip of a data set; figures as in ``Summary``, None where not measured.

    Attributes:
        clip: name to show.
        page: its report, absolute or relative to the index; None where there is none.
        status: ``done``, or what became of it instead, e.g. ``quarantined``.
        cause: why it is not done, or has no report.
        standing_out: frames that stand out.
        outlier_score: of the worst frame.
        faces: tracks of the report; None where that is not known.
        network: decides what distances mean, see ``baseline_of``.
    """

    clip: str
    page: str | None = None
    status: str = "done"
    cause: str = ""
    frames: int | None = None
    standing_out: int = 0
    outlier_score: float = 0.0
    distance_median: float | None = None
    similarity_median: float | None = None
    like_strangers: int | None = None
    faces: int | None = None
    ic_source: float | None = None
    ic_inversion: float | None = None
    ic_output: float | None = None
    tl_id: float | None = None
    tg_id: float | None = None
    flicker_source: float | None = None
    flicker_output: float | None = None
    network: str = ""

    @classmethod
    def of(cls, report: Report, *, page: str) -> IndexRow:
        """The row of a clip that ``report`` is of; ``page`` as above."""
        summary = report.summary
        known = {f.name: getattr(summary, f.name) for f in fields(cls) if hasattr(summary, f.name)}
        return cls(
            clip=Path(report.output.path).name,
            page=page,
            frames=report.output.frames,
            standing_out=len({item.frame for item in report.standing_out}),
            outlier_score=max((row.outlier_score for row in report.rows), default=0.0),
            faces=len(report.tracks),
            network=report.recognition.network,
            **known,
        )

    @property
    def is_lost(self) -> bool:
        """The clip as a whole is as far from its source as strangers are."""
        level, median = strangers_from(self.network), self.distance_median
        return level is not None and median is not None and median >= level

    @property
    def has_strangers(self) -> bool:
        """Some of its faces are."""
        return self.is_lost or bool(self.like_strangers)

    @property
    def is_faceless(self) -> bool:
        """There was nothing to compare."""
        return self.faces == 0


def write_index(rows: Sequence[IndexRow], path: str | os.PathLike[str]) -> None:
    """Write the page of a data set: what failed first, then the clips, worst first."""
    path = Path(path)
    ordered = sorted(rows, key=_worst_first)
    not_done = [row for row in ordered if row.status != "done"]
    silent = [row for row in ordered if row.status == "done" and row.page is None]
    known = [row for row in ordered if row.status == "done" and row.page is not None]
    body = [_header(ordered, not_done, silent), _boxes(known)]
    if not_done:
        body.append(section("Not done", _causes(not_done)))
    if silent:
        body.append(section("Done, but without a report", _causes(silent)))
    if known:
        body.append(section("Clips, worst first", _table(known, path), note=_note(known)))
    write_text(path, document("Data set · identity report", "".join(body)))


def _causes(rows: Sequence[IndexRow]) -> str:
    cells = [
        (
            html.escape(row.clip),
            f'<span class="failed">{_label(row)}</span> {html.escape(row.cause)}',
        )
        for row in rows
    ]
    return table(("clip", "what happened"), cells, css="index")


def _label(row: IndexRow) -> str:
    return "no report" if row.status == "done" else html.escape(row.status)


def _worst_first(row: IndexRow) -> tuple[bool, bool, float, bool, bool, float, str]:
    """Lost identity, frames that stand out by how far, faces like strangers', no face, distance.

    Scores are relative to the clip's own track: where no frame stands out, it says nothing.
    """
    return (
        row.status == "done",
        not row.is_lost,
        -row.outlier_score if row.standing_out else 0.0,
        not row.has_strangers,
        not row.is_faceless,
        -(row.distance_median or 0.0),
        row.clip,
    )


def _header(
    rows: Sequence[IndexRow], not_done: Sequence[IndexRow], silent: Sequence[IndexRow]
) -> str:
    flagged = sum(row.standing_out > 0 for row in rows)
    networks = ", ".join(sorted({row.network for row in rows if row.network})) or "none"
    strangers = sum(row.has_strangers for row in rows)
    faceless = sum(row.is_faceless for row in rows)
    css = "bad" if flagged or strangers or faceless or not_done or silent else "good"
    lead = f"{len(rows) - len(not_done)} of {len(rows)} clips done"
    lead += f", {flagged} with frames that stand out"
    if strangers:
        lead += f", {strangers} with faces as far from the source as strangers"
    if faceless:
        lead += f", {faceless} without a face"
    if silent:
        lead += f", {len(silent)} without a report"
    return (
        '<header><p class="eyebrow">Identity-consistency report</p><h1>Data set</h1></header>'
        f'<section class="verdict {css}"><p class="lead">{lead}.</p>'
        f"<p>Recognition network: <code>{html.escape(networks)}</code></p></section>"
    )


def _note(done: Sequence[IndexRow]) -> str:
    words = (
        "Where no frame stands out, clips come by their distance to the source. Outlier scores are "
        "those of the worst frame, relative to its own track; flicker is output / source, in "
        "levels of 255. "
        f"TL-ID is over pairs of neighbouring frames: {MAX_PAIRS} of a face at most where not "
        "every frame was sampled."
    )
    if done and all(row.network.startswith("dlib") for row in done):
        words += (
            f" Distance: one person, neutral and smiling, {DLIB_BASELINE['same_person_median']:g}; "
            f"the most similar 5 % of strangers {DLIB_BASELINE['strangers_p5']:g}. A clip at "
            "strangers' distance comes first; red: some of its faces are."
        )
    return words


def _boxes(rows: Sequence[IndexRow]) -> str:
    """IC over clips, as figure 9 of the Feature-Style paper (3 of its supplement) shows it."""
    groups = {
        name: (name, _known(rows, f"ic_{name}")) for name in ("source", "inversion", "output")
    }
    if not groups["source"][1]:
        return ""
    distances = {"output": ("output", _known(rows, "distance_median"))}
    levels = _baseline(rows)
    plots = [
        box_plot("Identity consistency IC", groups, unit="mean cosine to the first frame"),
        box_plot("Distance to the source", distances, unit="median of a clip", levels=levels),
    ]
    note = (
        "A clip is a point: boxes are quartiles and median, the diamond is the mean. The nearer "
        "the output's IC lies to the source's, the steadier the identity."
    )
    return section("Over clips", f'<div class="two">{"".join(plots)}</div>', note=note)


def _baseline(rows: Sequence[IndexRow]) -> list[Level]:
    if not all(row.network.startswith("dlib") for row in rows):
        return []
    words = {"same_person_median": "same person", "strangers_p5": "strangers"}
    return [Level(DLIB_BASELINE[name], f"{DLIB_BASELINE[name]:g} {w}") for name, w in words.items()]


def _known(rows: Sequence[IndexRow], column: str) -> list[float]:
    return [value for row in rows if (value := getattr(row, column)) is not None]


def _table(rows: Sequence[IndexRow], path: Path) -> str:
    head = (
        "clip",
        "stand out",
        "frames",
        "outlier score",
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
            _standing_out(row),
            "–" if row.frames is None else str(row.frames),
            value(row.outlier_score, 1),
            failed(value(row.distance_median, 2), row.has_strangers),
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
    return table(head, cells, css="clips")


def _standing_out(row: IndexRow) -> str:
    if row.is_faceless:
        return failed("no face", True)
    return failed(str(row.standing_out), row.standing_out > 0)


def _name(row: IndexRow, path: Path) -> str:
    """The clip's name, linked relative to the index, so that the folder can be moved."""
    page = Path(row.page or "")
    if page.is_absolute():
        page = Path(os.path.relpath(page, path.absolute().parent))
    link = quote(os.fsencode(page.as_posix()))
    return f'<a href="{html.escape(link)}">{html.escape(row.clip)}</a>'
