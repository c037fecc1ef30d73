"""``--max-frames``: the output is a short part of the clip, quickly made, with its sound."""

from __future__ import annotations

import numpy as np
import pytest

import vidinv
from pipelines.demo import make_clip
from tests.packs.tiny import write_tiny_pack
from tests.pipelines.passes import Passes
from tests.video.clips import comment_of, images_of, packets_of, plain_times, write_clip
from vidinv.cli import main
from vidinv.errors import UsageError
from vidinv.packs import load_pack
from vidinv.video import write_image

FRAMES = 40
SMILE = {"smile": 2.0}


@pytest.fixture(scope="module")
def pack(tmp_path_factory):
    return load_pack(write_tiny_pack(tmp_path_factory.mktemp("packs") / "tiny"))


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    path = tmp_path_factory.mktemp("clips") / "face.mp4"
    return make_clip(load_pack(), path, seconds=FRAMES / 25, size_px=256)


def edit(clip, output, pack, **how):
    passes = Passes()
    wish = {"attributes": SMILE, "progress": passes, **how}
    result = vidinv.edit(clip, output, pack=pack, **wish)
    return result, passes.seen


def test_the_first_frames_are_the_output(pack, clip, tmp_path):
    result, seen = edit(clip, tmp_path / "a.mp4", pack, max_frames=12)
    assert (result.frames, result.frames_in_range, result.faces_edited) == (12, 12, 12)
    assert [frame.index for frame, _ in seen["edit"]] == list(range(12))
    assert len(seen["analyse"]) == 12
    assert plain_times(tmp_path / "a.mp4") == plain_times(clip)[:12]
    sound = packets_of(tmp_path / "a.mp4")
    assert sound == packets_of(clip)[: len(sound)]
    assert abs(float(sound[-1][0]) - 12 / 25) < 0.15


def test_frames_from_a_start_are_those_of_the_range(pack, clip, tmp_path):
    how = {"start": 0.44, "attributes": {"smile": [(0.5, 0.0), (0.6, 3.0)]}}
    _, whole = edit(clip, tmp_path / "whole.mp4", pack, end=0.84, **how)
    how |= {"max_frames": 10}
    result, seen = edit(clip, tmp_path / "a.mp4", pack, preview=tmp_path / "p.mp4", **how)
    assert (result.frames, result.frames_in_range, result.faces_edited) == (10, 10, 10)
    assert [frame.index for frame, _ in seen["edit"]] == list(range(11, 21))
    assert len(seen["analyse"]) == 21
    # Smoothing sees no frames behind the last one: the first ones are as good as the same.
    for (frame, picture), (_, expected) in zip(seen["edit"][:5], whole["edit"][11:], strict=False):
        assert np.abs(picture.astype(int) - expected).mean() < 1, frame.index
    assert [float(time) for time in plain_times(tmp_path / "a.mp4")] == [n / 25 for n in range(10)]
    assert plain_times(tmp_path / "p.mp4") == plain_times(tmp_path / "a.mp4")
    assert packets_of(tmp_path / "p.mp4") == packets_of(tmp_path / "a.mp4")


def test_a_trial_leaves_saved_latents_alone(pack, clip, tmp_path):
    kept = tmp_path / "kept"
    edit(clip, tmp_path / "a.mp4", pack, end=0.2, latents=kept)
    before = {path: path.stat().st_mtime_ns for path in kept.rglob("*")}
    result, seen = edit(clip, tmp_path / "b.mp4", pack, max_frames=4, latents=kept)
    assert len(seen["analyse"]) == 4
    assert {path: path.stat().st_mtime_ns for path in kept.rglob("*")} == before
    assert len(before) > 1
    assert [text for text in result.warnings if "--max-frames: latents are neither" in text]


def test_a_range_ends_before_the_output_does(pack, clip, tmp_path):
    result, seen = edit(clip, tmp_path / "a.mp4", pack, end=0.2, max_frames=999)
    changed = [f.index for f, picture in seen["edit"] if not np.array_equal(f.image, picture)]
    assert changed == list(range(5))
    assert (result.frames, result.frames_in_range, result.frames_without_face) == (FRAMES, 5, 0)
    assert packets_of(tmp_path / "a.mp4") == packets_of(clip)


def test_a_part_without_a_face_is_cut_all_the_same(pack, tmp_path):
    clip = write_clip(tmp_path / "a.mp4", [np.full((64, 96, 3), 90, np.uint8)] * 9, audio=True)
    how = {"max_frames": 4, "preview": tmp_path / "p.mp4"}
    result, _ = edit(clip, tmp_path / "b.mp4", pack, **how)
    assert len(images_of(tmp_path / "b.mp4")) == result.frames == result.frames_without_face == 4
    assert any("no face found" in text and "unchanged" in text for text in result.warnings)
    assert comment_of(tmp_path / "b.mp4") is None
    assert not (tmp_path / "p.mp4").exists()
    edit(clip, tmp_path / "c.mp4", pack, max_frames=10)  # it is over before
    assert packets_of(tmp_path / "c.mp4", "video") == packets_of(clip, "video")


def test_wishes_that_make_no_sense_are_refused(pack, clip, tmp_path, capsys):
    write_image(tmp_path / "a.png", np.full((64, 96, 3), 90, np.uint8))
    with pytest.raises(UsageError, match=r"a\.png is a picture: --max-frames is for clips"):
        edit(tmp_path / "a.png", tmp_path / "b.png", pack, max_frames=2)
    for count in (0, 2.5, True):
        with pytest.raises(UsageError, match=f"--max-frames {count}: give a whole number from 1"):
            edit(clip, tmp_path / "b.mp4", pack, max_frames=count)
    options = ["--attr", "smile", "--max-frames", 5, "--report", tmp_path / "r.html"]
    assert main([str(o) for o in ("edit", clip, "-o", tmp_path / "b.mp4", *options)]) == 2
    assert "--report compares whole clips: leave out --max-frames" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
