"""Workers as Ray actors: started, watched, replaced; the only file that imports ray.

Ray core and not Ray Data, for what a batch of untrusted clips needs and Ray Data does not have: it
replays the task of a dead actor for ever, an exception ends the whole job, and there is no limit
on the time of one task (design/MEASUREMENTS.md "Ray"). Every actor holds one task at a time, so
nothing queues up inside Ray, and no frame goes through its object store.
"""

from __future__ import annotations

import importlib
import logging
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from pipelines.batch.schedule import Outcome, Row, Task
from vidinv.errors import MissingDependencyError, UsageError, VidinvError

STAGES_CLASS = "pipelines.batch.stages:Stages"
# An actor with a whole CPU each would leave none for Ray's own tasks: two on two cores hang.
CPUS_PER_WORKER = 0.5
# Encoders may hold their frames back for as long as 300 s (vidinv.video.writer).
STALL_SECONDS = 360.0
START_SECONDS = 180.0  # imports take 5-8 s on idle cores
MAX_STARTS = 2
_OBJECT_STORE_BYTES = 100 * 2**20  # rows only
_PROGRESS_SECONDS = 1.0


@dataclass(frozen=True)
class Pool:
    """Workers of one kind.

    Attributes:
        stages: what they do.
        num_workers: how many; each is one process.
        num_gpus: GPUs of each worker, whole ones: fractions do not keep their memory apart.
    """

    stages: frozenset[str]
    num_workers: int
    num_gpus: int = 0
    num_cpus: float = CPUS_PER_WORKER


def choose_pools(
    resources: Mapping[str, float], *, num_workers: int | None, device: str
) -> tuple[Pool, ...]:
    """One worker a CPU for everything; where there are GPUs, one worker a GPU renders.

    Args:
        resources: the cluster's, as Ray counts them.
        num_workers: workers on CPUs; None takes one a CPU.

    Raises:
        MissingDependencyError: a GPU is asked for and the cluster has none.
        UsageError: more workers than the cluster's CPUs can hold.
    """
    num_cpus, num_gpus = resources.get("CPU", 0.0), int(resources.get("GPU", 0))
    if device == "cuda" and not num_gpus:
        raise MissingDependencyError("no GPU in the Ray cluster; use --device cpu")
    if device == "cpu":
        num_gpus = 0
    wanted = max(1, int(num_cpus)) if num_workers is None else num_workers
    pools: tuple[Pool, ...] = (Pool(frozenset({"analyse", "render", "join"}), wanted),)
    if num_gpus:
        pools = (
            Pool(frozenset({"analyse", "join"}), wanted),
            Pool(frozenset({"render"}), num_gpus, num_gpus=1),
        )
    needed = sum(pool.num_workers * pool.num_cpus for pool in pools)
    if needed > num_cpus:
        raise UsageError(
            f"{sum(pool.num_workers for pool in pools)} workers need {needed:g} CPUs "
            f"({CPUS_PER_WORKER:g} each) and the Ray cluster has {num_cpus:g}: "
            f"at most --workers {int((num_cpus - num_gpus * CPUS_PER_WORKER) / CPUS_PER_WORKER)}"
        )
    return pools


class Host:
    """What runs inside an actor; a second thread answers how far the task is."""

    def __init__(self, stages_class: str, settings: dict[str, Any]) -> None:
        module, _, name = stages_class.partition(":")
        self._stages = getattr(importlib.import_module(module), name)(settings)

    def place(self) -> tuple[str, int]:
        """Ray's id of this node, and the process id."""
        import ray

        return ray.get_runtime_context().get_node_id(), os.getpid()

    def run(self, task: Row) -> Row:
        return self._stages.run(task)  # type: ignore[no-any-return]

    def frames_done(self) -> int:
        return self._stages.frames_done  # type: ignore[no-any-return]


@dataclass
class _Worker:
    pool: Pool
    actor: Any
    place_ref: Any
    started: float
    node: str = ""
    pid: int = 0
    task: Task | None = None
    task_ref: Any = None
    progress_ref: Any = None
    frames: int = 0
    moved: float = field(default_factory=time.monotonic)


class RayWorkers:
    """A cluster connection and its workers; a context manager.

    Args:
        settings: of the stages, as JSON.
        address: None starts Ray on this machine for the time of the run.
        num_workers: on CPUs; None takes one a CPU of the cluster.
        stall_seconds: a task that moves no frame for so long is killed.
        stages_class: ``module:class`` of what runs the tasks.
    """

    def __init__(
        self,
        settings: dict[str, Any],
        *,
        address: str | None = None,
        num_workers: int | None = None,
        device: str = "auto",
        stall_seconds: float = STALL_SECONDS,
        stages_class: str = STAGES_CLASS,
    ) -> None:
        self._settings, self._address, self._device = settings, address, device
        self._num_workers, self._stall_seconds = num_workers, stall_seconds
        self._stages_class = stages_class
        self._workers: list[_Worker] = []
        self._failed_starts = 0
        self._frames_of_the_dead = 0
        self._owns_ray = False
        self._ray: Any = None

    def __enter__(self) -> RayWorkers:
        self._ray = _import_ray()
        self._connect()
        try:
            resources = self._ray.cluster_resources()
            for pool in choose_pools(resources, num_workers=self._num_workers, device=self._device):
                self._workers += [self._start_worker(pool) for _ in range(pool.num_workers)]
        except BaseException:
            self._disconnect()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._disconnect()

    @property
    def count(self) -> int:
        return len(self._workers)

    @property
    def frames_done(self) -> int:
        return self._frames_of_the_dead + sum(worker.frames for worker in self._workers)

    @property
    def process_ids(self) -> list[int]:
        """Of the workers that are up."""
        return [worker.pid for worker in self._workers if worker.pid]

    def start(self, task: Task, payload: Row) -> bool:
        """Hand a task to a free worker for its stage; False when there is none."""
        for worker in self._workers:
            if worker.pid and worker.task is None and task.stage in worker.pool.stages:
                worker.task, worker.task_ref = task, worker.actor.run.remote(payload)
                worker.moved = time.monotonic()
                return True
        return False

    def wait_until_up(self) -> None:
        """Return when the first worker can take a task."""
        while not self.process_ids:
            self.wait(timeout_seconds=1.0)

    def wait(self, *, timeout_seconds: float) -> list[Outcome]:
        """Outcomes since the last call; returns when there is one or the time is over."""
        refs = {w.task_ref if w.task else w.place_ref: w for w in self._workers}
        refs = {ref: worker for ref, worker in refs.items() if ref is not None}
        ready, _ = self._ray.wait(list(refs), timeout=timeout_seconds)
        outcomes = [self._take(refs[ref], ref) for ref in ready]
        self._look_at_progress()
        outcomes += [self._kill(w) for w in self._workers if self._is_stalled(w)]
        self._check_starts()
        return [outcome for outcome in outcomes if outcome is not None]

    def _take(self, worker: _Worker, ref: Any) -> Outcome | None:
        """What a finished call says: a worker that is up, a row, or a death."""
        task = worker.task
        try:
            value = self._ray.get(ref)
        except self._ray.exceptions.RayError as error:
            return self._replace(worker, *self._how_it_died(worker, error))
        if task is None:
            worker.node, worker.pid = value
            worker.place_ref, self._failed_starts = None, 0
            return None
        worker.task = worker.task_ref = None
        return Outcome(task, row=value)

    def _how_it_died(self, worker: _Worker, error: Exception) -> tuple[str, bool]:
        alive = {node["NodeID"] for node in self._ray.nodes() if node["Alive"]}
        text = " ".join(str(error).split())
        if worker.node and (worker.node not in alive or "node has died" in text):
            return f"its node was lost ({worker.node[:8]})", False
        # What a lost node looks like until Ray has missed enough of its heartbeats.
        if isinstance(error, self._ray.exceptions.ActorUnavailableError):
            return f"its worker could not be reached ({worker.node[:8]})", False
        died = isinstance(error, self._ray.exceptions.RayActorError)
        if died and worker.task:
            return f"the worker process {worker.pid} died ({type(error).__name__})", True
        return text, True

    def _replace(self, worker: _Worker, death: str, blamed: bool) -> Outcome | None:
        """Start another worker in the place of one that is dead, or not to be trusted."""
        self._ray.kill(worker.actor)
        self._frames_of_the_dead += worker.frames
        self._workers[self._workers.index(worker)] = self._start_worker(worker.pool)
        if worker.task is not None:
            return Outcome(worker.task, death=death, blamed=blamed)
        if worker.place_ref is not None:
            self._failed_starts += blamed
            if self._failed_starts >= MAX_STARTS:
                raise VidinvError(f"workers cannot start: {death}")
        return None

    def _kill(self, worker: _Worker) -> Outcome | None:
        death = f"hung: no frame for {self._stall_seconds:g} s; its worker was killed"
        return self._replace(worker, death, True)

    def _look_at_progress(self) -> None:
        """Ask busy workers how far they are; a worker that cannot answer does not move."""
        now = time.monotonic()
        for worker in self._workers:
            if worker.task is None:
                continue
            if worker.progress_ref is None:
                worker.progress_ref = worker.actor.frames_done.remote()
            ready, _ = self._ray.wait([worker.progress_ref], timeout=0)
            if ready:
                ref, worker.progress_ref = worker.progress_ref, None
                try:
                    frames = self._ray.get(ref)
                except self._ray.exceptions.RayError:
                    continue  # its task tells
                if frames != worker.frames:
                    worker.frames, worker.moved = frames, now

    def _is_stalled(self, worker: _Worker) -> bool:
        idle = time.monotonic() - worker.moved
        return worker.task is not None and idle > self._stall_seconds

    def _check_starts(self) -> None:
        """Without any worker there is nothing to wait for."""
        now = time.monotonic()
        if all(not w.pid and now - w.started > START_SECONDS for w in self._workers):
            free = self._ray.available_resources()
            raise VidinvError(
                f"no worker could start within {START_SECONDS:g} s: the Ray cluster has "
                f"{free.get('CPU', 0):g} CPUs and {free.get('GPU', 0):g} GPUs free; end other "
                "work on it, add nodes, or run with fewer --workers; then --resume"
            )

    def _start_worker(self, pool: Pool) -> _Worker:
        # Two threads: the second one tells the progress while the first one works.
        actor = (
            self._ray.remote(Host)
            .options(
                num_cpus=pool.num_cpus,
                num_gpus=pool.num_gpus,
                max_restarts=0,
                max_task_retries=0,
                max_concurrency=2,
            )
            .remote(self._stages_class, self._settings)
        )
        return _Worker(pool, actor, actor.place.remote(), time.monotonic())

    def _connect(self) -> None:
        if self._ray.is_initialized():
            return
        self._owns_ray = True
        local = self._address is None
        try:
            self._ray.init(
                address=self._address or "local",
                log_to_driver=False,
                logging_level=logging.ERROR,
                **({"object_store_memory": _OBJECT_STORE_BYTES} if local else {}),
                **({"include_dashboard": False} if local else {}),
            )
        except (ConnectionError, ValueError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            raise VidinvError(f"cannot reach Ray at {self._address}: {reason}") from None

    def _disconnect(self) -> None:
        for worker in self._workers:
            self._ray.kill(worker.actor)
        self._workers = []
        if self._owns_ray:
            self._ray.shutdown()


def _import_ray() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent anywhere
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        return importlib.import_module("ray")
    except ImportError:
        raise MissingDependencyError("batch needs Ray: pip install 'vidinv[batch]'") from None
