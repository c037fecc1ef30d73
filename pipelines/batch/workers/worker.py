"""One worker as the driver knows it: what it holds, since when it is silent, how it ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pipelines.batch.stages.tasks import Failure
from pipelines.batch.workers.actor import WorkerFacts, WorkerHeartbeat
from pipelines.batch.workers.pools import Pool
from pipelines.batch.workers.protocol import ScheduledTask

_LONGEST_PAUSE_SECONDS = 300.0


@dataclass(eq=False)
class RayWorker:
    """An actor, and what is known of it.

    Attributes:
        address_ref: ready when the worker is up; None from then on, and ``pid`` is its process.
        failures: workers before it, in its place, that died before they were up.
        silent_seconds: for how long it has shown nothing while the driver watched: a busy worker
            moves frames, an idle one answers, one that starts comes up.
    """

    pool: Pool
    actor: Any
    address_ref: Any
    facts: WorkerFacts
    failures: int = 0
    node: str = ""
    pid: int = 0
    task: ScheduledTask | None = None
    task_ref: Any = None
    heartbeat_ref: Any = None
    frames: int = 0
    beats: int = 0
    num_expected: int | None = None
    silent_seconds: float = 0.0

    def take_heartbeat(self, heartbeat: WorkerHeartbeat) -> None:
        """It answered."""
        moved = (heartbeat.frames, heartbeat.beats) != (self.frames, self.beats)
        if moved or self.task is None:
            self.frames, self.beats = heartbeat.frames, heartbeat.beats
            self.silent_seconds = 0.0
        self.num_expected = heartbeat.num_expected
        self.facts.peak_rss_mb = max(self.facts.peak_rss_mb, heartbeat.peak_rss_mb)


@dataclass(frozen=True)
class DelayedStart:
    """The place of a worker that died before it was up: another one starts at ``due``."""

    pool: Pool
    failures: int
    due: float


def pause_seconds(failures: int) -> float:
    """Before the next start: what ended a worker, as a lack of memory, may take time to pass."""
    return float(min(2**failures, _LONGEST_PAUSE_SECONDS))


def diagnose(ray: Any, worker: RayWorker, error: Exception) -> Failure:
    """What an error that a call gave says of the worker that was called."""
    kinds, details = ray.exceptions, str(error)
    alive = {node["NodeID"] for node in ray.nodes() if node["Alive"]}
    if "node has died" in details or (worker.node and worker.node not in alive):
        where = f" ({worker.node[:8]})" if worker.node else ""
        return Failure(f"its node was lost{where}", blamed=False, details=details)
    # What a lost node looks like until Ray has missed enough of its heartbeats.
    if isinstance(error, kinds.ActorUnavailableError):
        cause = f"its worker could not be reached ({worker.node[:8]})"
        return Failure(cause, blamed=False, details=details)
    if isinstance(error, kinds.OutOfMemoryError):
        cause = "its worker was ended, as the machine ran low on memory; fewer --workers help"
    elif isinstance(error, kinds.RayActorError) and worker.pid:
        cause = f"the worker process {worker.pid} died ({type(error).__name__})"
    elif "worker process has died" in details:  # Ray adds that "the actor never ran"
        cause = "the process died before it was up: out of memory, killed, or a library crashed"
    else:  # an exception: the last line of its traceback
        cause = details.strip().splitlines()[-1].strip()
    return Failure(cause, details=details)
