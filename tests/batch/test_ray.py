"""A run on Ray: outputs as ``edit`` makes them, faults contained, interrupted runs resumed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

import vidinv
from pipelines.batch.ray_workers import Pool, choose_pools
from pipelines.batch.run import BatchRequest, run
from tests.batch.conftest import FRAMES
from tests.video.clips import images_of, packets_of, plain_times, write_clip
from vidinv.errors import MissingDependencyError, UsageError
from vidinv.video import EncodeOptions

SMILE = {"smile": ((0.0, 0.0), (0.6, 1.5))}
FAULTY = "tests.batch.faulty:FaultyStages"


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


@pytest.mark.parametrize("workers", [1, 2])
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
    result = run(request_of(manifest, output, tiny_pack, num_workers=workers, encode=encode))
    whole = tmp_path / "whole.mkv"
    vidinv.edit(face_clip, whole, attributes=SMILE, pack=tiny_pack, encode=encode)
    joined = output / "sub" / "a.mkv"
    assert not result.quarantined
    assert result.as_dict()["frames"] == FRAMES
    assert same_frames(joined, whole)
    assert plain_times(joined) == plain_times(whole)
    assert packets_of(joined) == packets_of(whole)


def test_bad_clips_are_quarantined_and_the_others_done(local_ray, face_clip, tiny_pack, tmp_path):
    inputs, output = tmp_path / "in", tmp_path / "out"
    inputs.mkdir()
    for name in ("good", "killer", "once", "hanging"):
        shutil.copy(face_clip, inputs / f"{name}.mp4")
    (inputs / "cut.mp4").write_bytes(face_clip.read_bytes()[:3000])
    write_clip(inputs / "faceless.mp4", [np.full((64, 96, 3), 90, np.uint8)] * 4)
    result = run(request_of(inputs, output, tiny_pack, stages_class=FAULTY))
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
    assert "killer.mp4: quarantined at render segment 1" in log


@pytest.mark.slow  # a machine under load needs that long for the imports of a worker
def test_a_worker_that_does_not_move_is_killed(local_ray, face_clip, tiny_pack, tmp_path):
    inputs, output = tmp_path / "in", tmp_path / "out"
    inputs.mkdir()
    for name in ("good", "stuck"):
        shutil.copy(face_clip, inputs / f"{name}.mp4")
    (bad,) = run(
        request_of(inputs, output, tiny_pack, stages_class=FAULTY, stall_seconds=45.0)
    ).quarantined
    assert (bad["output"], bad["stage"], bad["attempts"]) == ("stuck.mp4", "analyse", 2)
    assert "no frame for 45 s" in bad["cause"]
    assert (output / "good.mp4").exists()


def test_a_resumed_run_does_what_is_missing(local_ray, face_clip, tiny_pack, tmp_path):
    inputs, output = tmp_path / "in", tmp_path / "out"
    inputs.mkdir()
    for name in ("killer", "other"):
        shutil.copy(face_clip, inputs / f"{name}.mp4")
    first = run(request_of(inputs, output, tiny_pack, stages_class=FAULTY))
    assert [row["output"] for row in first.quarantined] == ["killer.mp4"]
    made = (output / "other.mp4").stat().st_mtime_ns
    with pytest.raises(UsageError, match="--resume does what is missing"):
        run(request_of(inputs, output, tiny_pack))
    with pytest.raises(UsageError, match=r"segment_frames: 8 -> 16"):
        run(request_of(inputs, output, tiny_pack, resume=True, segment_frames=16))
    second = run(request_of(inputs, output, tiny_pack, resume=True))
    assert not second.quarantined
    assert (output / "other.mp4").stat().st_mtime_ns == made
    assert (output / "killer.mp4").read_bytes() == (output / "other.mp4").read_bytes()


def test_more_workers_than_the_cluster_holds_are_refused_at_once(
    local_ray, face_clip, tiny_pack, tmp_path
):
    began = time.monotonic()
    with pytest.raises(UsageError, match=r"9 workers need 4.5 CPUs .* has 2: at most --workers 4"):
        run(request_of(face_clip, tmp_path / "out", tiny_pack, num_workers=9))
    assert time.monotonic() - began < 30


def test_pools_are_one_worker_a_gpu_and_whole_ones():
    everything = frozenset({"analyse", "render", "join"})
    assert choose_pools({"CPU": 4}, num_workers=None, device="auto") == (Pool(everything, 4),)
    cpu, gpu = choose_pools({"CPU": 8, "GPU": 2}, num_workers=6, device="auto")
    assert (cpu.stages, cpu.num_workers, cpu.num_gpus) == ({"analyse", "join"}, 6, 0)
    assert (gpu.stages, gpu.num_workers, gpu.num_gpus) == ({"render"}, 2, 1)
    with pytest.raises(MissingDependencyError, match="no GPU"):
        choose_pools({"CPU": 8}, num_workers=6, device="cuda")


def command(inputs, output, pack, *more):
    program = "import sys; from vidinv.cli import main; sys.exit(main(sys.argv[1:]))"
    arguments = ["batch", inputs, "-o", output, "--pack", pack, "--attr", "smile=0:0,0.6:1.5"]
    sizes = ["--segment-frames", 8, "--workers", 2]
    return [sys.executable, "-c", program, *map(str, [*arguments, *sizes, *more])]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_killed_driver_is_resumed_to_the_same_outputs(face_clip, tiny_pack, tmp_path):
    inputs, plain, killed = tmp_path / "in", tmp_path / "plain", tmp_path / "killed"
    inputs.mkdir()
    for number in range(2):
        shutil.copy(face_clip, inputs / f"{number}.mp4")
    subprocess.run(command(inputs, plain, tiny_pack), check=True)
    driver = subprocess.Popen(command(inputs, killed, tiny_pack))
    journal = killed / ".vidinv-batch" / "journal.jsonl"
    deadline = time.monotonic() + 400
    while not (journal.exists() and b'"rendered"' in journal.read_bytes()):
        assert time.monotonic() < deadline
        assert driver.poll() is None
        time.sleep(0.05)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    assert not all((killed / f"{number}.mp4").exists() for number in range(2))
    subprocess.run(command(inputs, killed, tiny_pack, "--resume"), check=True)
    for number in range(2):
        name = f"{number}.mp4"
        assert (killed / name).read_bytes() == (plain / name).read_bytes()
    assert not list(killed.rglob("*.part"))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_lost_node_costs_nothing_but_time(face_clip, tiny_pack, tmp_path):
    inputs = tmp_path / "in"
    inputs.mkdir()
    for number in range(3):
        shutil.copy(face_clip, inputs / f"{number}.mp4")
    script = [sys.executable, "-m", "tests.batch.lose_a_node"]
    folders = [str(inputs), str(tmp_path / "out"), str(tiny_pack)]
    done = subprocess.run([*script, *folders], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    facts = json.loads(done.stdout.splitlines()[-1])
    assert facts == {"quarantined": 0, "nodes": 1, "lost_while_running": True}
    first = (tmp_path / "out" / "0.mp4").read_bytes()
    assert all((tmp_path / "out" / f"{n}.mp4").read_bytes() == first for n in (1, 2))


def test_workers_leave_nothing_behind(local_ray, face_clip, tiny_pack, tmp_path):
    run(request_of(face_clip, tmp_path / "out", tiny_pack))
    time.sleep(1.0)
    workers = [
        process
        for process in psutil.Process(os.getpid()).children(recursive=True)
        if "decode_worker" in str(process.cmdline()) or "encode_worker" in str(process.cmdline())
    ]
    assert not workers
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        ".vidinv-batch",
        "face.mp4",
        "manifest.jsonl",
    ]
