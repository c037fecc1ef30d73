"""The page: whole HTML, nothing fetched, names harmless, figures those of the JSON."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import re
import statistics
from html.parser import HTMLParser

import pytest

from tests.report.made_up import (
    FRAMES,
    HOSTILE,
    SWAPPED,
    make_report,
    make_two_tracks,
    thumbnails_of,
)
from vidinv.report import (
    DLIB_BASELINE,
    ClipFacts,
    Recognition,
    Summary,
    TrackFacts,
    write_report,
)
from vidinv.report.charts import Box, nice_ticks
from vidinv.report.export import as_csv
from vidinv.report.model import SMILE_UNIT
from vidinv.report.page import render, runs

FINE = {"distance_median": 0.2, "like_strangers": 0}
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
    assert (data["schema"], data["schema_version"]) == ("vidinv-report", 2)
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


def card(page: str, title: str) -> str:
    """The text of one of the cards with figures."""
    found = re.search(rf'<div class="card"><h3>{title}</h3>(.*?)</div>', page)
    assert found
    return re.sub(r"<[^>]+>", " ", found[1])


def chart(page: str, title: str) -> str:
    """The markup of one of the charts."""
    return next(one for one in page.split("<figure ") if f"<b>{title}" in one)


def test_cosines_have_their_baseline_beside_them():
    page = render(make_report())
    same, strangers = (DLIB_BASELINE[f"{n}_cosine"] for n in ("same_person", "strangers_p95"))
    assert 0 < strangers < 0.68 < same < 1
    words = f"same person {same:g} · strangers to {strangers:g}"
    assert words in card(page, "Similarity to the source")
    steady = f"one person, not edited {DLIB_BASELINE['same_person_ic']:g}"
    assert steady in card(page, "Identity consistency IC")
    for ratio in ("TL-ID", "TG-ID"):
        assert "1 is as" in card(page, ratio)
        assert "strangers" not in card(page, ratio)
    for title in ("Similarity to the source", "Similarity to the first frame"):
        assert f"most similar strangers {strangers:g}" in chart(page, title)
    assert f"same person, smiling {same:g}" in chart(page, "Similarity to the source")
    assert f"one person {DLIB_BASELINE['same_person_ic']:g}" in chart(
        page, "Similarity to the first frame"
    )
    assert "0.25 same person" in page  # the distances' own levels stay


def test_the_label_of_a_level_lies_where_there_is_room():
    page = chart(render(make_report()), "Similarity to the source")
    sides = {label: css for css, label in re.findall(r'"level-label( under)?"[^>]*>(.*?)<', page)}
    assert sides == {"same person, smiling 0.87": " under", "most similar strangers 0.35": ""}


def test_raw_cosines_and_other_networks_have_no_baseline():
    for known in (
        Recognition("dlib_test_net", False, 1, FRAMES, 0, DLIB_BASELINE),
        Recognition("arcface", True, 1, FRAMES, 0, None),
    ):
        page = render(make_report(recognition=known))
        assert "strangers" not in card(page, "Similarity to the source")
        assert "one person" not in card(page, "Identity consistency IC")
        assert "strangers" not in chart(page, "Similarity to the first frame")


@pytest.mark.parametrize(
    ("every", "beyond", "embedded"),
    [
        (1, "which no frame reaches", "every frame"),
        (3, "which no embedded frame reaches", "one frame in 3"),
    ],
)
def test_what_was_not_embedded_is_not_judged(every, beyond, embedded):
    known = Recognition("dlib_test_net", True, every, 14, 0, DLIB_BASELINE)
    page = render(make_report(recognition=known, summary=Summary(**FINE)))
    words = " ".join(parse(page).texts)
    assert f"begin at 0.68, {beyond}." in words
    assert f"Embedded: {embedded}" in words


def test_a_frame_embedded_in_addition_counts_as_like_strangers():
    """The summary leaves it out, being there for its looks."""
    known = Recognition("dlib_test_net", True, 3, 14, 1, DLIB_BASELINE)
    report = make_report(recognition=known, summary=Summary(**FINE))
    for row in report.rows:
        row.distance = 0.7 if row.frame in (7, 8) else 0.2
        row.additional = row.frame == 7
    assert "which 1 of the embedded frames reaches" in render(report)


def test_boxes_are_over_the_sampled_frames():
    """Frames embedded in addition are the worst ones."""
    report = make_report()
    for row in report.rows:
        row.additional = row.frame in SWAPPED
    (all_frames, evenly) = (render(one) for one in (make_report(), report))
    titles = [re.findall(r"output: median ([0-9.]+)", page) for page in (all_frames, evenly)]
    usual = [row for row in report.rows if not row.additional]
    first = statistics.median(row.first_output for row in usual[1:])
    distance = statistics.median(row.distance for row in usual)
    assert [float(one) for one in titles[1]] == pytest.approx([first, distance], abs=0.001)
    assert titles[0] != titles[1]


def test_how_many_pairs_tl_id_is_over_is_said():
    known = Recognition("dlib_test_net", True, 3, 25, 3, DLIB_BASELINE, neighbours=8, pairs=8)
    page = render(make_report(recognition=known))
    assert "over 8 pairs of neighbouring frames" in card(page, "TL-ID")
    words = " ".join(parse(page).texts)
    assert "TL-ID is over 8 pairs of neighbouring frames" in words
    assert "one frame in 3, 8 more for TL-ID, and 3 more beside suspicious ones, 25 in" in words


def test_the_verdict_counts_what_the_median_is_of():
    known = Recognition("dlib_test_net", True, 3, 25, 3, DLIB_BASELINE, neighbours=8, pairs=8)
    _, lead = verdict(render(wrong_throughout(distance=0.95, count=14, recognition=known)))
    assert lead.startswith("Identity is lost: 14 of 14 sampled faces are")


def test_the_curve_to_the_first_frame_leaves_that_frame_out():
    report = make_two_tracks()
    for row in report.rows:
        if row.frame == (0, 5)[row.track]:
            row.first_source = row.first_output = 1.0
    lines = re.findall(
        r'<polyline class="curve (\w+)" data-track="(\d)" points="([^"]*)"',
        chart(render(report), "Similarity to the first frame"),
    )
    starts = {(css, track): float(points.split(",")[0]) for css, track, points in lines}
    assert starts == {
        (css, track): (frame + 0.5) * 1000 / FRAMES
        for css in ("source", "output")
        for track, frame in (("0", 1), ("1", 6))
    }


def test_a_csv_without_faces_still_names_its_columns():
    names = as_csv(make_report()).splitlines()[0]
    assert as_csv(make_report(rows=())).splitlines() == [names]


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
        "Identity is lost: 40 of 40 sampled faces are as far from the source as strangers; "
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
    assert lead.startswith("Identity is lost in track 1: 30 of 40 sampled faces")


def test_a_few_frames_like_strangers_are_told():
    css, lead = verdict(render(wrong_throughout(distance=0.5, count=1)))
    assert css == "bad"
    assert lead == (
        "No frame stands out from the others, but "
        "1 of 40 sampled faces is as far from the source as strangers."
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
    track = TrackFacts(3, 0, 0, FRAMES - 1, FRAMES, 0, True, 12.5, summary, person=1)
    page = render(make_report(tracks=(track,)))
    assert "<td>3</td><td>1</td>" in page
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
