"""What a run says: ``log.jsonl``, the same as a table in ``log.csv``, and a line for who waits.

The table is made of the JSON lines, a row for every number of images; any spreadsheet opens it, and
it needs no package (TensorBoard is none of ours).
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

from vidinv.files import atomic_file

LINE_SECONDS = 1.0  # between two of a terminal's running lines


class RunLog:
    """The two files of a run's folder."""

    def __init__(self, folder: Path) -> None:
        self.path, self.table = folder / "log.jsonl", folder / "log.csv"
        self._forget_rows()

    def begin(self, line: dict[str, Any]) -> None:
        """Start anew, with the networks that judge: a run may have ended before a checkpoint."""
        self.path.unlink(missing_ok=True)
        self._forget_rows()
        self.append(line)

    def append(self, line: dict[str, Any]) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps(line) + "\n")
        self._add_row(line)
        self._write_table()

    def forget_after(self, images: int) -> None:
        """Leave out the lines of steps that a resumed run takes again, and one that was cut short.

        A note is of the step that begins at its images: the run writes it again.
        """
        if not self.path.exists():
            return
        kept = [
            line for line in self._lines() if line.get("images", 0) + ("note" in line) <= images
        ]
        with atomic_file(self.path) as temporary:
            temporary.write_text("".join(json.dumps(line) + "\n" for line in kept))
        self._forget_rows()
        for line in kept:
            self._add_row(line)
        self._write_table()

    def _lines(self) -> Iterator[dict[str, Any]]:
        """Those that are whole: a run may have ended in the middle of its last one."""
        for text in self.path.read_text().splitlines():
            with contextlib.suppress(json.JSONDecodeError):
                yield json.loads(text)

    def _forget_rows(self) -> None:
        self._rows: dict[int, dict[str, float]] = {}
        self._columns: dict[str, None] = {"images": None}  # in the order of first appearance

    def _add_row(self, line: dict[str, Any]) -> None:
        if "images" not in line:
            return
        named = {**line, **{f"val_{k}": v for k, v in line.get("val", {}).items()}}
        numbers = {k: v for k, v in named.items() if isinstance(v, (int, float))}
        self._rows.setdefault(line["images"], {}).update(numbers)
        self._columns |= dict.fromkeys(numbers)

    def _write_table(self) -> None:
        text = io.StringIO()
        writer = csv.DictWriter(text, list(self._columns), lineterminator="\n")
        writer.writeheader()
        writer.writerows(self._rows.values())
        with atomic_file(self.table) as temporary:
            temporary.write_text(text.getvalue())


class RunningLine:
    """How far a run is, on standard error: a line that is written over on a terminal.

    Elsewhere it is one line for every line of the log.
    """

    def __init__(
        self,
        total_images: int,
        *,
        stream: TextIO | None = None,
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        self.total, self._stream, self._seconds = total_images, stream or sys.stderr, seconds
        self.sheet = "none yet"
        self._begun, self._first, self._shown = seconds(), 0, -LINE_SECONDS

    def start(self, images: int) -> None:
        """The run begins, or goes on, at a number of images."""
        self._begun, self._first = self._seconds(), images

    def show(self, images: int, *, logged: bool) -> None:
        """After a step; ``logged``: it ended with a line of the log."""
        now, live = self._seconds(), self._stream.isatty()
        if not logged and not (live and now - self._shown >= LINE_SECONDS):
            return
        self._shown = now
        speed = (images - self._first) / max(now - self._begun, 1e-9)
        left = duration((self.total - images) / speed) if speed else "unknown time"
        text = f"{images} of {self.total} images, {speed:.1f} images/s, {left} left, "
        self._write(f"{text}sheet: {self.sheet}", live=live)

    def say(self, text: str) -> None:
        """Something that stays."""
        clear = "\r\x1b[K" if self._stream.isatty() else ""
        self._write(f"{clear}{text}", live=False)

    def end(self) -> None:
        """The terminal's line stays as it is."""
        if self._stream.isatty():
            self._write("", live=False)

    def _write(self, text: str, *, live: bool) -> None:
        self._stream.write(f"\r\x1b[K{text}" if live else f"{text}\n")
        self._stream.flush()


def duration(seconds: float) -> str:
    """As people say it: ``2 h 05 min``, ``4 min``, ``40 s``."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min"
