"""Which frames an analysis sees, and where its shots and tracks then lie in the clip."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from pipelines.clip.plan import plan_segments
from pipelines.clip.planning import plan_clip
from pipelines.clip.window import MARGIN_FRAMES, AnalysisWindow
from tests.faces.fake_backend import fake_backend
from tests.packs.tiny import write_tiny_pack
from vidinv.errors import UsageError
from vidinv.packs import load_pack
from vidinv.types import Analysis, EditSpec, FaceTrack, Frame, TimeRange
from vidinv.video import VideoInfo

INFO = VideoInfo.from_scratch(width=8, height=8, rate=25)
COUNT, FIRST_PTS = 400, 1000
PICTURE = np.zeros((8, 8, 3), np.uint8)
WITHIN = TimeRange(4.0, 6.0)  # frames 100..149


def clip():
    return [Frame(n, FIRST_PTS + n, INFO.time_base, PICTURE, 1) for n in range(COUNT)]


def seen(window):
    return [frame.index for frame in window.watch(clip())]


def track(first, last):
    count = last - first + 1
    crops = np.tile(np.arange(count, dtype=float)[:, None], 4)
    return FaceTrack(0, 0, first, np.zeros((count, 68, 2), np.float32), crops, np.ones(count, bool))


@pytest.mark.parametrize(
    ("within", "face", "expected"),
    [
        (None, "largest", range(COUNT)),
        (WITHIN, "all", range(100 - MARGIN_FRAMES, 150 + MARGIN_FRAMES)),
        (WITHIN, "0", range(150 + MARGIN_FRAMES)),
        (TimeRange(1.0, None), "largest", range(COUNT)),
    ],
)
def test_only_what_is_needed_is_analysed(within, face, expected):
    window = AnalysisWindow(INFO, EditSpec(within=within, face=face))
    assert seen(window) == list(expected)
    assert window.times().tolist() == [[FIRST_PTS + n, 1] for n in range(COUNT)]


def test_what_was_found_lies_where_it_is_in_the_clip():
    window = AnalysisWindow(INFO, EditSpec(within=WITHIN))
    seen(window)
    analysis = window.placed(Analysis(130, ((0, 49), (50, 129)), (track(5, 129),)))
    assert analysis.num_frames == COUNT
    assert analysis.shots == ((0, 59), (60, 109), (110, 189), (190, 399))
    (found,) = analysis.tracks
    assert (found.shot, found.first, found.last) == (1, 65, 189)
    cut = found.within(window.edited())
    assert (cut.first, cut.last) == (100, 149)
    assert cut.crop(100) == found.crop(100)
    assert found.within(range(65)) is None
    plan_segments(analysis.shots, chunk_frames=8, halo_frames=8)


def test_frame_times_are_exact_before_they_are_compared():
    info = VideoInfo.from_scratch(width=8, height=8, rate=Fraction(30000, 1001))
    frames = [Frame(n, FIRST_PTS + n, info.time_base, PICTURE, 1) for n in range(COUNT)]
    for number in (1, 7, 13, 299):
        start, end = (float(n * info.time_base) for n in (number, number + 3))
        window = AnalysisWindow(info, EditSpec(within=TimeRange(start, end)))
        assert list(window.watch(frames))
        assert window.edited() == range(number, number + 3)


def test_a_range_without_a_frame_is_refused():
    for within, message in (
        (TimeRange(15.97), "--start 15.97: the last frame of None begins at 15.960 s"),
        (TimeRange(1.01, 1.02), "no frame begins from 1.01 s to 1.02 s"),
    ):
        window = AnalysisWindow(INFO, EditSpec(within=within))
        seen(window)
        with pytest.raises(UsageError, match=message):
            window.edited()


def test_tracks_are_numbered_as_in_the_whole_clip(tmp_path):
    noise = (
        np.random.default_rng(0)
        .integers(0, 256, (2, 4, 4, 3), np.uint8)
        .repeat(16, 1)
        .repeat(16, 2)
    )
    flat = np.zeros((64, 64, 3), np.uint8)
    pictures = [*[noise[0]] * 6, *[flat] * 50, *[noise[1]] * 6]
    frames = [Frame(n, n, INFO.time_base, image, 1) for n, image in enumerate(pictures)]
    pack = load_pack(write_tiny_pack(tmp_path / "tiny"))

    def plan(attribute, face="largest"):
        strengths = {attribute: ((0.0, 1.0),)}
        spec = EditSpec(strengths, face=face, within=TimeRange(2.24))
        return plan_clip(frames, INFO, pack=pack, backend=fake_backend(), spec=spec)

    for attribute, face, number in (("age", "1", 1), ("age", "largest", 0), ("1:age", "all", 1)):
        tracks = plan(attribute, face).analysis.tracks
        assert [(t.person, t.first, t.last) for t in tracks] == [(number, 56, 61)]
    with pytest.raises(UsageError, match="no face 2 in the clip"):
        plan("age", "2")
    with pytest.raises(UsageError, match="no face 2 in the clip"):
        plan("2:age")
