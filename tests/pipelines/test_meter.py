"""Progress goes to terminals alone, and memory is that of the run's processes."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator

import psutil

from pipelines.meter import MemoryMeter, Progress


def test_no_bar_is_drawn_where_stderr_is_no_terminal(capsys):
    assert list(Progress(quiet=False).track(range(5), label="edit", total=5)) == [*range(5)]
    assert capsys.readouterr().err == ""


@contextlib.contextmanager
def large_child() -> Iterator[None]:
    """A process that holds 200 MB, once it does."""
    child = "x = bytearray(b'1') * 200_000_000; print('up', flush=True); input()"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", child], **pipes) as process:
        process.stdout.readline()
        yield
        process.kill()


def test_children_of_the_run_are_counted_and_those_of_its_caller_are_not():
    own = psutil.Process().memory_info().rss / 2**20
    with large_child(), MemoryMeter() as before:
        pass
    with MemoryMeter() as during, large_child():
        during._sample()
    assert own / 2 < before.peak_mb < own + 100
    assert during.peak_mb > before.peak_mb + 150


def test_what_children_of_the_caller_start_is_not_counted():
    """As a Ray cluster of the caller starts workers while a clip is edited."""
    child = "import subprocess, sys; input(); " + (
        "subprocess.run([sys.executable, '-c', \"x = bytearray(b'1') * 200_000_000; "
        "print('up', flush=True); input()\"])"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", child], **pipes) as process:
        with MemoryMeter() as meter:
            process.stdin.write(b"go\n")
            process.stdin.flush()
            assert process.stdout.readline() == b"up\n"
            meter._sample()
        process.stdin.close()
    assert meter.peak_mb < psutil.Process().memory_info().rss / 2**20 + 100
