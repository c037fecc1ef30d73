"""The table of stages: what comes next for a clip, and results that come back from a journal."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path

import pytest

from pipelines.batch.request.jobs import Job
from pipelines.batch.stages.analyse import AnalyseResult
from pipelines.batch.stages.clip_state import Clip
from pipelines.batch.stages.edit_result import EditResult
from pipelines.batch.stages.fetch import FetchResult
from pipelines.batch.stages.fit import FitResult
from pipelines.batch.stages.render import RenderResult
from pipelines.batch.stages.report_clip import ReportResult
from pipelines.batch.stages.table import (
    ANALYSE,
    FETCH,
    FIT,
    JOIN,
    PICTURE,
    RENDER,
    REPORT,
    STAGES,
    next_stage,
    record,
    stage_of,
)
from pipelines.batch.stages.tasks import Completed, ReportOptions, RunOptions
from pipelines.batch.status.stage_lines import completed_of, stage_line, stage_of_line
from vidinv.inversion import METHODS
from vidinv.inversion.registry import MethodEntry
from vidinv.types import IdentitySummary

RESULTS = {
    FETCH: FetchResult(9),
    ANALYSE: AnalyseResult(30, (10, 20)),
    FIT: FitResult((0, 3), ("a" * 32, "b" * 32)),
    RENDER: RenderResult("00001.nut", ("odd size",)),
    PICTURE: EditResult(1, 1, 0, (), IdentitySummary(), ()),
    JOIN: EditResult(30, 30, 0, (), IdentitySummary(), ()),
    REPORT: ReportResult({"status": "done"}),
}


def clip_of(name="a.mp4", source="/in/a.mp4"):
    return Clip(Job(source, name, {"smile": ((0.0, 1.0),)}), "id", Path("work"))


def options(*, report=False, method="fse"):
    return RunOptions(Path("out"), method, ReportOptions() if report else None)


def way_of(clip, how):
    """The stages of a clip, one part after another."""
    way = []
    while (stage := next_stage(clip, how)) is not None:
        part = stage.missing(clip)[0]
        way.append(stage.name)
        assert stage_of(stage.task.of(clip, how, part)) is stage
        record(clip, stage, part, Completed(RESULTS[stage], 1.0))
        if stage.result is EditResult:
            clip.made = {}
    return way


@pytest.mark.parametrize(
    ("clip", "report", "way"),
    [
        (clip_of(), False, "analyse render render join"),
        (clip_of(source="https://host/a.mp4"), False, "fetch analyse render render join"),
        (clip_of("a.png", "/in/a.png"), True, "picture report"),
        (clip_of(), True, "analyse render render join report"),
    ],
)
def test_the_order_of_the_table_is_the_way_of_a_clip(clip, report, way):
    assert way_of(clip, options(report=report)) == way.split()
    assert clip.seconds == {name: float(way.split().count(name)) for name in way.split()}


def test_methods_that_learn_something_of_a_track_are_fitted_before_the_segments(monkeypatch):
    entry = MethodEntry("toy", "for tests", "tests.inversion.toy:ToyInverter")
    monkeypatch.setitem(METHODS, "toy", entry)
    assert way_of(clip_of(), options(method="toy")) == [
        "analyse",
        "fit",
        "render",
        "render",
        "join",
    ]
    picture = clip_of("a.png", "/in/a.png")
    assert way_of(picture, options(method="toy")) == ["picture"]


@pytest.mark.parametrize("method", ["fse", "toy"])
def test_a_clip_without_segments_is_joined_at_once(monkeypatch, method):
    entry = MethodEntry("toy", "for tests", "tests.inversion.toy:ToyInverter")
    monkeypatch.setitem(METHODS, "toy", entry)
    clip = clip_of()
    record(clip, ANALYSE, None, Completed(AnalyseResult(30, ()), 1.0))
    assert next_stage(clip, options(method=method)) is JOIN


def test_a_new_fit_makes_what_was_rendered_with_the_old_one_void():
    clip = clip_of()
    for stage, part in ((ANALYSE, None), (FIT, None), (RENDER, 0), (FIT, None)):
        record(clip, stage, part, Completed(RESULTS[stage], 1.0))
    assert RENDER.missing(clip) == [0, 1]
    assert FIT.missing(clip) == []


def test_a_new_analysis_makes_what_was_rendered_of_the_old_one_void():
    clip = clip_of()
    for stage, part in ((ANALYSE, None), (RENDER, 0), (RENDER, 1), (ANALYSE, None)):
        record(clip, stage, part, Completed(RESULTS[stage], 1.0))
    assert RENDER.missing(clip) == [0, 1]
    assert clip.seconds == {"analyse": 1.0}


def test_tasks_and_events_tell_the_stages_apart():
    assert len({stage.task for stage in STAGES}) == len(STAGES)
    events = [stage.event for stage in STAGES if stage.event]
    assert len({*events}) == len(events)


@pytest.mark.parametrize("stage", [stage for stage in STAGES if stage.event], ids=lambda s: s.name)
def test_results_come_back_from_a_line_of_the_journal(stage):
    segment = 1 if stage is RENDER else None
    done = Completed(RESULTS[stage], 2.5, notes=("for the log only",))
    line = json.loads(json.dumps(stage_line(stage, clip_of(), segment, done)))
    assert stage_of_line(line) is stage
    assert completed_of(stage, line) == Completed(RESULTS[stage], 2.5)
    assert (line["clip"], line["output"], line.get("segment")) == ("id", "a.mp4", segment)


def test_fields_of_results_do_not_hide_those_of_their_line():
    own = {"event", "clip", "output", "segment", "seconds"}
    for stage in STAGES:
        if stage.event:
            assert not own & {field.name for field in fields(stage.result)}


# As the code before typed results wrote them (STAGES_VERSION 3, status "done" in each).
EARLIER = (
    '{"event": "fetched", "clip": "id", "output": "a.mp4", "status": "done", "bytes": 9,'
    ' "seconds": 0.5}',
    '{"event": "analysed", "clip": "id", "output": "a.mp4", "status": "done", "num_frames": 30,'
    ' "segment_frames": [10, 20], "seconds": 1.5}',
    '{"event": "rendered", "clip": "id", "segment": 1, "status": "done", "file": "00001.nut",'
    ' "warnings": ["odd size"], "seconds": 2.5}',
)


@pytest.mark.parametrize(("text", "stage"), [*zip(EARLIER, (FETCH, ANALYSE, RENDER), strict=True)])
def test_journals_of_earlier_code_are_read(text, stage):
    line = json.loads(text)
    assert stage_of_line(line) is stage
    assert completed_of(stage, line) == Completed(RESULTS[stage], line["seconds"])
