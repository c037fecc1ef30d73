"""Which frames an analysis sees, and where its shots and tracks then lie in the clip."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from pipelines.clip.networks import Networks
from pipelines.clip.plan import plan_segments
from pipelines.clip.session import ClipSession
from pipelines.clip.window import (
    MARGIN_FRAMES,
    AnalysisWindow,
    searched_frames,
    without_edges,
)
from tests.faces.fake_backend import fake_backend
from tests.packs.tiny import write_tiny_pack
from vidinv.editing.schedules import check_attributes
from vidinv.errors import UsageError
from vidinv.packs import load_pack
from vidinv.types import Analysis, EditSpec, FaceTrack, Frame, TimeRange
from vidinv.video import VideoInfo, write_image

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
    searched = searched_frames(window.times(), INFO, EditSpec(within=WITHIN))
    assert searched == range(60, 190)
    seen_shots = without_edges(analysis, searched)
    assert seen_shots.shots == ((0, 109), (110, 399))
    assert [t.shot for t in seen_shots.tracks] == [0]


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


@pytest.fixture
def people(tmp_path):
    """A session's plan, and what it says of it, of a clip of person 0 and later person 1."""
    noise = (
        np.random.default_rng(0)
        .integers(0, 256, (2, 4, 4, 3), np.uint8)
        .repeat(16, 1)
        .repeat(16, 2)
    )
    flat = np.zeros((64, 64, 3), np.uint8)
    pictures = [*[noise[0]] * 6, *[flat] * 50, *[noise[1]] * 6]
    frames = [Frame(n, n, INFO.time_base, image, 1) for n, image in enumerate(pictures)]
    write_image(tmp_path / "late.png", noise[1])
    write_image(tmp_path / "stranger.png", noise[1].transpose(1, 0, 2)[::-1])
    pack = load_pack(write_tiny_pack(tmp_path / "tiny"))
    networks = Networks(pack, backend=fake_backend())

    def plan(face="largest", start=0.0, end=None, max_frames=None, **strengths):
        attributes = {name.lstrip("_").replace("_", ":"): s for name, s in strengths.items()}
        face = str(tmp_path / face) if face.endswith(".png") else face
        within = None if (start, end) == (0.0, None) else TimeRange(start, end)
        spec = EditSpec(
            check_attributes(attributes), face=face, within=within, max_frames=max_frames
        )
        session = ClipSession(tmp_path / "late.png", spec, networks)
        read = frames[:max_frames]
        made = session.make_plan(read, INFO, has_exact_times=lambda: True)
        return made.analysis.tracks, session.why_unchanged(made).replace(f"{tmp_path}/", "")

    return plan


def test_tracks_are_numbered_as_in_the_whole_clip(people):
    for face, wish, number in (
        ("1", {"age": 1}, 1),
        ("largest", {"age": 1}, 0),
        ("all", {"_1_age": 1}, 1),
    ):
        tracks, _ = people(face, start=2.24, **wish)
        assert [(t.person, t.first, t.last) for t in tracks] == [(number, 56, 61)]


@pytest.mark.parametrize(
    "wish",
    [
        {"face": "2", "age": 1},
        {"_2_age": 1},
        {"_2_age": 0},
        {"_2_age": 0, "age": 1},
        {"face": "stranger.png", "age": 1},
    ],
)
def test_who_is_not_in_the_whole_clip_is_refused(people, wish):
    with pytest.raises(UsageError, match=r"no face 2 in the clip|not in the clip: nearest"):
        people(**wish)


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        # Whether the margin of the analysis shows them or not.
        ({"face": "1", "end": 0.2, "age": 1}, "face 1 is not there from 0 s to 0.2 s"),
        ({"face": "1", "end": 1.2, "age": 1}, "face 1 is not there from 0 s to 1.2 s"),
        ({"_1_age": 1, "end": 0.2}, "face 1 is not there from 0 s to 0.2 s"),
        ({"_1_age": 1, "_2_age": 2, "end": 1.2}, "faces 1, 2 are not there from 0 s to 1.2 s"),
        ({"face": "late.png", "end": 1.2, "age": 1}, "face late.png is not there from 0 s to 1.2"),
        ({"face": "1", "max_frames": 6, "age": 1}, "face 1 is not there from 0 s to 0.24 s"),
        ({"_0_age": 0, "age": 1, "end": 1.2}, "every strength of face 0 is 0: "),
        ({"face": "0", "_0_age": 0, "age": 1, "end": 1}, "every strength of face 0 is 0: "),
        ({"face": "0", "_1_age": 1, "end": 1}, "face 1 is not there from 0 s to 1 s: the input"),
    ],
)
def test_why_nobody_is_edited_where_somebody_is_there(people, wish, said):
    tracks, why = people(**wish)
    assert tracks == ()
    assert why.startswith(said)
    assert why.endswith(("the input was copied unchanged", "pictures are unchanged"))
