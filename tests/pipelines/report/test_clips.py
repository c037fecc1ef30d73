"""Source and output side by side: what does not belong together is said, and when."""

from __future__ import annotations

import json
from fractions import Fraction

import pytest

from pipelines.report.clips import Clips, FrameTimes
from tests.packs.tiny import write_tiny_pack
from tests.pipelines.passes import Passes
from tests.video.clips import make_clip, with_rotation
from vidinv.api import write_report
from vidinv.errors import UsageError
from vidinv.types import Frame
from vidinv.video import probe

UNEVEN = [0, 40, 80, 200, 240, 400, 440, 480, 900, 940, 980, 1500]  # milliseconds


def read(source, output):
    clips = Clips(source, output)
    clips.check()
    for _ in clips.in_step():
        pass
    return clips


def seconds_of(clip):
    return read(clip, clip).times["output"].seconds


def test_a_clip_lasts_until_its_last_frame_is_over(tmp_path):
    assert seconds_of(make_clip(tmp_path / "a.mp4", num_frames=40)) == pytest.approx(1.6)


def test_a_clip_that_starts_late_is_no_longer_for_it(tmp_path):
    late = [10_000 + 40 * n for n in range(12)]
    clip = make_clip(tmp_path / "late.mkv", pts=late, time_base=Fraction(1, 1000))
    assert seconds_of(clip) == pytest.approx(0.48)


def test_a_last_frame_of_unknown_duration_counts_as_the_others(tmp_path):
    kept = FrameTimes()
    assert kept.seconds == 0
    times = [kept.note(Frame(n, 500 + 40 * n, Fraction(1, 1000), None)) for n in range(5)]
    assert times == pytest.approx([0, 0.04, 0.08, 0.12, 0.16])
    assert kept.seconds == pytest.approx(0.2)


def test_other_times_are_noted_in_json_and_page(tmp_path):
    even = make_clip(tmp_path / "even.mp4")
    uneven = make_clip(tmp_path / "uneven.mp4", pts=UNEVEN, time_base=Fraction(1, 1000))
    page = tmp_path / "a.html"
    pack = write_tiny_pack(tmp_path / "tiny")
    report = write_report(even, uneven, page, pack=pack, inversion=False)
    (note,) = report.notes
    assert "frame 11 is at 0.44 s in the source and at 1.50 s in the output" in note
    assert note in json.loads(page.with_suffix(".json").read_text())["notes"]
    assert note in page.read_text()


def test_the_same_times_need_no_note(tmp_path):
    """Also where one starts later, counts in coarser units, or keeps an uneven rate, too."""
    even = make_clip(tmp_path / "even.mp4")
    coarse = [7_000 + 40 * n + n % 2 for n in range(12)]
    late = make_clip(tmp_path / "late.mkv", pts=coarse, time_base=Fraction(1, 1000))
    assert read(even, late).notes() == []
    uneven = make_clip(tmp_path / "uneven.mp4", pts=UNEVEN, time_base=Fraction(1, 1000))
    again = make_clip(tmp_path / "again.mkv", pts=UNEVEN, time_base=Fraction(1, 1000))
    assert read(uneven, again).notes() == []
    half = [40 * n + 18 * (n == 6) for n in range(12)]
    close = make_clip(tmp_path / "close.mkv", pts=half, time_base=Fraction(1, 1000))
    assert read(even, close).notes() == []
    beyond = [40 * n + 22 * (n == 6) for n in range(12)]
    apart = make_clip(tmp_path / "apart.mkv", pts=beyond, time_base=Fraction(1, 1000))
    assert "frame 6 is" in read(even, apart).notes()[0]


def test_another_size_is_refused_before_anything_is_measured(tmp_path):
    large, small = make_clip(tmp_path / "large.mp4"), make_clip(tmp_path / "small.mp4", width=48)
    pack = write_tiny_pack(tmp_path / "tiny")
    with pytest.raises(UsageError, match=r"large.mp4 is 96x64 and .*small.mp4 48x64"):
        write_report(
            *(large, small, tmp_path / "a.html"),
            pack=pack,
            inversion=False,
            progress=Passes(refused=("faces",)),
        )


def test_sizes_are_those_of_the_display(tmp_path):
    upright = make_clip(tmp_path / "upright.mp4", width=64, height=96)
    turned = make_clip(tmp_path / "turned.mp4", width=96, height=64)
    shown = with_rotation(turned, tmp_path / "shown.mp4", degrees=90)
    assert (probe(shown).width, probe(shown).height) == (64, 96)
    Clips(upright, shown).check()
    with pytest.raises(UsageError, match="96x64 and"):
        Clips(turned, shown).check()


def test_a_size_that_the_header_does_not_tell_is_still_seen(tmp_path):
    large, small = make_clip(tmp_path / "large.mp4"), make_clip(tmp_path / "small.mp4", width=48)
    with pytest.raises(UsageError, match="48x64"):
        next(Clips(large, small).in_step())
