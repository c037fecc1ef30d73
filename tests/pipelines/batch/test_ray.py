"""A run on Ray: outputs as ``edit`` makes them, faults contained, interrupted runs resumed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

import vidinv
from pipelines.batch.driver import run
from pipelines.batch.request.batch_request import BatchRequest
from tests.pipelines.batch.conftest import FRAMES
from tests.video.clips import images_of, packets_of, plain_times, write_clip
from vidinv.errors import UsageError
from vidinv.video import EncodeOptions

SMILE = {"smile": ((0.0, 0.0), (0.6, 1.5))}
FAULTY = "tests.pipelines.batch.faulty:FaultyRunner"


def request_of(inputs, output, pack, **changes) -> BatchRequest:
    fields = {
        "inputs": [str(inputs)],
        "output": output,
        "attributes": SMILE,
        "pack": pack,
        "segment_frames": 8,
        "num_workers": 2,
    }
    return BatchRequest(**{**fields, **changes})


def manifest_of(output: Path) -> dict[str, dict]:
    lines = (output / "manifest.jsonl").read_text().splitlines()
    return {row["output"]: row for row in map(json.loads, lines)}


def same_frames(a: Path, b: Path) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(images_of(a), images_of(b), strict=True))


def assert_nothing_is_left(output: Path, made: list[str]) -> None:
    """Neither media workers nor files of work."""
    children = psutil.Process().children(recursive=True)
    commands = [" ".join(process.cmdline()) for process in children]
    assert not [line for line in commands if "decode_worker" in line or "encode_worker" in line]
    assert sorted(p.name for p in output.iterdir()) == [".vidinv-batch", "manifest.jsonl", *made]
    assert not list((output / ".vidinv-batch" / "work").iterdir())


@pytest.mark.parametrize("workers", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_batch_gives_the_frames_times_and_sound_of_edit(
    local_ray, face_clip, tiny_pack, tmp_path, workers
):
    inputs = tmp_path / "in"
    (inputs / "sub").mkdir(parents=True)
    shutil.copy(face_clip, inputs / "sub" / "a.mkv.mp4")
    encode = EncodeOptions(encoder="ffv1")
    manifest = inputs / "list.jsonl"
    manifest.write_text(json.dumps({"input": "sub/a.mkv.mp4", "output": "sub/a.mkv"}))
    output = tmp_path / "out"
    how = {"num_workers": workers, "encode": encode, "latents": tmp_path / "latents"}
    what = {"attributes": {"smile": [(0, 0), (0.6, 1.5)]}, "pack": tiny_pack, "segment_frames": 8}
    result = vidinv.batch(manifest, output, **what, **how)
    whole = tmp_path / "whole.mkv"
    vidinv.edit(face_clip, whole, attributes=SMILE, pack=tiny_pack, encode=encode)
    joined = output / "sub" / "a.mkv"
    assert not result.quarantined
    assert result.as_dict()["frames"] == FRAMES
    assert same_frames(joined, whole)
    assert plain_times(joined) == plain_times(whole)
    assert packets_of(joined) == packets_of(whole)
    assert_nothing_is_left(output, ["sub"])
    kept = vidinv.load_latents(tmp_path / "latents" / "sub" / "a.mkv.latents")
    assert [track.frames for track in kept.values()] == [range(FRAMES)]


@pytest.fixture(scope="module")
def faulty_run(local_ray, face_clip, tiny_pack, tmp_path_factory):
    """Inputs, output and result of a run with good and bad clips."""
    inputs = tmp_path_factory.mktemp("faulty") / "in"
    output = inputs.parent / "out"
    inputs.mkdir()
    for name in ("good", "killer", "once", "hanging"):
        shutil.copy(face_clip, inputs / f"{name}.mp4")
    (inputs / "cut.mp4").write_bytes(face_clip.read_bytes()[:3000])
    write_clip(inputs / "faceless.mp4", [np.full((64, 96, 3), 90, np.uint8)] * 4)
    return inputs, output, run(request_of(inputs, output, tiny_pack, runner_class=FAULTY))


def test_bad_clips_are_quarantined_and_the_others_done(faulty_run):
    _, output, result = faulty_run
    rows = manifest_of(output)
    bad = {row["output"]: (row["stage"], row["attempts"]) for row in result.quarantined}
    assert bad == {
        "cut.mp4": ("analyse", 1),
        "hanging.mp4": ("analyse", 1),
        "killer.mp4": ("render", 2),
    }
    assert rows["killer.mp4"]["segment"] == 1
    assert "died" in rows["killer.mp4"]["cause"]
    assert "hung" in rows["hanging.mp4"]["cause"]
    assert "cut.mp4" in rows["cut.mp4"]["cause"]
    assert any("no face" in warning for warning in rows["faceless.mp4"]["warnings"])
    assert same_frames(output / "once.mp4", output / "good.mp4")
    written = sorted(p.name for p in output.glob("*.mp4"))
    assert written == ["faceless.mp4", "good.mp4", "once.mp4"]
    log = (output / ".vidinv-batch" / "batch.log").read_text()
    assert "killer.mp4: render segment 1 failed, quarantined: " in log
    assert "once.mp4: render segment 0 failed, is tried again: " in log
    assert "3 of 6 clips done" in log
    assert 100 < result.peak_rss_mb < 4000


def test_a_resumed_run_does_what_is_missing(faulty_run, tiny_pack, tmp_path):
    inputs, output, _ = faulty_run
    made = (output / "good.mp4").stat().st_mtime_ns
    with pytest.raises(UsageError, match="--resume does what is missing"):
        run(request_of(inputs, output, tiny_pack))
    with pytest.raises(UsageError, match=r"segment_frames: 8 -> 16"):
        run(request_of(inputs, output, tiny_pack, resume=True, segment_frames=16))
    latents = tmp_path / "latents"  # decides nothing: no other configuration
    second = run(request_of(inputs, output, tiny_pack, resume=True, latents=latents))
    assert [row["output"] for row in second.quarantined] == ["cut.mp4"]
    assert (output / "good.mp4").stat().st_mtime_ns == made
    for name in ("killer.mp4", "hanging.mp4"):
        assert (output / name).read_bytes() == (output / "good.mp4").read_bytes()


def test_more_workers_than_the_cluster_holds_are_refused_at_once(
    local_ray, face_clip, tiny_pack, tmp_path
):
    began = time.monotonic()
    with pytest.raises(UsageError, match=r"9 workers at 0.5 CPU .* has 2 CPUs and holds 4"):
        run(request_of(face_clip, tmp_path / "out", tiny_pack, num_workers=9))
    assert time.monotonic() - began < 30


@pytest.mark.slow  # a cluster of its own
def test_gpu_workers_render_and_the_others_do_the_rest(face_clip, tiny_pack, tmp_path):
    inputs = tmp_path / "in"
    inputs.mkdir()
    for number in range(2):
        shutil.copy(face_clip, inputs / f"{number}.mp4")
    script = [sys.executable, "-m", "tests.pipelines.batch.on_gpus"]
    folders = [str(inputs), str(tmp_path / "out"), str(tiny_pack)]
    done = subprocess.run([*script, *folders], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    facts = json.loads(done.stdout.splitlines()[-1])
    assert "2 GPU workers need 1 CPU each" in facts["refused"]
    assert set(facts["gpus"]["RenderTask"]) == {"0", "1"}
    assert set(facts["gpus"]["AnalyseTask"]) == {""}
    assert ["render" in name for name in facts["workers"]] == [True, True, False]
    assert ["analyse" in name for name in facts["workers"]] == [False, False, True]
    log = (tmp_path / "out" / ".vidinv-batch" / "batch.log").read_text()
    assert "render 1 has a GPU, but its torch cannot use it: cpu" in log
    whole = tmp_path / "whole.mkv"
    encode = EncodeOptions(encoder="ffv1")
    vidinv.edit(face_clip, whole, attributes=SMILE, pack=tiny_pack, encode=encode, device="cpu")
    for number in range(2):
        assert same_frames(tmp_path / "out" / f"{number}.mkv", whole)
