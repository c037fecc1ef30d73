"""What runs inside an actor, and what it tells the driver."""

from __future__ import annotations

import importlib
import os
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from pipelines.meter import resident_mb

if TYPE_CHECKING:
    from pipelines.batch.request.jobs import Settings
    from pipelines.batch.stages.runner import StageRunner
    from pipelines.batch.stages.tasks import Completed, Failure, StageTask

_MEMORY_SECONDS = 1.0


@dataclass(frozen=True)
class WorkerAddress:
    """Where an actor is: Ray's id of the node, the process, and its device for networks."""

    node: str
    pid: int
    device: str


@dataclass(frozen=True)
class WorkerHeartbeat:
    """How far a task is: its frames, those that its clip should have, and the worker's memory.

    ``beats`` moves while a task without frames works.
    """

    frames: int
    beats: int
    num_expected: int | None
    peak_rss_mb: float


class StageActor:
    """What runs inside an actor; a second thread answers how far the task is."""

    def __init__(self, runner_class: str, settings: Settings) -> None:
        module, _, name = runner_class.partition(":")
        self._runner: StageRunner = getattr(importlib.import_module(module), name)(settings)
        self._first_frame = 0
        self._peak_mb, self._measured = 0.0, 0.0

    def address(self) -> WorkerAddress:
        import ray

        node = ray.get_runtime_context().get_node_id()
        return WorkerAddress(node, os.getpid(), str(self._runner.device))

    def run(self, task: StageTask) -> tuple[Completed | Failure, WorkerHeartbeat]:
        self._first_frame = self._runner.frames_done
        result = self._runner.run(task)
        return result, self.heartbeat()

    def heartbeat(self) -> WorkerHeartbeat:
        # Looking through all processes of a machine takes milliseconds.
        if time.monotonic() - self._measured > _MEMORY_SECONDS:
            self._measured = time.monotonic()
            self._peak_mb = max(self._peak_mb, resident_mb())
        frames = self._runner.frames_done - self._first_frame
        return WorkerHeartbeat(frames, self._runner.beats, self._runner.num_expected, self._peak_mb)


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
