"""The page: whole HTML, nothing fetched, names harmless, figures those of the JSON."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import re
from html.parser import HTMLParser

import pytest

from tests.report.made_up import FRAMES, HOSTILE, SWAPPED, make_report, thumbnails_of
from vidinv.report import ClipFacts, Recognition, Summary, TrackFacts, write_report
from vidinv.report.charts import Box, nice_ticks
from vidinv.report.model import SMILE_UNIT
from vidinv.report.page import render, runs

VOID = {"meta", "img", "line", "rect", "polyline", "br"}


class Checker(HTMLParser):
    """Collects elements and complains about tags that do not close."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def parse(page: str) -> Checker:
    checker = Checker()
    checker.feed(page)
    checker.close()
    assert checker.open == []
    return checker


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "clip.html"
    report = make_report()
    write_report(report, path, thumbnails=thumbnails_of(report))
    return path


def test_the_page_is_whole_and_fetches_nothing(written):
    page = written.read_text()
    checker = parse(page)
    assert "http" not in re.sub(r"http-equiv", "", page)
    assert not {tag for tag, _ in checker.elements} & {"link", "iframe", "object", "base"}
    sources = [attributes["src"] for _, attributes in checker.elements if "src" in attributes]
    assert sources
    assert all(source.startswith("data:image/jpeg;base64,") for source in sources)


def test_names_from_outside_are_only_text(tmp_path):
    clip = ClipFacts(f"/x/{HOSTILE}", FRAMES, 64, 48, 1.0)
    report = make_report(source=clip, output=clip, pack=HOSTILE, edit={HOSTILE: HOSTILE})
    report = dataclasses.replace(report, notes=(HOSTILE,))
    checker = parse(render(report, name=HOSTILE))
    assert [tag for tag, _ in checker.elements].count("script") == 2
    assert not any(tag == "img" or "onerror" in found for tag, found in checker.elements)
    assert any(HOSTILE.split("/")[-1] in text for text in checker.texts)


def test_figures_are_those_of_the_json(written):
    data = json.loads(written.with_suffix(".json").read_text())
    assert (data["schema"], data["schema_version"]) == ("vidinv-report", 1)
    page = written.read_text()
    for name in ("ic_source", "ic_output", "distance_median"):
        assert f'<data value="{data["summary"][name]}">' in page
    held = json.loads(re.search(r'id="data">(.*?)</script>', page)[1])
    for row, line in zip(data["rows"], held["rows"], strict=True):
        assert dict(zip(held["columns"], line, strict=True)).items() <= row.items()


def test_csv_has_one_line_a_frame_and_track(written):
    lines = list(csv.DictReader(written.with_suffix(".csv").read_text().splitlines()))
    data = json.loads(written.with_suffix(".json").read_text())
    assert len(lines) == len(data["rows"]) == FRAMES
    for line, row in zip(lines, data["rows"], strict=True):
        assert line["distance"] == str(row["distance"])
    assert lines[0]["flicker_output"] == ""
    assert lines[SWAPPED[0]]["reasons"] == "identity"


def test_the_page_says_network_baselines_and_where_to_look(written):
    words = " ".join(parse(written.read_text()).texts)
    for part in (
        "dlib_test_net",
        "0.25",
        "0.68",
        "10 of 40 frames stand out",
        "Cuts at frames: 25",
    ):
        assert part in words
    assert "frames 10–19" in words


def test_neighbouring_frames_are_said_as_one():
    assert runs(make_report()) == [(10, 19, 0, "identity")]


def verdict(page: str) -> tuple[str, str]:
    found = re.search(r'<section class="verdict (\w+)"><p class="lead">(.*?)</p>', page)
    assert found
    return found[1], found[2]


def wrong_throughout(*, distance: float, count: int, **changes):
    """A report where nothing stands out of a track at this median distance."""
    summary = Summary(distance_median=distance, like_strangers=count)
    track = TrackFacts(0, 0, 0, FRAMES - 1, FRAMES, 0, True, 0.3, summary)
    facts = {"summary": summary, "tracks": (track,), "standing_out": ()}
    return make_report(**{**facts, **changes})


def test_a_clip_of_strangers_is_no_good_one():
    css, lead = verdict(render(wrong_throughout(distance=0.95, count=FRAMES)))
    assert css == "bad"
    assert lead == (
        "Identity is lost: 40 of 40 faces looked at are as far from the source as strangers; "
        "no frame stands out from the others."
    )
    assert verdict(render(wrong_throughout(distance=0.3, count=0))) == (
        "good",
        "No frame stands out from the others.",
    )


def test_one_lost_face_of_several_is_named():
    tracks = tuple(
        TrackFacts(n, 0, 0, FRAMES - 1, FRAMES, 0, True, 0.3, Summary(distance_median=distance))
        for n, distance in enumerate((0.2, 0.68, 0.2))
    )
    css, lead = verdict(render(wrong_throughout(distance=0.2, count=30, tracks=tracks)))
    assert css == "bad"
    assert lead.startswith("Identity is lost in track 1: 30 of 40 faces")


def test_a_few_frames_like_strangers_are_told():
    css, lead = verdict(render(wrong_throughout(distance=0.5, count=1)))
    assert css == "bad"
    assert lead == (
        "No frame stands out from the others, but "
        "1 of 40 faces looked at is as far from the source as strangers."
    )


def test_without_a_baseline_nobody_is_a_stranger():
    known = Recognition("arcface", True, 1, FRAMES, 0, None)
    summary = Summary(distance_median=0.95)
    track = TrackFacts(0, 0, 0, FRAMES - 1, FRAMES, 0, True, 0.3, summary)
    report = make_report(recognition=known, summary=summary, tracks=(track,), standing_out=())
    assert verdict(render(report)) == ("good", "No frame stands out from the others.")


def test_names_that_are_not_utf8_are_written(tmp_path):
    name = os.fsdecode(b"b\xff.mp4")
    clip = ClipFacts(f"/clips/{name}", FRAMES, 64, 48, 1.0)
    page = tmp_path / f"{name}.html"
    write_report(make_report(source=clip, output=clip, edit={name: name}), page)
    shown = "b\\udcff.mp4"
    assert f">{shown}</h1>" in page.read_text(encoding="utf-8")
    data = json.loads(page.with_suffix(".json").read_text())
    assert (data["source"]["path"], data["edit"]) == (f"/clips/{shown}", {shown: shown})


def test_a_report_without_faces_says_so():
    report = make_report(rows=(), tracks=(), standing_out=(), shots=((0, 39),))
    page = render(report)
    assert "No face was found" in page
    assert 'class="card"' not in page
    assert "No face was edited" in render(dataclasses.replace(report, edited_only=True))


def test_smile_is_shown_with_its_unit_where_it_was_measured():
    report = make_report()
    assert SMILE_UNIT in render(report)
    for row in report.rows:
        del row.source_attributes["smile"], row.output_attributes["smile"]
    page = render(report)
    assert f'class="unit">{SMILE_UNIT}' not in page
    assert "smile, source" not in page


def test_tracks_say_their_own_figures():
    summary = Summary(ic_source=0.71, ic_output=0.61, distance_median=0.41)
    track = TrackFacts(3, 0, 0, FRAMES - 1, FRAMES, 0, True, 12.5, summary)
    page = render(make_report(tracks=(track,)))
    for figure in (0.71, 0.61, 0.41, 12.5):
        assert f'<data value="{figure}">' in page


def test_ticks_enclose_the_values():
    assert nice_ticks([0.13, 0.87]) == [0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert nice_ticks([])[0] < nice_ticks([])[-1]
    assert nice_ticks([3.0, 3.0])[0] < 3 < nice_ticks([3.0, 3.0])[-1]


def test_whiskers_leave_outliers_outside():
    box = Box.of([1, 2, 3, 4, 5, 100])
    assert (box.low, box.high) == (1, 5)
    assert box.median == 3.5
