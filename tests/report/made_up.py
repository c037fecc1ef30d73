"""A small report made up in code: one track of 40 frames, ten of them someone else."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from typing import Any

import numpy as np

from vidinv.report import (
    ATTRIBUTES,
    DLIB_BASELINE,
    ClipFacts,
    FrameRow,
    Recognition,
    Report,
    Summary,
    Thumbnail,
    TrackFacts,
    choose_thumbnails,
    rank,
)

FRAMES = 40
SWAPPED = range(10, 20)
HOSTILE = "</script><img src=x onerror=alert(1)>&\"'.mp4"


def make_rows(
    *, swapped: Collection[int] = SWAPPED, flickers: Collection[int] = (), track: int = 0
) -> list[FrameRow]:
    random = np.random.default_rng(track)
    rows = []
    for frame in range(FRAMES):
        noise = random.normal(size=8)
        row = FrameRow(frame, frame / 25, track, 0, True, 200.0)
        row.distance = 0.3 + 0.02 * noise[0] + 0.5 * (frame in swapped)
        row.departure = 0.01 * noise[1] + 0.4 * (frame in swapped)
        row.similarity = 0.8 + 0.02 * noise[2]
        row.first_source, row.first_output = 0.95 + 0.01 * noise[3], 0.9 + 0.01 * noise[4]
        row.pop_face = 1.0 + 0.1 * noise[5] + 18 * (frame in flickers)
        row.pop_border = 0.5 + 0.1 * noise[6]
        row.flicker_source, row.flicker_output = (None, None) if frame == 0 else (1.0, 1.5)
        row.border_source, row.border_output = row.flicker_source, row.flicker_output
        row.source_attributes = dict.fromkeys(ATTRIBUTES, 0.1)
        row.output_attributes = dict.fromkeys(ATTRIBUTES, 0.2 + 0.01 * noise[7])
        rows.append(row)
    return rows


def make_report(**changes: Any) -> Report:
    rows = make_rows()
    standing_out = rank(rows)
    report = Report(
        source=ClipFacts("/clips/source.mp4", FRAMES, 64, 48, 1.56),
        output=ClipFacts("/clips/output.mp4", FRAMES, 64, 48, 1.56),
        pack="tiny",
        edit={"smile": 1.0},
        recognition=Recognition("dlib_test_net", True, 1, FRAMES, 0, DLIB_BASELINE),
        shots=((0, 24), (25, FRAMES - 1)),
        frames_without_face=0,
        tracks=(TrackFacts(0, 0, 0, FRAMES - 1, FRAMES, 0, True),),
        summary=Summary(
            ic_source=0.95123,
            ic_output=0.90456,
            distance_median=0.30789,
            like_strangers=10,
            attributes=dict.fromkeys(ATTRIBUTES, (0.1, 0.2)),
        ),
        standing_out=standing_out,
        rows=tuple(rows),
    )
    return dataclasses.replace(report, **changes)


def make_two_tracks(*, joins: int = 5, leaves: int = FRAMES, **changes: Any) -> Report:
    """Track 0 is fine and ends before ``leaves``; track 1 comes in ``joins`` and is swapped."""
    rows = [*make_rows(swapped=())[:leaves], *make_rows(track=1)[joins:]]
    standing_out = rank(rows)
    spans = {0: (0, leaves - 1), 1: (joins, FRAMES - 1)}
    tracks = tuple(
        TrackFacts(number, 0, first, last, last - first + 1, 0, True)
        for number, (first, last) in spans.items()
    )
    rows.sort(key=lambda row: (row.frame, row.track))
    facts = {"rows": tuple(rows), "tracks": tracks, "standing_out": standing_out}
    return make_report(**{**facts, **changes})


def thumbnails_of(report: Report) -> list[Thumbnail]:
    """Plain squares, of a grey for each track."""
    chosen = []
    for row in choose_thumbnails(report):
        grey = np.full((32, 32, 3), 128 + 16 * row.track, np.uint8)
        chosen.append(Thumbnail.of(row, {"source": grey, "output": grey}))
    return chosen
