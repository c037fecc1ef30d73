"""What a person sees of a run: one line about how far it is, and a log file of every failure."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TextIO

from pipelines.batch.stages.clip_state import Clip
from pipelines.batch.status.throughput import Throughput, expected_frames, finished_frames
from pipelines.batch.workers.protocol import RunningTask, ScheduledTask
from vidinv.files import one_line

LOG_FILE = "batch.log"
# A terminal shows every change; a file or a job's output gets a line now and then.
_TERMINAL_SECONDS, _FILE_SECONDS = 0.5, 30.0
_CLEAR = "\r\x1b[K"


class RunMonitor:
    """Follows a run; silent on the terminal when ``quiet``, but for the log file.

    Args:
        log: file to append to.
        num_workers: for the share of their time that each stage takes.
        stream: where the line goes; None is stderr.
        monotonic: a clock in seconds that only runs forward.
    """

    def __init__(
        self,
        log: Path,
        *,
        num_workers: int,
        quiet: bool = False,
        stream: TextIO | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.path = log
        self._log = log.open("a", encoding="utf-8", errors="backslashreplace")
        self._stream = stream or sys.stderr
        self._quiet, self._monotonic = quiet, monotonic
        self.throughput = Throughput(num_workers=num_workers)
        self._counted = self._shown = self._logged = self._monotonic()

    def close(self) -> None:
        """End the line on the terminal, and the log."""
        self._show(_CLEAR, to_file="")
        with contextlib.suppress(OSError):  # as in ``log``
            self._log.close()

    def message(self, text: str, details: str = "") -> None:
        """Something that a person should know; the details go to the log only."""
        self.log(text, details)
        line = f"vidinv: {one_line(text)}\n"
        self._show(f"{_CLEAR}{line}", to_file=line)

    def start_clock(self) -> None:
        """What follows is the run; what was before is its start-up."""
        self._counted = self._shown = self._logged = self._monotonic()

    def task_done(self, task: ScheduledTask) -> None:
        """A task ended well."""
        self.throughput.task_done(task)

    def add_time(self, running: Sequence[RunningTask]) -> None:
        """Take the time: these tasks ran since the last call, to its end or to their own."""
        now = self._monotonic()
        self.throughput.tick(running, seconds=now - self._counted)
        self._counted = now

    def update(self, clips: Sequence[Clip], running: Sequence[RunningTask]) -> None:
        """Show the state of the run if it is time to."""
        now = self._monotonic()
        self.throughput.running = running
        every = _TERMINAL_SECONDS if self._is_terminal() else _FILE_SECONDS
        show = not self._quiet and now - self._shown >= every
        log = now - self._logged >= _FILE_SECONDS
        if not show and not log:
            return
        parts = self.describe(clips, running)
        if log:
            self._logged = now
            self.log("  ".join(parts))
        if show:
            self._shown = now
            line = fitting(parts, columns=self._columns())
            self._show(f"{_CLEAR}{line}", to_file="  ".join(parts) + "\n")

    def describe(self, clips: Sequence[Clip], running: Sequence[RunningTask]) -> list[str]:
        """Clips and frames done, frames a second, time left, failures, what the workers do.

        In the order of their weight: a narrow terminal shows the first ones.
        """
        rows = [clip.row for clip in clips if clip.row is not None]
        lengths = expected_frames(clips)
        frames = finished_frames(clips, running)
        parts = [f"clips {len(rows)}/{len(clips)}"]
        if lengths is not None:
            about = "" if all(clip.num_frames or clip.row for clip in clips) else "~"
            parts.append(f"frames {frames}/{about}{max(frames, round(sum(lengths)))}")
        fps, left = self.throughput.fps(), self.throughput.seconds_left(clips)
        if fps is not None:
            parts.append(f"{fps:.1f} fps")
        if left is not None:
            parts.append(f"{clock(left)} left")
        parts.append(f"{sum(row['status'] != 'done' for row in rows)} quarantined")
        parts.append(f"{self.throughput.num_busy}/{self.throughput.num_workers} workers busy")
        return parts + [
            f"{stage} {self.throughput.share(stage):.0%}" for stage in self.throughput.busy
        ]

    def _is_terminal(self) -> bool:
        with contextlib.suppress(ValueError):  # it was closed
            return not self._quiet and self._stream.isatty()
        return False

    def _show(self, text: str, *, to_file: str) -> None:
        """Write unless quiet. A reader that is gone (a pipe to ``head``) ends no run."""
        if self._quiet:
            return
        try:
            self._stream.write(text if self._is_terminal() else to_file)
            self._stream.flush()
        except (OSError, ValueError) as error:  # ValueError: it was closed
            self._quiet = True
            self.log(f"nothing more is shown: {error}")

    def _columns(self) -> int:
        with contextlib.suppress(OSError, ValueError):
            return os.get_terminal_size(self._stream.fileno()).columns or 80  # 0: it does not say
        return 80

    def log(self, text: str, details: str = "") -> None:
        """A line for the log alone, and what explains it on lines of its own."""
        lines = "".join(f"{one_line(line)}\n" for line in (text, *details.splitlines()))
        with contextlib.suppress(OSError):  # a full disk: the journal tells, and ends the run
            self._log.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {lines}")
            self._log.flush()


def fitting(parts: Sequence[str], *, columns: int) -> str:
    """As many of the first parts as one line holds, the last column left free."""
    line = parts[0]
    for part in parts[1:]:
        if len(line) + 2 + len(part) > columns - 1:
            break
        line += f"  {part}"
    return line[: columns - 1]


def clock(seconds: float) -> str:
    """``mm:ss``, or ``h:mm:ss``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes:02}:{rest:02}"
