"""The report's charts: every measure over time, its spread, and the panel that reads a frame."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from vidinv.report.charts import Level, Line, Series, TimeAxis, box_plot, line_chart
from vidinv.report.markup import section
from vidinv.report.model import ATTRIBUTES, SMILE_UNIT, FrameRow, Report

# Columns that the panel beside the charts shows for the frame under the cursor.
_PANEL = {
    "distance": "distance",
    "similarity": "similarity",
    "departure": "departure",
    "first_source": "source to its first",
    "first_output": "output to its first",
    "source_smile": "smile, source",
    "output_smile": "smile, output",
    "flicker_source": "flicker, source",
    "flicker_output": "flicker, output",
    "border_source": "border, source",
    "border_output": "border, output",
    "outlier_score": "outlier score",
}


def _axis(report: Report) -> TimeAxis:
    marks = [(first, last, reason) for first, last, _, reason in runs(report)]
    every = report.recognition.every
    return TimeAxis(report.source.frames, max(1, every), marks, report.cuts)


def runs(report: Report) -> list[tuple[int, int, int, str]]:
    """Neighbouring frames that stand out for the same foremost reason: first, last, track, why."""
    found: list[tuple[int, int, int, str]] = []
    for item in sorted(report.standing_out, key=lambda f: (f.track, f.frame)):
        reason = item.reasons[0]
        if found and found[-1][1:] == (item.frame - 1, item.track, reason):
            found[-1] = (found[-1][0], item.frame, item.track, reason)
        else:
            found.append((item.frame, item.frame, item.track, reason))
    return found


def over_time(report: Report) -> str:
    """All charts over frames, with the panel beside them."""
    if not report.rows:
        return ""
    axis = _axis(report)
    charts = [*_identity_charts(report, axis), *_flicker_charts(report, axis)]
    charts += _attribute_charts(report, axis)
    panel = (
        '<aside class="panel" id="panel" hidden><div class="images"></div><p class="where"></p>'
        '<p class="tracks"></p><dl></dl></aside>'
    )
    note = (
        "Move over a chart to read a frame, click to hold it, ← and → step. "
        "Tinted columns are frames that stand out; dashed lines are cuts."
    )
    if len(report.tracks) > 1:
        note += " Where a frame has several faces, the nearest curve is read; the others pale."
    content = f'<div class="time"><div class="charts">{"".join(charts)}</div>{panel}</div>'
    return section("Over time", content, note=note)


def _identity_charts(report: Report, axis: TimeAxis) -> list[str]:
    smiling, alike = "same person, smiling {:g}", "most similar strangers {:g}"
    inverted = ["inversion"] if report.has_inversion else []
    against = {"output": "", **{name: f"_{name}" for name in inverted}}
    distance = _lines(report, {name: f"distance{end}" for name, end in against.items()})
    cosine = _lines(report, {name: f"similarity{end}" for name, end in against.items()})
    columns = {name: f"first_{name}" for name in ("source", *inverted, "output")}
    first = [replace(line, points=_later(line.points)) for line in _lines(report, columns)]
    return [
        line_chart(
            "Distance to the source",
            distance,
            axis,
            unit="Euclidean",
            levels=_levels(report, same_person_median=smiling, strangers_p5=alike),
            at_least=(0.0, 0.3),
        ),
        line_chart(
            "Similarity to the source",
            cosine,
            axis,
            unit="cosine",
            levels=_levels(report, same_person_cosine=smiling, strangers_p95_cosine=alike),
            at_least=(0.8, 1.0),
        ),
        line_chart(
            "Similarity to the first frame",
            first,
            axis,
            unit="cosine; its mean is IC",
            levels=_levels(report, same_person_ic="one person {:g}", strangers_p95_cosine=alike),
            at_least=(0.8, 1.0),
        ),
    ]


def _levels(report: Report, **words: str) -> list[Level]:
    """Lines to compare with: names of the baseline, as far as it has them, to their labels."""
    known = {name: report.recognition.level(name) for name in words}
    return [Level(at, words[name].format(at)) for name, at in known.items() if at is not None]


def _later(points: Series) -> Series:
    """Without the first one measured: the first frame is like itself."""
    return [point for point in points if point[1] is not None][1:]


def _flicker_charts(report: Report, axis: TimeAxis) -> list[str]:
    face = _lines(report, {"source": "flicker_source", "output": "flicker_output"})
    border = _lines(report, {"source": "border_source", "output": "border_output"})
    pops = _lines(report, {"face": "pop_face", "border": "pop_border"})
    unit = "levels of 255, motion taken out"
    return [
        line_chart("Flicker inside the face", face, axis, unit=unit, at_least=(0.0, 2.0)),
        line_chart("Flicker at the mask's border", border, axis, unit=unit, at_least=(0.0, 2.0)),
        line_chart(
            "Sudden change of the edit",
            pops,
            axis,
            unit="levels from its running median",
            at_least=(0.0, 2.0),
        ),
    ]


def _attribute_charts(report: Report, axis: TimeAxis) -> list[str]:
    """Smile in full width, in units that were calibrated; the geometry of the face beside it."""
    charts = {
        name: line_chart(
            words[0].upper() + words[1:],
            _lines(report, {clip: f"{clip}_{name}" for clip in ("source", "output")}),
            axis,
            unit=SMILE_UNIT if name == "smile" else "",
        )
        for name, words in measured_attributes(report).items()
    }
    wide = [charts.pop("smile")] if "smile" in charts else []
    return [*wide, f'<div class="halves">{"".join(charts.values())}</div>']


def measured_attributes(report: Report) -> dict[str, str]:
    """Names and words of the attributes that some row has."""
    found = {name for row in report.rows for name in row.source_attributes}
    return {name: words for name, words in ATTRIBUTES.items() if name in found}


def _lines(report: Report, columns: dict[str, str]) -> list[Line]:
    """Curves of columns, one a track: caption (and colour) -> column."""
    tracks: dict[int, list[dict[str, Any]]] = {}
    for row in sorted(report.rows, key=lambda row: row.frame):
        tracks.setdefault(row.track, []).append(row.flat())
    return [
        Line(name, name, [(row["frame"], row[column]) for row in rows], track)
        for name, column in columns.items()
        for track, rows in sorted(tracks.items())
    ]


def spread(report: Report) -> str:
    """Box plots over frames."""
    inverted = ["inversion"] if report.has_inversion else []
    first = {
        name: (name, _to_the_first(report, f"first_{name}"))
        for name in ("source", *inverted, "output")
    }
    against = {"output": "distance", **{name: f"distance_{name}" for name in inverted}}
    distances = {name: (name, _values(report, column)) for name, column in against.items()}
    if not distances["output"][1]:
        return ""
    same, others = "{:g} same person", "{:g} strangers"
    steady = _levels(report, same_person_ic=same, strangers_p95_cosine=others)
    levels = _levels(report, same_person_median=same, strangers_p5=others)
    plots = [
        box_plot("Similarity to the first frame", first, unit="cosine", levels=steady),
        box_plot("Distance to the source", distances, unit="Euclidean", levels=levels),
    ]
    note = "Boxes: quartiles and median; whiskers: 1.5 boxes; diamond: mean."
    return section("Spread over frames", f'<div class="two">{"".join(plots)}</div>', note=note)


def _to_the_first(report: Report, column: str) -> list[float]:
    """Values of a column without each track's first, which is the similarity to itself."""
    values = []
    for track in report.tracks:
        rows = [row for row in _sampled(report) if row.track == track.id]
        known = [value for row in rows if (value := getattr(row, column)) is not None]
        values += known[1:]
    return values


def _values(report: Report, column: str) -> list[float]:
    values = [getattr(row, column) for row in _sampled(report)]
    return [value for value in values if value is not None]


def _sampled(report: Report) -> list[FrameRow]:
    """Without the rows that were embedded for being suspicious, or as a neighbour."""
    return [row for row in report.rows if not row.additional]


def panel_data(report: Report) -> dict[str, object]:
    """What the script needs: one line of ``_PANEL`` and place a row."""
    labels = {
        name: words
        for name, words in _PANEL.items()
        if not name.endswith("_smile") or "smile" in measured_attributes(report)
    }
    columns = ["frame", "track", "seconds", "reasons", *labels]
    rows = [[row[name] for name in columns] for row in (r.flat() for r in report.rows)]
    many = len(report.tracks) > 1
    return {
        "frames": report.source.frames,
        "columns": columns,
        "labels": labels,
        "rows": rows,
        "many": many,
        "every": report.recognition.every,
    }
