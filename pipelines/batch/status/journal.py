"""The memory of a run: JSON lines in its output folder, from which a killed run is resumed.

A run begins with a line of its configuration; of several (``--restart``) the last one counts. Lines
follow for every clip asked for, analysis, segment and output, written after the file that they
speak of has been renamed into place. A line that was cut short by a crash is the last one, and is
left out.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import shutil
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import IO, Any

from pipelines.batch.request.jobs import Job, Settings, differences
from vidinv.errors import UsageError

WORK_FOLDER = ".vidinv-batch"
STALE_FOLDER = "stale"  # outputs of other requests or files, whose clips have failed since
JOURNAL_FILE = "journal.jsonl"
MANIFEST_FILE = "manifest.jsonl"  # of the outputs, beside them
INDEX_FILE = "report.html"  # over all their reports
_OUR_NAMES = frozenset({WORK_FOLDER, MANIFEST_FILE, INDEX_FILE})
DISK_FULL = (errno.ENOSPC, errno.EDQUOT)

Line = dict[str, Any]


class JournalHistory:
    """What earlier runs have left in their journal; opened for reading; nothing is written.

    Args:
        output: folder of the outputs; the journal lies in a hidden folder below it.

    Attributes:
        lines: of the run that may be resumed, over all its attempts; empty for a new one.
        outputs: of every clip that any run was asked for: files of these names are ours.
        pages: of the reports that any run has made.
        has_reports: a run was to make some: files of their names are ours.
        damaged: number in the file, from 1, of a line of that run that cannot be read; None where
            all can.

    Raises:
        UsageError: a run has it open.
    """

    def __init__(self, output: Path) -> None:
        self.folder = output / WORK_FOLDER
        self.path = self.folder / JOURNAL_FILE
        data = b""
        with contextlib.suppress(FileNotFoundError), self.path.open("rb") as file:
            _lock(file, output, fcntl.LOCK_SH)
            data = file.read()
        self._take(_whole(data))

    def _take(self, data: bytes) -> None:
        lines = [_parsed(text) for text in data.splitlines()]
        self.outputs = {line["job"]["output"] for line in lines if "job" in line}
        reports = [line["row"].get("report") for line in lines if line.get("event") == "finished"]
        self.pages = {report["page"] for report in reports if report and "page" in report}
        starts = [number for number, line in enumerate(lines) if "settings" in line]
        self.has_reports = any("reports" in line for line in lines)
        first = starts[-1] if starts else 0
        self.lines = lines[first:]
        damaged = [number for number, line in enumerate(lines, 1) if number > first and not line]
        self.damaged = damaged[0] if damaged else None


class Journal(JournalHistory):
    """The same for writing, opened by one run at a time.

    Raises:
        UsageError: another run has it open.
    """

    def __init__(self, output: Path) -> None:
        self.folder = output / WORK_FOLDER
        self.folder.mkdir(parents=True, exist_ok=True)
        self.path = self.folder / JOURNAL_FILE
        # Unbuffered: what could not be written must not come back when the file is closed.
        self._file = self.path.open("a+b", buffering=0)
        try:
            _lock(self._file, output, fcntl.LOCK_EX)
        except UsageError:
            self._file.close()
            raise
        self._take(self._read())

    def append(self, *lines: Mapping[str, Any]) -> None:
        """Write lines so that they survive a crash of this machine."""
        data = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
        while data:
            data = data[self._file.write(data) :]
        os.fsync(self._file.fileno())

    def forget(self, settings: Mapping[str, Any]) -> None:
        """Begin anew with a line of the configuration: the work of earlier runs is of no use."""
        self.append(settings)
        self.lines = []
        for path in self.folder.iterdir():
            if path.is_dir() and path.name != STALE_FOLDER:
                shutil.rmtree(path)

    def close(self) -> None:
        """Let another run in; safe to call again."""
        self._file.close()

    def _read(self) -> bytes:
        """Whole lines; what a crash cut short is removed from the file."""
        self._file.seek(0)
        data = self._file.read()
        whole = _whole(data)
        if len(whole) < len(data):
            self._file.truncate(len(whole))
        return whole


def _lock(file: IO[bytes], output: Path, kind: int) -> None:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UsageError(f"another run is writing to {output}; wait for it or end it") from None
    except OSError:
        return  # some network disks have no locks: a run there is not kept from another


def _parsed(text: bytes) -> Line:
    """A line; empty where it is damaged."""
    with contextlib.suppress(ValueError):
        line = json.loads(text)
        if isinstance(line, dict):
            return line
    return {}


def _whole(data: bytes) -> bytes:
    """Without a last line that a crash cut short."""
    return data[: data.rfind(b"\n") + 1]


def check(
    journal: JournalHistory, settings: Settings, jobs: Sequence[Job], *, resume: bool, restart: bool
) -> None:
    """Whether a run may begin; nothing is written.

    Raises:
        UsageError: an earlier run that is neither resumed nor restarted; one whose journal is
            damaged, or whose configuration was another, with the difference; or files in the way
            that no run of ours made.
    """
    _check_outputs(journal.folder.parent, jobs, journal.outputs)
    if not journal.lines or restart:
        return
    if journal.damaged is not None:
        raise UsageError(
            f"{journal.path}: line {journal.damaged} is damaged: mend or remove it, or --restart"
        )
    if not resume:
        raise UsageError(
            f"{journal.folder.parent} holds an earlier run: --resume does what is missing, "
            "--restart does all of it again"
        )
    _check_same(journal.lines[0]["settings"], settings.deciding(), _requested(journal), jobs)


def start(
    journal: Journal, settings: Settings, jobs: Sequence[Job], *, restart: bool, reports: bool
) -> None:
    """Begin, resume or restart a run that was checked.

    Args:
        reports: it makes some.
    """
    if restart or not journal.lines:
        journal.forget({"settings": settings.deciding(), "digest": settings.digest()})
    known = _requested(journal)
    new = (job for job in jobs if known.get(job.output) != _as_read(job))
    requests = [{"job": job.as_requested()} for job in new]
    journal.append(*requests, *([{"reports": True}] if reports and not journal.has_reports else []))


def _requested(journal: JournalHistory) -> dict[str, Line]:
    """What was asked for, by output."""
    return {line["job"]["output"]: line["job"] for line in journal.lines if "job" in line}


def _check_outputs(folder: Path, jobs: Sequence[Job], known: Collection[str]) -> None:
    _check_folders(folder, jobs)
    names = [job.output for job in jobs if job.output not in known]
    for name in [*names, *(() if known else (MANIFEST_FILE,))]:
        if (folder / name).exists():
            raise UsageError(
                f"{folder / name} exists and is not from an earlier run: "
                "move it away, or give another folder"
            )


def _check_folders(root: Path, jobs: Sequence[Job]) -> None:
    """UsageError where outputs would need a folder that cannot be."""
    for job in jobs:
        if PurePosixPath(job.output).parts[0] in _OUR_NAMES:
            raise UsageError(
                f"{root / job.output}, the output of {job.shown}, lies where the run keeps its own "
                "files: name it in a manifest"
            )
    names = {parent for job in jobs for parent in PurePosixPath(job.output).parents}
    folders = [next(path for path in (root, *root.parents) if path.exists())]
    folders += [path for name in sorted(names) if (path := root / name).exists()]
    for folder in folders:
        if not folder.is_dir():
            raise UsageError(f"{folder}: not a folder; move it away, or give another one for all")
        if not os.access(folder, os.W_OK | os.X_OK):
            raise UsageError(f"{folder}: cannot be written to; change that, or give another folder")


def _check_same(old: Line, new: Line, known: Mapping[str, Line], jobs: Sequence[Job]) -> None:
    changes = differences(old, _plain(new))
    for job in jobs:
        if job.output in known:
            found = differences(known[job.output], _as_read(job))
            changes += [f"{job.output}: {change}" for change in found]
    if changes:
        raise UsageError(
            f"cannot resume, the configuration changed: {'; '.join(changes)}; "
            "run with the old one, or --restart"
        )


def _as_read(job: Job) -> Line:
    return _plain(job.as_requested())


def _plain(data: Any) -> Any:
    """As it comes back from the journal: tuples are lists."""
    return json.loads(json.dumps(data))
