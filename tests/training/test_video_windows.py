"""Windows of face tracks out of video: what is written, and how the loop draws it."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

import training.video_windows
from pipelines.demo import make_clip
from tests.training.runs import LOOP
from tests.training.test_loop import MeanColour
from training.batches import StepBatches, exposed
from training.data import ATTRIBUTES, load, main
from training.loop import Loop
from training.video_windows import ClipWindows, Window, cut_windows
from vidinv.errors import DecodeError, UsageError
from vidinv.faces.align import TIGHT
from vidinv.packs import load_pack

FRAMES = 8


@pytest.fixture(scope="module")
def windows(tmp_path_factory):
    """Of two people for 18 frames each, and of a file that is no video."""
    pytest.importorskip("decord", reason="needs decord: pip install -e '.[train]'")
    clips = tmp_path_factory.mktemp("clips")
    out = tmp_path_factory.mktemp("windows") / "arrays"
    for seed in (0, 1):
        make_clip(
            load_pack(), clips / f"{seed}.mp4", seconds=18 / 25, size_px=192, seed=seed, tone=False
        )
    (clips / "damaged.mp4").write_text("no video")
    main(["video", str(clips), str(out), "--frames", str(FRAMES)])
    return out


def test_tracks_are_cut_into_windows_of_aligned_frames(windows):
    data = load(windows, 128)
    assert data.window == FRAMES
    assert data.images_M3RR.shape == (4 * FRAMES, 3, 128, 128)
    assert data.is_train_M.tolist() == [True] * 16 + [False] * 16  # the second clip is held out
    said = json.loads((windows / "meta.json").read_text())["windows"]
    assert [(w["clip"], w["first"]) for w in said] == [
        ("0.mp4", 0), ("0.mp4", 8), ("1.mp4", 0), ("1.mp4", 8),
    ]  # fmt: skip
    frames = data.images_M3RR.astype(float)
    motion = np.abs(np.diff(frames, axis=0)).mean(axis=(1, 2, 3))
    inside = np.delete(motion, 15)  # row 15 to 16: another person
    assert inside.min() > 0
    assert inside.max() < 0.5 * motion[15]
    # Landmarks are those of the crop: the tight alignment of them is the crop itself.
    centre_x, centre_y, axis_x, axis_y = TIGHT.crops(data.landmarks_M).mean(axis=0)
    assert [centre_x, centre_y] == pytest.approx([63.5, 63.5], abs=1.5)
    assert [axis_x, axis_y] == pytest.approx([64, 0], abs=2)
    known = ~np.isnan(data.targets_MA).any(axis=0)
    assert {n for n, k in zip(ATTRIBUTES, known, strict=True) if k} == {
        "yaw", "pitch", "mouth_open", "eyes_open",
    }  # fmt: skip
    assert (windows / "sheet.png").is_file()


def test_nothing_is_written_over_and_nothing_is_left_half_written(windows, tmp_path, monkeypatch):
    before = {path.name: path.stat().st_mtime_ns for path in windows.iterdir()}
    with pytest.raises(UsageError, match="is there already"):
        cut_windows(windows, windows)
    assert {path.name: path.stat().st_mtime_ns for path in windows.iterdir()} == before
    (tmp_path / "one.mp4").touch()
    found = [Window("one.mp4", 0, 0, 0)]
    plan = lambda path, **how: ClipWindows(path, (), tuple(found))  # noqa: E731
    monkeypatch.setattr(training.video_windows, "plan_windows", plan)
    with pytest.raises(UsageError, match="no two windows of 8 frames"):
        cut_windows(tmp_path, tmp_path / "out")
    found *= 2
    with pytest.raises(DecodeError):  # the file is empty
        cut_windows(tmp_path, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["one.mp4"]


def test_another_resolution_is_said(windows):
    with pytest.raises(UsageError, match=r"no pictures of 64 px, only faces128\.npy: .*--resolut"):
        load(windows, 64)


def test_the_loop_draws_whole_windows_and_mirrors_them_whole(windows, tmp_path):
    data = load(windows, 128)
    config = replace(LOOP, batch=2 * FRAMES, total_images=64)
    batches, mirrored = StepBatches(data, config, rank=0), set()
    originals = torch.from_numpy(data.images_M3RR[data.is_train_M]).float() / 127.5 - 1
    for number in range(6):
        images = batches[number].images
        assert len(images) == 2 * FRAMES
        for window in images.split(FRAMES):
            matches = [
                (start, flip)
                for start in (0, FRAMES)
                for flip in (False, True)
                if torch.allclose(
                    window.flip(-1) if flip else window, originals[start : start + FRAMES]
                )
            ]
            assert len(matches) == 1
            mirrored.add(matches[0][1])
    assert mirrored == {False, True}
    loop = Loop(MeanColour(config), data, config, tmp_path)
    loop.run()
    assert loop.images_seen == 64
    with pytest.raises(UsageError, match="not a multiple of the data's windows of 8 frames"):
        StepBatches(data, replace(config, batch=12), rank=0)


def test_a_batch_is_not_halved_within_a_window(windows, tmp_path):
    data, config = load(windows, 128), replace(LOOP, batch=FRAMES)
    with pytest.raises(UsageError, match="a batch of 8 cannot be halved"):
        Loop(MeanColour(config, dies_at=(1,)), data, config, tmp_path).run()


def test_exposure_keeps_hues_and_clips_nothing():
    light = torch.rand(8, 3, 4, 4) * 0.7 + 0.05
    light[0, 1, 2, 2] = 0.9
    stops = torch.tensor([2.0, -2.0]).repeat_interleave(4)
    changed = (exposed(light * 2 - 1, stops, window=4) + 1) / 2
    gains = changed / light
    for window, gain in zip(gains.split(4), (1 / 0.9, 2 ** (-2 / 2.2)), strict=True):
        torch.testing.assert_close(window, torch.full_like(window, gain))
    assert changed.max() <= 1 + 1e-6


def test_exposure_is_drawn_by_the_step(faces):
    plain = StepBatches(faces, LOOP, rank=0)[3]
    bright, again = (StepBatches(faces, replace(LOOP, exposure=0.5), rank=0)[3] for _ in range(2))
    assert torch.equal(bright.images, again.images)
    assert torch.equal(bright.targets, plain.targets)
    ratio = (bright.images + 1).mean(dim=(1, 2, 3)) / (plain.images + 1).mean(dim=(1, 2, 3))
    assert len(ratio.unique()) > 4
    assert 2 ** (-0.5 / 2.2) - 1e-3 < ratio.min() < 0.99


def test_a_folder_without_video_is_said(tmp_path):
    with pytest.raises(UsageError, match="no video here"):
        main(["video", str(tmp_path), str(tmp_path / "out")])
