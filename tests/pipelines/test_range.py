"""``--start`` and ``--end``: what lies outside keeps its pictures, inside is an edit like any."""

from __future__ import annotations

import numpy as np
import pytest

import vidinv
from pipelines.demo import make_clip
from tests.packs.tiny import write_tiny_pack
from tests.pipelines.passes import Passes
from tests.video.clips import packets_of, plain_times, write_clip
from vidinv.cli import main
from vidinv.errors import UsageError
from vidinv.packs import load_pack
from vidinv.video import write_image

FRAMES, RATE = 40, 25
START, END = 0.32, "0:01.28"
INSIDE = range(8, 32)
MIDDLE = 20  # where it has faded in
SMILE = {"smile": 2.0}


@pytest.fixture(scope="module")
def pack(tmp_path_factory):
    return load_pack(write_tiny_pack(tmp_path_factory.mktemp("packs") / "tiny"))


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    path = tmp_path_factory.mktemp("clips") / "face.mp4"
    return make_clip(load_pack(), path, seconds=FRAMES / RATE, size_px=256)


@pytest.fixture(scope="module")
def edited(pack, clip, tmp_path_factory):
    """Result, output, and frames with their pictures before encoding."""
    return edit(clip, tmp_path_factory.mktemp("edit") / "out.mp4", pack)


def edit(clip, output, pack, *, start=START, end=END, **how):
    passes = Passes()
    wish = {"attributes": SMILE, "start": start, "end": end, "progress": passes, **how}
    result = vidinv.edit(clip, output, pack=pack, **wish)
    return result, output, passes.seen.get("edit", [])


def changed(pairs):
    return [f.index for f, picture in pairs if not np.array_equal(f.image, picture)]


def test_frames_outside_are_the_sources_bit_for_bit(edited):
    result, _, pairs = edited
    assert len(pairs) == FRAMES
    assert changed(pairs) == list(INSIDE)
    assert (result.frames, result.frames_in_range) == (FRAMES, len(INSIDE))
    assert (result.faces_edited, result.frames_without_face) == (len(INSIDE), 0)
    assert [(t.first, t.last) for t in result.tracks] == [(8, 31)]


def test_streams_and_times_stay_whole(clip, edited):
    _, output, _ = edited
    assert plain_times(output) == plain_times(clip)
    assert packets_of(output) == packets_of(clip)
    assert packets_of(clip)


def test_an_edit_in_the_middle_of_a_shot_fades(edited):
    change = {f.index: np.abs(f.image.astype(int) - p).mean() for f, p in edited[2]}
    for edge in (INSIDE[0], INSIDE[-1]):
        assert 0 < change[edge] < 0.3 * change[MIDDLE]


def test_a_range_that_begins_with_the_clip_does_not_fade_there(pack, clip, tmp_path):
    _, _, pairs = edit(clip, tmp_path / "a.mp4", pack, start=None, end=0.4)
    assert changed(pairs) == list(range(10))
    change = [np.abs(f.image.astype(int) - p).mean() for f, p in pairs[:10]]
    assert change[0] > 0.8 * max(change)
    assert change[9] < 0.3 * change[0]


def test_keyframes_count_from_the_start_of_the_clip(pack, clip, tmp_path):
    keys = {"smile": [(0.6, 0.0), (0.64, 2.0)]}
    _, _, pairs = edit(clip, tmp_path / "a.mp4", pack, attributes=keys)
    change = [np.abs(f.image.astype(int) - p).mean() for f, p in pairs]
    assert change[10] < 0.2 * change[MIDDLE]


def test_saved_latents_of_another_range_are_not_used(pack, clip, edited, tmp_path):
    folder = tmp_path / "kept"
    edit(clip, tmp_path / "other.mp4", pack, start=None, end=0.1, latents=folder)
    for name in ("first", "again"):
        result, _, pairs = edit(clip, tmp_path / f"{name}.mp4", pack, latents=folder)
        assert all(np.array_equal(a, b) for (_, a), (_, b) in zip(pairs, edited[2], strict=True))
        said = any("another range of time: it is not used" in text for text in result.warnings)
        assert said == (name == "first")


def test_a_range_without_a_face_is_said(pack, tmp_path):
    clip = write_clip(tmp_path / "a.mp4", [np.full((64, 96, 3), 90, np.uint8)] * 50)
    result, output, _ = edit(clip, tmp_path / "b.mp4", pack, start=0.5, end=None)
    assert any("a.mp4 from 0.5 s on: copied unchanged" in text for text in result.warnings)
    assert (result.frames_in_range, result.frames_without_face) == (37, 37)
    assert packets_of(output, "video") == packets_of(clip, "video")


@pytest.mark.parametrize(
    ("times", "message"),
    [
        (["--start", "1.5", "--end", "1:0"], None),  # the clip ends before: fine
        (["--start", "2", "--end", "2"], "--end 2: not after --start 2"),
        (["--end", "0"], "--end 0: not after --start 0"),
        (["--start", "-1"], "--start -1: times count from the clip's first frame"),
        (["--start", "1:75"], "--start 1:75: minutes and seconds of a clock end at 59"),
        (["--start", "soon"], "--start soon: give seconds or [HH:]MM:SS"),
        (["--start", "nan"], "--start nan: give seconds"),
        (["--start", "2:00"], "--start 120: "),
        (["--start", "0.41", "--end", "0.42"], "no frame begins from 0.41 s to 0.42 s"),
    ],
)
def test_times_that_make_no_sense_are_one_line(clip, tmp_path, capsys, times, message):
    made = tmp_path / "out.mp4"
    pack = write_tiny_pack(tmp_path / "pack")
    options = ["--attr", "smile", "--pack", pack, "--quiet", *times]
    code = main([str(o) for o in ("edit", clip, "-o", made, *options)])
    said = capsys.readouterr().err
    if message is None:
        assert (code, said) == (0, "")
        return
    assert code == 2
    assert len(said.splitlines()) == 1
    assert message in said
    assert [path.name for path in tmp_path.iterdir()] == ["pack"]


def test_pictures_have_no_times(pack, tmp_path):
    write_image(tmp_path / "a.png", np.full((64, 96, 3), 90, np.uint8))
    with pytest.raises(UsageError, match=r"a\.png is a picture: --start and --end are for clips"):
        vidinv.invert(tmp_path / "a.png", tmp_path / "b.png", pack=pack, start=1)
