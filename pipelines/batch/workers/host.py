"""What runs inside an actor, and what it tells the driver."""

from __future__ import annotations

import importlib
import os
import time
from dataclasses import asdict, dataclass
from typing import Any

from pipelines.meter import resident_mb

_MEMORY_SECONDS = 1.0

Row = dict[str, Any]


@dataclass(frozen=True)
class Place:
    """Where an actor is: Ray's id of the node, the process, and its device for networks."""

    node: str
    pid: int
    device: str


@dataclass(frozen=True)
class Report:
    """How far a task is: its frames, those that its clip should have, and the worker's memory.

    ``beats`` moves while a task without frames works.
    """

    frames: int
    beats: int
    num_expected: int | None
    peak_rss_mb: float


class Host:
    """What runs inside an actor; a second thread answers how far the task is."""

    def __init__(self, stages_class: str, settings: dict[str, Any]) -> None:
        module, _, name = stages_class.partition(":")
        self._stages = getattr(importlib.import_module(module), name)(settings)
        self._first_frame = 0
        self._peak_mb, self._measured = 0.0, 0.0

    def place(self) -> Place:
        import ray

        node = ray.get_runtime_context().get_node_id()
        return Place(node, os.getpid(), str(self._stages.device))

    def run(self, task: Row) -> tuple[Row, Report]:
        self._first_frame = self._stages.frames_done
        row = self._stages.run(task)
        return row, self.report()

    def report(self) -> Report:
        # Looking through all processes of a machine takes milliseconds.
        if time.monotonic() - self._measured > _MEMORY_SECONDS:
            self._measured = time.monotonic()
            self._peak_mb = max(self._peak_mb, resident_mb())
        frames = self._stages.frames_done - self._first_frame
        return Report(frames, self._stages.beats, self._stages.num_expected, self._peak_mb)


@dataclass
class WorkerFacts:
    """A worker in the result of a run; one that replaced another has a name of its own.

    Attributes:
        name: what it did, and a number.
        node: address of its machine.
        peak_rss_mb: the most that it and its decoders and encoders held, sampled each second;
            memory that they share is counted once for each.
    """

    name: str
    node: str = ""
    peak_rss_mb: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """Plain types only."""
        return {**asdict(self), "peak_rss_mb": round(self.peak_rss_mb, 1)}
