"""Progress goes to terminals alone, and memory is that of the whole process tree."""

from __future__ import annotations

import subprocess
import sys

from pipelines.meter import MemoryMeter, Progress


def test_no_bar_is_drawn_where_stderr_is_no_terminal(capsys):
    assert list(Progress(quiet=False).track(range(5), label="edit", total=5)) == [*range(5)]
    assert capsys.readouterr().err == ""


def test_memory_of_children_is_counted():
    child = "import time; x = bytearray(200_000_000); print('up', flush=True); time.sleep(30)"
    with (
        MemoryMeter() as meter,
        subprocess.Popen([sys.executable, "-c", child], stdout=subprocess.PIPE) as process,
    ):
        process.stdout.readline()
        alone = meter.peak_mb
        meter._sample()
        process.kill()
    assert meter.peak_mb > 200
    assert meter.peak_mb >= alone
