"""The page of a data set: worst first, links that work from where it lies."""

from __future__ import annotations

import os

from tests.report.made_up import HOSTILE, make_report
from tests.report.test_page import parse
from vidinv.report import IndexRow, Summary, write_index, write_report


def test_failed_clips_come_first_then_the_worst(tmp_path):
    rows = [
        IndexRow("fine.mp4", "reports/fine.html", outlier_score=1.0, distance_median=0.2),
        IndexRow("bad.mp4", "reports/bad.html", standing_out=13, outlier_score=51.0),
        IndexRow("far.mp4", "reports/far.html", outlier_score=1.0, distance_median=0.6),
        IndexRow("broken.mp4", status="quarantined", cause="decode: truncated"),
    ]
    write_index(rows, tmp_path / "index.html")
    page = (tmp_path / "index.html").read_text()
    order = [page.index(name) for name in ("broken.mp4", "bad.mp4", "far.mp4", "fine.mp4")]
    assert order == sorted(order)
    words = " ".join(parse(page).texts)
    assert "decode: truncated" in words
    assert "3 of 4 clips done, 1 with frames that stand out" in words


def test_a_clip_of_strangers_comes_first_and_the_verdict_says_so(tmp_path):
    """Scores are relative to the clip's own track: wrong throughout, nothing stands out."""
    net = {"network": "dlib_test_net"}
    rows = [
        IndexRow(
            "good.mp4", "a.html", outlier_score=2.1, distance_median=0.2, like_strangers=0, **net
        ),
        IndexRow("wrong.mp4", "b.html", outlier_score=0.3, distance_median=0.95, **net),
        IndexRow(
            "partly.mp4", "c.html", outlier_score=0.5, distance_median=0.1, like_strangers=2, **net
        ),
    ]
    write_index(rows, tmp_path / "index.html")
    page = (tmp_path / "index.html").read_text()
    order = [page.index(name) for name in ("wrong.mp4", "partly.mp4", "good.mp4")]
    assert order == sorted(order)
    assert 'class="verdict bad"' in page
    assert "0 with frames that stand out, 2 with faces as far from the source as strangers" in page
    for red in (0.95, 0.1):
        assert f'<span class="failed"><data value="{red}">' in page
    assert '<span class="failed"><data value="0.2">' not in page
    flickering = IndexRow("flicker.mp4", "d.html", standing_out=3, outlier_score=60.0, **net)
    write_index([*rows, flickering], tmp_path / "index.html")
    page = (tmp_path / "index.html").read_text()
    order = [page.index(f"{n}.mp4") for n in ("wrong", "flicker", "partly", "good")]
    assert order == sorted(order)


def test_distances_of_an_uncalibrated_network_only_order(tmp_path):
    net = {"network": "arcface"}
    rows = [
        IndexRow("near.mp4", "a.html", outlier_score=2.1, distance_median=0.2, **net),
        IndexRow("far.mp4", "b.html", outlier_score=0.3, distance_median=0.95, **net),
    ]
    write_index(rows, tmp_path / "index.html")
    page = (tmp_path / "index.html").read_text()
    assert page.index("far.mp4") < page.index("near.mp4")
    assert 'class="verdict good"' in page
    assert "as far from the source as strangers" not in page


def test_names_that_are_not_utf8_are_shown_and_linked(tmp_path):
    name = os.fsdecode(b"b\xff\xc3\xa9.mp4")
    rows = [IndexRow(name, f"{name}.html"), IndexRow(name, status="quarantined", cause=name)]
    write_index(rows, tmp_path / "index.html")
    checker = parse((tmp_path / "index.html").read_text(encoding="utf-8"))
    assert [a["href"] for tag, a in checker.elements if tag == "a"] == ["b%FF%C3%A9.mp4.html"]
    assert "".join(checker.texts).count("b\\udcff\u00e9.mp4") == 3


def test_a_row_comes_from_a_report_and_links_to_it(tmp_path):
    (tmp_path / "deep").mkdir()
    report = make_report()
    write_report(report, tmp_path / "deep" / "a b.html")
    row = IndexRow.of(report, page=str(tmp_path / "deep" / "a b.html"))
    assert (row.clip, row.standing_out, row.network) == ("output.mp4", 10, "dlib_test_net")
    assert row.ic_output == report.summary.ic_output
    assert row.like_strangers == report.summary.like_strangers == 10
    write_index([row], tmp_path / "index.html")
    links = [
        a["href"] for tag, a in parse((tmp_path / "index.html").read_text()).elements if tag == "a"
    ]
    assert links == ["deep/a%20b.html"]
    assert (
        "TL-ID is over pairs of neighbouring frames: 8 of a face at most"
        in (tmp_path / "index.html").read_text()
    )


def test_boxes_over_clips_are_those_of_source_inversion_and_output(tmp_path):
    rows = [
        IndexRow(f"{n}.mp4", f"{n}.html", ic_source=0.9 + n / 100, ic_inversion=0.7, ic_output=0.8)
        for n in range(3)
    ]
    write_index([*rows, IndexRow("silent.mp4", cause="no net")], tmp_path / "index.html")
    page = (tmp_path / "index.html").read_text()
    titles = [a["title"] for _, a in parse(page).elements if "row " in (a.get("class") or "")]
    assert titles[0].startswith("source: median 0.910")
    assert titles[1].startswith("inversion: median 0.700")
    assert titles[2].startswith("output: median 0.800")
    assert page.index("no net") < page.index("0.html")
    assert "4 of 4 clips done, 0 with frames that stand out, 1 without a report" in page


def test_a_clip_without_a_face_is_no_good_one(tmp_path):
    """Neither on its own page nor on that of the data set."""
    faceless = make_report(rows=(), tracks=(), standing_out=(), summary=Summary())
    write_report(faceless, tmp_path / "a.html")
    assert 'class="verdict bad"' in (tmp_path / "a.html").read_text()
    row = IndexRow.of(faceless, page=str(tmp_path / "a.html"))
    assert row.is_faceless
    fine = IndexRow("fine.mp4", "fine.html", distance_median=0.2, like_strangers=0, faces=1)
    worse = IndexRow("worse.mp4", "worse.html", standing_out=3, outlier_score=20.0, faces=1)
    write_index([fine, row, worse], tmp_path / "index.html")
    page = (tmp_path / "index.html").read_text()
    assert 'class="verdict bad"' in page
    assert "1 with frames that stand out, 1 without a face." in page
    assert page.count('<span class="failed">no face</span>') == 1
    order = [page.index(f"{name}.mp4<") for name in ("worse", "output", "fine")]
    assert order == sorted(order)
    write_index([fine], tmp_path / "index.html")
    assert 'class="verdict good"' in (tmp_path / "index.html").read_text()


def test_names_are_only_text(tmp_path):
    rows = [IndexRow(HOSTILE, HOSTILE), IndexRow(HOSTILE, status=HOSTILE, cause=HOSTILE)]
    write_index(rows, tmp_path / "index.html")
    page = (tmp_path / "index.html").read_text()
    checker = parse(page)
    assert not any(tag == "img" for tag, _ in checker.elements)
    assert "http" not in page.replace("http-equiv", "")
