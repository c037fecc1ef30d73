"""What people see of a run: figures that count running tasks, one line that fits, the end."""

from __future__ import annotations

import io
import itertools
import os
import pty
import termios
from pathlib import Path

import pytest

from pipelines.batch.request.jobs import Job
from pipelines.batch.request.result import BatchResult
from pipelines.batch.stages.clip_state import Clip
from pipelines.batch.stages.render import RenderResult
from pipelines.batch.stages.table import ANALYSE, PICTURE, RENDER
from pipelines.batch.status.progress import RunMonitor, clock, fitting
from pipelines.batch.status.throughput import RENDER_TO_ANALYSE, Throughput, expected_frames
from pipelines.batch.workers.actor import WorkerFacts
from pipelines.batch.workers.protocol import RunningTask, ScheduledTask

FIRST = {RenderResult: {0: RenderResult("0.nut")}}


def clip_of(name, **fields):
    return Clip(Job(f"/in/{name}", name, {}), name, Path("work") / name, **fields)


class Terminal(io.StringIO):
    """``descriptor``: of a terminal that tells its width."""

    descriptor = None

    def isatty(self):
        return True

    def fileno(self):
        return super().fileno() if self.descriptor is None else self.descriptor


@pytest.fixture
def narrow():
    """A terminal of 30 columns."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 30))
    stream = Terminal()
    stream.descriptor = theirs
    yield stream
    os.close(theirs)
    os.close(ours)


def every_minute():
    """A clock that is a minute later at each look."""
    return itertools.count(0.0, 60.0).__next__


@pytest.fixture
def clips():
    """One quarantined, one half rendered, one in its analysis, one not opened."""
    done = clip_of("a.mp4", num_frames=30, row={"status": "quarantined"})
    half = clip_of("b.mp4", num_frames=30, segment_frames=[10, 20], results=FIRST)
    return [done, half, clip_of("c.mp4", num_expected=60), clip_of("d.mp4")]


@pytest.fixture
def monitor(tmp_path):
    monitor = RunMonitor(tmp_path / "log", num_workers=2, stream=io.StringIO())
    yield monitor
    monitor.close()


def test_the_progress_line_counts_the_tasks_that_run(clips, monitor):
    running = [
        RunningTask(ScheduledTask(RENDER, clips[1], 1), 5),
        RunningTask(ScheduledTask(ANALYSE, clips[2]), 20),
    ]
    monitor.throughput.tick(running, seconds=10.0)
    monitor.throughput.running = running
    # 0.5 s to analyse a frame, 2 s to render one; the last clip counts as long as the mean, 40.
    left = (40 + 40) * 0.5 + (15 + 60 + 40) * 2.0
    assert monitor.describe(clips, running) == [
        "clips 1/4",
        "frames 45/~160",
        f"{2 / 2.5:.1f} fps",
        f"{clock(left / 2)} left",
        "1 quarantined",
        "2/2 workers busy",
        "render 50%",
        "analyse 50%",
    ]


def test_there_is_an_estimate_before_the_first_clip_is_analysed(monitor):
    clips = [clip_of("a.mp4"), clip_of("b.mp4")]
    assert monitor.describe(clips, [])[1:] == ["0 quarantined", "0/2 workers busy"]
    clips[0].num_expected = 100
    running = [RunningTask(ScheduledTask(ANALYSE, clips[0]), 50)]
    monitor.throughput.tick(running, seconds=5.0)
    monitor.throughput.running = running
    left = 150 * 0.1 + 200 * 0.1 * RENDER_TO_ANALYSE
    assert f"{clock(left)} left" in monitor.describe(clips, running)


def test_idle_workers_make_the_rest_take_longer():
    clip = clip_of("a.mp4", num_frames=100, segment_frames=[50, 50])
    running = [RunningTask(ScheduledTask(RENDER, clip, 0), 25)]
    throughput = Throughput(num_workers=4)
    throughput.tick(running, seconds=25.0)
    throughput.running = running
    assert throughput.seconds_left([clip]) == pytest.approx(75.0)
    assert (throughput.num_busy, throughput.share("render")) == (1, 0.25)


def test_pictures_are_one_frame_and_need_no_analysis():
    pictures = [clip_of(f"{n}.png") for n in range(4)]
    throughput = Throughput(num_workers=1)
    for picture in pictures[:2]:
        throughput.tick([RunningTask(ScheduledTask(PICTURE, picture), 0)], seconds=3.0)
        picture.num_frames, picture.row = 1, {"status": "done"}
        throughput.task_done(ScheduledTask(PICTURE, picture))
    assert throughput.fps() == pytest.approx(1 / 3)
    assert throughput.seconds_left(pictures) == pytest.approx(6.0)
    known = clip_of("a.mp4", num_expected=100)
    assert expected_frames([*pictures, known, clip_of("b.mp4")]) == [1, 1, 1, 1, 100, 100]


def test_finished_clips_need_no_more_time():
    throughput = Throughput(num_workers=1)
    clip = clip_of("a.mp4", num_frames=10, segment_frames=[10], results=FIRST)
    throughput.tick([RunningTask(ScheduledTask(RENDER, clip, 0), 10)], seconds=1.0)
    throughput.task_done(ScheduledTask(RENDER, clip, 0))
    assert throughput.seconds_left([clip]) == 0
    clip.row = {"status": "done"}
    assert throughput.seconds_left([clip]) == 0


def test_a_terminal_gets_one_line_that_fits(clips, tmp_path, narrow):
    how = {"stream": narrow, "monotonic": every_minute()}
    monitor = RunMonitor(tmp_path / "log", num_workers=2, **how)
    monitor.update(clips, [])
    monitor.message("b.mp4: analyse failed, quarantined: damaged")
    monitor.close()
    line, note, end = narrow.getvalue().split("\r\x1b[K")[1:]
    assert line == "clips 1/4  frames 40/~160"
    assert note == "vidinv: b.mp4: analyse failed, quarantined: damaged\n"
    assert end == ""


def test_a_line_is_cut_where_its_first_part_is_too_long():
    assert fitting(["clips 100/4000", "1.0 fps"], columns=80) == "clips 100/4000  1.0 fps"
    assert fitting(["clips 100/4000", "1.0 fps"], columns=23) == "clips 100/4000"
    assert fitting(["clips 100/4000"], columns=6) == "clips"


def test_quiet_is_silent_but_for_the_log(clips, tmp_path):
    stream = io.StringIO()
    how = {"quiet": True, "stream": stream, "monotonic": every_minute()}
    monitor = RunMonitor(tmp_path / "log", num_workers=2, **how)
    monitor.message("a.mp4: failed", "Traceback: deep inside")
    monitor.update(clips, [])
    monitor.close()
    assert stream.getvalue() == ""
    log = (tmp_path / "log").read_text()
    assert "a.mp4: failed\nTraceback: deep inside" in log
    assert "clips 1/4" in log


class Pipe(Terminal):
    """To a reader that is gone."""

    def __init__(self, error):
        super().__init__()
        self.error = error

    def write(self, text):
        raise self.error


@pytest.mark.parametrize(
    "stream", [Pipe(BrokenPipeError()), Pipe(OSError(28, "No space left")), "closed"]
)
def test_a_stream_that_nobody_reads_ends_no_run(clips, tmp_path, stream):
    if stream == "closed":
        stream = io.StringIO()
        stream.close()
    how = {"stream": stream, "monotonic": every_minute()}
    monitor = RunMonitor(tmp_path / "log", num_workers=2, **how)
    monitor.update(clips, [])
    monitor.message("a.mp4: failed")
    monitor.close()
    log = (tmp_path / "log").read_text()
    assert "clips 1/4" in log
    assert "a.mp4: failed" in log


def test_a_file_gets_whole_lines_now_and_then(clips, tmp_path):
    stream, now = io.StringIO(), [0.0]
    how = {"stream": stream, "monotonic": lambda: now[0]}
    monitor = RunMonitor(tmp_path / "log", num_workers=2, **how)
    for now[0] in (0.0, 29.0):
        monitor.update(clips, [])
        assert stream.getvalue() == ""
    now[0] = 30.0
    monitor.update(clips, [])
    monitor.close()
    assert stream.getvalue().startswith("clips 1/4  frames 40/~160  ")
    assert "0/2 workers busy" in stream.getvalue()


def test_the_summary_says_what_was_done_and_what_is_missing():
    rows = (
        {"status": "done", "input": "/in/a.mp4", "frames": 100},
        {
            "status": "done",
            "input": "/in/b.mp4",
            "frames": 60,
            "report": {"status": "failed", "cause": "gone"},
        },
        {"status": "quarantined", "input": "/in/c.mp4", "stage": "analyse", "cause": "damaged"},
    )
    result = BatchResult(
        rows,
        Path("out/manifest.jsonl"),
        seconds=10.0,
        start_seconds=6.2,
        frames_resumed=60,
        stage_seconds={"analyse": 4.0, "render": 12.0},
        num_workers=2,
        workers=(WorkerFacts("all 1", "127.0.0.1", 800.04), WorkerFacts("all 2", "", 900.0)),
    )
    assert result.summary() == [
        "out/manifest.jsonl: 2 of 3 clips done, 160 frames, 10.0 fps, "
        "00:10 after a start-up of 6 s",
        "2 workers busy 80% of the time (analyse 4 s, render 12 s), at most 900 MiB each",
        "/in/c.mp4: quarantined at analyse: damaged",
        "/in/b.mp4: done, but without a report: gone",
    ]
    facts = result.as_dict()
    assert (facts["fps"], facts["peak_rss_mb"]) == (10.0, 900.0)
    assert (facts["quarantined"], facts["without_report"]) == (1, 1)
    assert facts["workers"][0] == {"name": "all 1", "node": "127.0.0.1", "peak_rss_mb": 800.0}


def test_names_cannot_steer_the_terminal_or_forge_lines(tmp_path):
    stream = Terminal()
    monitor = RunMonitor(tmp_path / "log", num_workers=2, stream=stream)
    monitor.message("/in/a\nb\x1b[2J.mp4: failed", 'File "x\x1b[2J.py"\nValueError')
    monitor.log("the run ended: \x1b[2J")
    monitor.close()
    assert "vidinv: /in/a\\nb\\x1b[2J.mp4: failed\n" in stream.getvalue()
    log = (tmp_path / "log").read_text()
    assert '/in/a\\nb\\x1b[2J.mp4: failed\nFile "x\\x1b[2J.py"\nValueError\n' in log
    assert "\x1b" not in stream.getvalue().replace("\r\x1b[K", "") + log
    name = "/in/a\nb\x1b[2J\udcff.mp4"
    row = {"status": "quarantined", "input": name, "stage": "analyse", "cause": f"{name}: bad"}
    lines = BatchResult((row,), Path("out\n"), seconds=1.0, start_seconds=1.0).summary()
    assert all(line.isprintable() for line in lines)


def test_clock():
    assert [clock(s) for s in (5, 65, 3725)] == ["00:05", "01:05", "1:02:05"]
