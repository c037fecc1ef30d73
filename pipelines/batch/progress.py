"""What a person sees of a run: one line about how far it is, and a log file of every failure."""

from __future__ import annotations

import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from pipelines.batch.schedule import Clip

LOG_FILE = "batch.log"
# A terminal shows every change; a file or a job's output gets a line now and then.
_TERMINAL_SECONDS, _FILE_SECONDS = 0.5, 30.0


class Watcher:
    """Follows a run; silent on the terminal when ``quiet``, but for the log file.

    Args:
        log: file to append to.
        num_workers: for the share of their time that each stage takes.
    """

    def __init__(
        self, log: Path, *, num_workers: int, quiet: bool = False, stream: TextIO | None = None
    ) -> None:
        self._log = log.open("a", encoding="utf-8")
        self._stream = stream or sys.stderr
        self._quiet, self._num_workers = quiet, num_workers
        self._started = self._shown = time.monotonic()
        self._busy: defaultdict[str, float] = defaultdict(float)

    def close(self) -> None:
        """End the line on the terminal, and the log."""
        if self._stream.isatty() and not self._quiet:
            self._stream.write("\r\x1b[K")
        self._log.close()

    def note(self, text: str, row: dict[str, Any] | None = None) -> None:
        """Something that a person should know; a traceback in ``row`` goes to the log only."""
        self._write_log(text + ("\n" + row["traceback"] if row and row.get("traceback") else ""))
        if not self._quiet:
            clear = "\r\x1b[K" if self._stream.isatty() else ""
            self._stream.write(f"{clear}vidinv: {text}\n")

    def stage_done(self, stage: str, seconds: float) -> None:
        """A task took this long in a worker."""
        self._busy[stage] += seconds

    def update(self, clips: Sequence[Clip], *, frames_done: int) -> None:
        """Show the state of the run if it is time to."""
        now = time.monotonic()
        terminal = self._stream.isatty()
        if now - self._shown < (_TERMINAL_SECONDS if terminal else _FILE_SECONDS):
            return
        self._shown = now
        text = self.describe(clips, frames_done=frames_done, seconds=now - self._started)
        if not self._quiet:
            self._stream.write(f"\r\x1b[K{text}" if terminal else f"{text}\n")
            self._stream.flush()
        if not terminal:
            self._write_log(text)

    def describe(self, clips: Sequence[Clip], *, frames_done: int, seconds: float) -> str:
        """Clips and frames done, frames a second, time left, failures, and where the time went."""
        rows = [clip.row for clip in clips if clip.row is not None]
        failed = sum(row["status"] != "done" for row in rows)
        known = [clip for clip in clips if clip.num_frames]
        frames = sum(_frames_finished(clip) for clip in known)
        # Clips that were not looked at yet count as long as the others.
        total = sum(clip.num_frames or 0 for clip in known) / max(1, len(known)) * len(clips)
        parts = [f"clips {len(rows)}/{len(clips)}", f"frames {frames}/{round(total)}"]
        if frames_done and known:
            # Every frame goes through analysis and rendering.
            rate = frames_done / 2 / seconds
            left = max(0.0, total - frames) / rate
            parts += [f"{rate:.1f} fps", f"{clock(left)} left"]
        parts.append(f"{failed} failed")
        share = {s: b / max(1e-9, seconds * self._num_workers) for s, b in self._busy.items()}
        parts += [f"{stage} {value:.0%}" for stage, value in sorted(share.items())]
        return "  ".join(parts)

    def _write_log(self, text: str) -> None:
        self._log.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n")
        self._log.flush()


def clock(seconds: float) -> str:
    """``mm:ss``, or ``h:mm:ss``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes:02}:{rest:02}"


def _frames_finished(clip: Clip) -> int:
    if clip.row is not None:
        return clip.num_frames or 0
    lengths = clip.segment_frames or []
    return sum(lengths[number] for number in clip.rendered)
