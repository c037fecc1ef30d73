"""Runs that are interrupted, killed, cut off from a node or out of disk: what a resume gives.

A ``driver`` is the command in a process of its own, with a Ray of its own.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import psutil
import pytest

from pipelines.batch.driver import run
from pipelines.batch.status.journal import Journal
from tests.pipelines.batch.test_ray import FAULTY, request_of
from vidinv.errors import EncodeError

SECONDS = 400  # longer than any start on a machine under load


@pytest.fixture(scope="module")
def inputs(face_clip, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("two")
    for number in range(2):
        shutil.copy(face_clip, folder / f"{number}.mp4")
    return folder


def command(inputs, output, pack, *more):
    arguments = ["batch", inputs, "-o", output, "--pack", pack, "--attr", "smile=0:0,0.6:1.5"]
    sizes = ["--segment-frames", 8, "--workers", 2]
    return [sys.executable, "-m", "vidinv", *map(str, [*arguments, *sizes, *more])]


@pytest.fixture(scope="module")
def undisturbed(inputs, tiny_pack, tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("plain") / "out"
    subprocess.run(command(inputs, output, tiny_pack), check=True)
    return output


def same_outputs(output: Path, other: Path) -> bool:
    names = ("0.mp4", "1.mp4")
    return all((output / name).read_bytes() == (other / name).read_bytes() for name in names)


def wait_for(condition, driver=None) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline
        assert driver is None or driver.poll() is None
        time.sleep(0.05)


def has_rendered(output: Path) -> bool:
    journal = output / ".vidinv-batch" / "journal.jsonl"
    return journal.exists() and b'"rendered"' in journal.read_bytes()


def start_driver(arguments):
    """It, and a function that counts the processes that it and its children are."""
    mark = uuid.uuid4().hex
    driver = subprocess.Popen(
        arguments,
        env={**os.environ, "VIDINV_TEST_MARK": mark},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # Where the tests run in the background SIGINT is ignored, and that is inherited.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )

    def count() -> int:
        found = 0
        for process in psutil.process_iter():
            try:
                found += process.environ().get("VIDINV_TEST_MARK") == mark
            except psutil.Error:
                continue
        return found

    return driver, count


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 130), (signal.SIGKILL, -signal.SIGKILL)],
)
def test_an_ended_driver_leaves_no_process_and_is_resumed_to_the_same_outputs(
    inputs, tiny_pack, undisturbed, tmp_path, number, code
):
    output = tmp_path / "out"
    driver, count = start_driver(command(inputs, output, tiny_pack))
    wait_for(lambda: has_rendered(output), driver)
    assert count() > 5  # Ray's own, two workers, their decoders
    if number == signal.SIGINT:
        os.killpg(driver.pid, number)  # as a terminal does
    else:
        driver.send_signal(number)
    _, said = driver.communicate(timeout=60)
    assert (driver.returncode, "--resume" in said) == (code, code == 130)
    wait_for(lambda: count() == 0)
    assert not all((output / f"{n}.mp4").exists() for n in range(2))
    subprocess.run(command(inputs, output, tiny_pack, "--resume"), check=True)
    assert same_outputs(output, undisturbed)
    assert not list(output.rglob("*.part"))


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("send", ["killpg SIGINT", "kill SIGTERM"])
def test_an_impatient_end_while_ray_starts_is_in_order(inputs, tiny_pack, tmp_path, send):
    driver, count = start_driver(command(inputs, tmp_path / "out", tiny_pack))
    wait_for(lambda: count() > 2, driver)  # Ray's first processes
    kill, name = send.split()
    for _ in range(2):
        time.sleep(0.5)
        getattr(os, kill)(driver.pid, getattr(signal, name))
    driver.communicate(timeout=120)
    assert driver.returncode == 130
    wait_for(lambda: count() == 0)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_lost_node_costs_nothing_but_time(inputs, tiny_pack, tmp_path):
    script = [sys.executable, "-m", "tests.pipelines.batch.lose_a_node"]
    folders = [str(inputs), str(tmp_path / "out"), str(tiny_pack)]
    done = subprocess.run([*script, *folders], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    (facts,) = (line for line in done.stdout.splitlines() if line.startswith('{"'))  # Ray talks
    assert json.loads(facts) == {"quarantined": 0, "lost_while_running": True}
    log = (tmp_path / "out" / "lost" / ".vidinv-batch" / "batch.log").read_text()
    assert re.search(r"tried again: its (node was lost|worker could not be reached)", log)
    assert same_outputs(tmp_path / "out" / "lost", tmp_path / "out" / "plain")


@pytest.mark.slow  # two attempts at the patience that a worker on a machine under load needs
def test_a_worker_that_does_not_move_is_killed(local_ray, face_clip, tiny_pack, tmp_path):
    inputs, output = tmp_path / "in", tmp_path / "out"
    inputs.mkdir()
    for name in ("good", "stuck"):
        shutil.copy(face_clip, inputs / f"{name}.mp4")
    (bad,) = run(
        request_of(inputs, output, tiny_pack, runner_class=FAULTY, stall_seconds=45.0)
    ).quarantined
    assert (bad["output"], bad["stage"], bad["attempts"]) == ("stuck.mp4", "analyse", 2)
    assert "no frame for 45 s" in bad["cause"]
    assert (output / "good.mp4").exists()


@pytest.fixture
def small_disk(tmp_path):
    """A folder on a disk of 64 kB, and a function that makes it larger."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(*options):
        return subprocess.run(["mount", *options, str(folder)], capture_output=True).returncode

    if not shutil.which("mount") or mount("-t", "tmpfs", "-o", "size=64k", "tmpfs"):
        pytest.skip("needs the right to mount a small disk")
    yield folder, lambda: mount("-o", "remount,size=64m")
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_ends_the_run_and_room_lets_it_go_on(
    local_ray, inputs, tiny_pack, small_disk, tmp_path
):
    folder, enlarge = small_disk
    output = folder / "out"
    with pytest.raises(EncodeError, match=r"the disk is full; make room.*--resume"):
        run(request_of(inputs, output, tiny_pack, segment_frames=4))
    log = (output / ".vidinv-batch" / "batch.log").read_text()
    assert not log or "clips for" in log  # what the disk still took of it
    enlarge()
    again = run(request_of(inputs, output, tiny_pack, segment_frames=4, resume=True))
    assert not again.quarantined
    assert (output / "0.mp4").read_bytes() == (output / "1.mp4").read_bytes()
    assert not list(output.rglob("*.part"))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_journal_that_cannot_be_written_says_so_once(tmp_path):
    journal = Journal(tmp_path)
    journal.append({"event": "kept"})
    journal._file.close()
    journal._file = open("/dev/full", "ab", buffering=0)  # noqa: SIM115 - the journal closes it
    with pytest.raises(OSError, match="No space left") as caught:
        journal.append({"event": "lost"})
    assert caught.value.errno == errno.ENOSPC
    journal.close()
    again = Journal(tmp_path)
    assert [line["event"] for line in again.lines] == ["kept"]
    again.close()
