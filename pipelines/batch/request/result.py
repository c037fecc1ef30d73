"""What a batch run did, for people and as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipelines.batch.status.progress import clock
from pipelines.batch.workers.actor import WorkerFacts
from vidinv.files import one_line


@dataclass(frozen=True)
class BatchResult:
    """What a run did.

    Attributes:
        rows: the manifest, a row for each clip.
        seconds: wall time of the run without its start-up.
        start_seconds: until the first worker could take a task.
        frames_resumed: frames of clips that an earlier run had done.
        stage_seconds: what the workers spent on each stage, failed attempts included.
        num_workers: how many there were at a time.
        workers: all that there were, with the most memory that each held.
        skipped: names of files of folders and globs that are no clips or pictures.
        page: the data set's report, where one was asked for.
    """

    rows: tuple[dict[str, Any], ...]
    manifest: Path
    seconds: float
    start_seconds: float
    frames_resumed: int = 0
    stage_seconds: Mapping[str, float] = field(default_factory=dict)
    num_workers: int = 0
    workers: tuple[WorkerFacts, ...] = ()
    skipped: tuple[str, ...] = ()
    page: Path | None = None

    @property
    def quarantined(self) -> tuple[dict[str, Any], ...]:
        return tuple(row for row in self.rows if row["status"] != "done")

    @property
    def without_report(self) -> tuple[dict[str, Any], ...]:
        """Rows of outputs whose report was asked for and could not be made."""
        return tuple(
            row for row in self.rows if (row.get("report") or {}).get("status") == "failed"
        )

    @property
    def frames(self) -> int:
        return sum(row.get("frames", 0) for row in self.rows)

    @property
    def fps(self) -> float:
        """Frames of the clips that this run finished, in a second of its wall time."""
        return (self.frames - self.frames_resumed) / max(1e-9, self.seconds)

    @property
    def peak_rss_mb(self) -> float:
        """The most memory that any worker held, with its decoders and encoders, in MiB."""
        return max((worker.peak_rss_mb for worker in self.workers), default=0.0)

    def as_dict(self) -> dict[str, Any]:
        """Plain types only, ready for ``json.dumps``."""
        return {
            "clips": len(self.rows),
            "quarantined": len(self.quarantined),
            "skipped": list(self.skipped),
            "frames": self.frames,
            "fps": round(self.fps, 2),
            "manifest": str(self.manifest),
            "report": None if self.page is None else str(self.page),
            "without_report": len(self.without_report),
            "seconds": round(self.seconds, 3),
            "start_seconds": round(self.start_seconds, 3),
            "stage_seconds": {name: round(s, 3) for name, s in self.stage_seconds.items()},
            "num_workers": self.num_workers,
            "peak_rss_mb": round(self.peak_rss_mb, 1),
            "workers": [worker.as_dict() for worker in self.workers],
        }

    def summary(self) -> list[str]:
        """Lines for a person at the end: what was done, where the time went, what is missing."""
        done = len(self.rows) - len(self.quarantined)
        lines = [
            f"{self.manifest}: {done} of {len(self.rows)} clips done, {self.frames} frames, "
            f"{self.fps:.1f} fps, {clock(self.seconds)} after a start-up of "
            f"{self.start_seconds:.0f} s"
        ]
        if self.stage_seconds:
            available = max(1e-9, self.seconds * self.num_workers)
            stages = ", ".join(f"{name} {s:.0f} s" for name, s in self.stage_seconds.items())
            share = sum(self.stage_seconds.values()) / available
            lines.append(
                f"{self.num_workers} workers busy {share:.0%} of the time ({stages}), "
                f"at most {self.peak_rss_mb:.0f} MiB each"
            )
        if self.page is not None:
            lines.append(f"report: {self.page}")
        lines += [
            f"{row['input']}: quarantined at {row['stage']}: {row['cause']}"
            for row in self.quarantined
        ]
        lines += [
            f"{row['input']}: done, but without a report: {row['report']['cause']}"
            for row in self.without_report
        ]
        return [one_line(line) for line in lines]
