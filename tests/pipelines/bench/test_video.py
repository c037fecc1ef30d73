"""``vidinv bench video``: what flicker and borders count, and a clip through it."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from pipelines.bench.ablation import (
    ABLATIONS,
    EVERYTHING,
    FRESH_NOISE,
    OwnGenerator,
    ablations_of,
)
from pipelines.bench.video import VideoMeter
from pipelines.demo import make_clip
from tests.packs.tiny import write_tiny_pack
from tests.video.clips import write_clip
from vidinv.cli import main
from vidinv.packs import load_pack
from vidinv.types import Crop, FaceTrack

FRAMES = 6


@pytest.fixture(scope="module")
def track() -> FaceTrack:
    """A face of 80 px in the middle of frames of 160."""
    turns = np.linspace(0, 2 * np.pi, 68, endpoint=False)
    circle = np.stack([80 + 30 * np.cos(turns), 80 + 36 * np.sin(turns)], axis=1)
    return FaceTrack(
        id=0,
        shot=0,
        first=0,
        landmarks_T682=np.repeat(circle[None], FRAMES, axis=0).astype(np.float32),
        crops_T4=np.repeat(Crop(80.0, 80.0, 50.0, 0.0).as_array()[None], FRAMES, axis=0),
        measured_T=np.ones(FRAMES, bool),
    )


def noisy(level: float, seed: int) -> list[np.ndarray]:
    """A still texture with noise of its own in each frame."""
    rng = np.random.default_rng(seed)
    texture = rng.uniform(60, 180, (20, 20, 3)).repeat(8, axis=0).repeat(8, axis=1)
    return [
        np.clip(texture + rng.normal(0, level, texture.shape), 0, 255).astype(np.uint8)
        for _ in range(FRAMES)
    ]


def measured(track: FaceTrack, source, edited, cuts=()) -> dict[str, float | None]:
    meter = VideoMeter(1.0)
    for index, (one, other) in enumerate(zip(source, edited, strict=True)):
        if index in cuts:
            meter.cut()
        meter.add(index, one, other, [track])
    return meter.row()


def test_an_edit_that_changes_nothing_has_ratios_of_1(track):
    frames = noisy(4, 0)
    assert measured(track, frames, frames) == {"flicker": 1.0, "border": 1.0}


def test_what_trembles_in_the_face_counts_and_what_does_beside_it_does_not(track):
    source, rng = noisy(3, 0), np.random.default_rng(1)
    inside, outside = [], []
    for frame in source:
        tremble = rng.normal(0, 9, frame.shape)
        face = np.zeros((*frame.shape[:2], 1))
        face[60:100, 65:95] = 1
        beside = np.zeros_like(face)
        beside[:30] = 1
        inside.append(np.clip(frame + tremble * face, 0, 255).astype(np.uint8))
        outside.append(np.clip(frame + tremble * beside, 0, 255).astype(np.uint8))
    assert measured(track, source, inside)["flicker"] > 1.2
    assert measured(track, source, outside)["flicker"] == pytest.approx(1, abs=1e-3)


def test_a_hard_edge_along_the_mask_raises_the_energy_of_the_border(track):
    source = noisy(1, 0)
    rows, columns = np.mgrid[:160, :160]
    face = np.hypot((columns - 80) / 30, (rows - 80) / 36) < 1
    pasted = [np.where(face[..., None], frame // 3, frame) for frame in source]
    assert measured(track, source, pasted)["border"] > 1.15


def test_nothing_is_compared_across_a_cut(track):
    first, second = noisy(2, 0)[:3], noisy(2, 5)[:3]
    edited = [*first, *(np.clip(f.astype(int) + 40, 0, 255).astype(np.uint8) for f in second)]
    apart = measured(track, [*first, *second], edited, cuts=(3,))["flicker"]
    across = measured(track, [*first, *second], edited)["flicker"]
    assert apart == pytest.approx(1, abs=0.1)
    assert across > 1.1


def test_clips_are_measured_without_being_written(tmp_path, capsys):
    clip = make_clip(load_pack(), tmp_path / "face.mp4", seconds=0.4, size_px=256, tone=False)
    assert main(["bench", "video", str(clip), "--attr", "smile=1", "--json"]) == 0
    printed = capsys.readouterr()
    (row,) = json.loads(printed.out)["clips"]
    assert row["frames"] == 10
    assert row["smile"] > 0.3
    assert 0.5 < row["flicker"] < 2
    assert 0.8 < row["border"] < 1.25
    assert printed.err.strip() == "face.mp4: 10 frames"
    assert [path.name for path in tmp_path.iterdir()] == ["face.mp4"]
    assert main(["bench", "video", str(clip), "--quiet"]) == 0
    assert capsys.readouterr().out.splitlines()[0].startswith("smile=1")


def test_ablations_differ_each_in_what_is_left_out(tmp_path, capsys, monkeypatch):
    """By the pictures that each of them shows, of the clip's first frames: more than rounding."""
    shown = []

    def watched(self, index, source, edited, tracks):
        if index == 0:
            shown.append([])
        shown[-1].append(edited)

    monkeypatch.setattr(VideoMeter, "add", watched)
    clip = make_clip(load_pack(), tmp_path / "face.mp4", seconds=0.4, size_px=256, tone=False)
    torch.manual_seed(1)
    vectors = {"smile": torch.randn(8), "age": torch.randn(8, 8)}
    outline = {"smile.outline": torch.full((27, 2), 0.05)}
    pack = write_tiny_pack(tmp_path / "p", noise_strength=0.05, vectors={**vectors, **outline})
    how = ["--attr", "smile=1", "--max-frames", "4", "--ablate", "--json", "--quiet"]
    how += ["--pack", str(pack)]
    assert main(["bench", "video", str(clip), *how]) == 0
    rows = json.loads(capsys.readouterr().out)["clips"]
    assert [row["what"] for row in rows] == list(ABLATIONS)
    assert {row["frames"] for row in rows} == {4}
    pictures = [np.stack(frames).astype(int) for frames in shown]
    assert len(pictures) == len(rows)
    assert all(len(frames) == 4 for frames in pictures)
    for number, frames in enumerate(pictures):
        for other in pictures[:number]:
            assert np.abs(frames - other).mean() > 0.05, rows[number]["what"]


def test_noise_that_has_no_strength_is_not_measured(tmp_path, capsys, monkeypatch):
    packs = [
        load_pack(),
        *(
            load_pack(write_tiny_pack(tmp_path / str(strength), noise_strength=strength))
            for strength in (0.0, 0.05)
        ),
    ]
    kept = [list(ablations_of(pack)[0]) for pack in packs]
    without = [name for name in ABLATIONS if name != FRESH_NOISE]
    assert kept == [without, without, list(ABLATIONS)]
    clip = make_clip(packs[0], tmp_path / "face.mp4", seconds=0.2, size_px=256, tone=False)
    few = {name: ABLATIONS[name] for name in (EVERYTHING, FRESH_NOISE)}
    monkeypatch.setattr("pipelines.bench.ablation.ABLATIONS", few)
    how = ["--attr", "smile", "--max-frames", "1", "--ablate", "--quiet"]
    assert main(["bench", "video", str(clip), *how, "--pack", str(packs[1].folder)]) == 0
    *_, row, note = capsys.readouterr().out.splitlines()
    assert EVERYTHING in row
    assert note == "note: noise not fixed is left out: the generator of pack tiny has no noise"


def test_fresh_noise_is_drawn_where_the_generator_runs(tmp_path):
    """On any device: what is changed is the generator that the method has, not a copy."""
    pack = OwnGenerator(load_pack(write_tiny_pack(tmp_path / "p")).files)
    moved = pack.parts("fse", device="meta").generator
    assert moved is pack.generator
    assert {buffer.device.type for buffer in moved.buffers()} == {"meta"}


def test_no_frames_are_none_to_measure(tmp_path, capsys):
    assert main(["bench", "video", str(tmp_path / "a.mp4"), "--max-frames", "0"]) == 2
    assert "--max-frames 0: give a whole number from 1" in capsys.readouterr().err


def test_a_clip_without_a_face_is_one_line(tmp_path, capsys):
    clip = write_clip(tmp_path / "a.mp4", [np.zeros((64, 64, 3), np.uint8)] * 3)
    assert main(["bench", "video", str(clip), "--quiet"]) == 2
    assert "no face found in" in capsys.readouterr().err
