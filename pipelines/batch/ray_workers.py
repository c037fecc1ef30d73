"""Workers as Ray actors: started, watched, replaced.

Ray core and not Ray Data, for what a batch of untrusted clips needs and Ray Data does not have: one
row that kills its worker keeps the job from ending, or takes good rows or the pool along; one that
hangs ends the job; which rows were dropped is not told (measured: docs/LOG.md). Every actor
holds one task at a time, so nothing queues up inside Ray, and no frame goes through its object
store.
"""

from __future__ import annotations

import itertools
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from pipelines.batch.cluster import connect, import_ray
from pipelines.batch.host import Host, Place, Report, WorkerFacts
from pipelines.batch.pools import Pool, Wish, choose_pools
from pipelines.batch.tasks import Outcome, Row, Running, Task
from vidinv.errors import VidinvError

STAGES_CLASS = "pipelines.batch.stages:Stages"
# Encoders may hold their frames back for as long as 300 s (vidinv.video.writer).
STALL_SECONDS = 360.0
START_SECONDS = 180.0  # imports take 5-8 s on idle cores
MAX_STARTS = 2
# Ray's many threads make glibc keep many arenas, each as large as it ever was. The most memory of a
# worker at 500 and at 3,000 frames of a clip was 1137 and 1675 MiB; with two arenas, 1036 and 1101.
_ENVIRONMENT = {"MALLOC_ARENA_MAX": "2"}


@dataclass
class _Worker:
    pool: Pool
    actor: Any
    place_ref: Any
    started: float
    facts: WorkerFacts
    node: str = ""
    pid: int = 0
    task: Task | None = None
    task_ref: Any = None
    report_ref: Any = None
    frames: int = 0
    beats: int = 0
    num_expected: int | None = None
    moved: float = field(default_factory=time.monotonic)


@dataclass(frozen=True)
class _Death:
    """How a worker ended; ``details`` are Ray's own words."""

    cause: str
    blamed: bool = True
    details: str = ""


class RayWorkers:
    """A cluster connection and its workers; a context manager.

    Args:
        settings: of the stages, as JSON.
        wish: workers of which kind.
        address: None starts Ray on this machine for the time of the run.
        dashboard: start Ray's dashboard too; a cluster has its own.
        stall_seconds: a task that moves no frame for so long is killed.
        stages_class: ``module:class`` of what runs the tasks.
    """

    def __init__(
        self,
        settings: dict[str, Any],
        *,
        wish: Wish,
        address: str | None = None,
        dashboard: bool = False,
        stall_seconds: float = STALL_SECONDS,
        stages_class: str = STAGES_CLASS,
    ) -> None:
        self._settings, self._wish, self._address = settings, wish, address
        self._dashboard, self._stall_seconds = dashboard, stall_seconds
        self._stages_class = stages_class
        self._workers: list[_Worker] = []
        self._late: set[Pool] = set()
        self._numbers = itertools.count(1)
        self._namespace = f"vidinv-{uuid.uuid4().hex[:8]}"
        self._failed_starts = 0
        self._owns_ray = False
        self._ray: Any = None
        self.facts: list[WorkerFacts] = []
        self.dashboard_url = ""
        self.tell: Callable[[str], None] = lambda text: None

    def __enter__(self) -> RayWorkers:
        self._ray = import_ray()
        try:
            if not self._ray.is_initialized():
                self._owns_ray = True
                self.dashboard_url = connect(self._address, dashboard=self._dashboard)
            nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
            for pool in choose_pools(nodes, self._wish):
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
    def running(self) -> list[Running]:
        """Tasks in the workers."""
        return [Running(w.task, w.frames, w.num_expected) for w in self._workers if w.task]

    def describe(self) -> str:
        """``2 workers (all stages) on Ray 2.60.0 at 127.0.0.1:6379``."""
        names = [worker.pool.name for worker in self._workers]
        pools = ", ".join(f"{names.count(n)} workers ({n})" for n in dict.fromkeys(names))
        where = self._address or "this machine"
        return f"{pools} on Ray {self._ray.__version__} at {where}"

    @property
    def process_ids(self) -> list[int]:
        """Of the workers that are up."""
        return [worker.pid for worker in self._workers if worker.pid]

    def start(self, task: Task, payload: Row) -> bool:
        """Hand a task to a free worker for its stage; False when there is none."""
        for worker in self._workers:
            if worker.pid and worker.task is None and task.stage in worker.pool.stages:
                worker.task, worker.task_ref = task, worker.actor.run.remote(payload)
                worker.frames, worker.moved = 0, time.monotonic()
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
        self._ask_for_reports()
        outcomes += [self._kill(w) for w in self._workers if self._is_stalled(w)]
        self._check_starts()
        return [outcome for outcome in outcomes if outcome is not None]

    def _take(self, worker: _Worker, ref: Any) -> Outcome | None:
        """What a finished call says: a worker that is up, a row, or a death."""
        task = worker.task
        try:
            value = self._ray.get(ref)
        except self._ray.exceptions.RayError as error:
            return self._replace(worker, self._how_it_died(worker, error))
        if task is None:
            self._settle(worker, value)
            return None
        row, report = value
        worker.task = worker.task_ref = None
        self._note_report(worker, report)
        return Outcome(task, row=row)

    def _settle(self, worker: _Worker, place: Place) -> None:
        """A worker is up."""
        worker.node, worker.pid = place.node, place.pid
        worker.place_ref, self._failed_starts = None, 0
        addresses = {n["NodeID"]: n["NodeManagerAddress"] for n in self._ray.nodes()}
        worker.facts.node = addresses.get(place.node, "")
        if worker.pool.num_gpus and not place.device.startswith("cuda"):
            self.tell(f"{worker.facts.name} has a GPU, but its torch cannot use it: {place.device}")

    def _how_it_died(self, worker: _Worker, error: Exception) -> _Death:
        kinds, details = self._ray.exceptions, str(error)
        alive = {node["NodeID"] for node in self._ray.nodes() if node["Alive"]}
        if "node has died" in details or (worker.node and worker.node not in alive):
            where = f" ({worker.node[:8]})" if worker.node else ""
            return _Death(f"its node was lost{where}", blamed=False, details=details)
        # What a lost node looks like until Ray has missed enough of its heartbeats.
        if isinstance(error, kinds.ActorUnavailableError):
            cause = f"its worker could not be reached ({worker.node[:8]})"
            return _Death(cause, blamed=False, details=details)
        if isinstance(error, kinds.OutOfMemoryError):
            cause = "its worker was ended, as the machine ran low on memory; fewer --workers help"
        elif isinstance(error, kinds.RayActorError) and worker.task:
            cause = f"the worker process {worker.pid} died ({type(error).__name__})"
        else:  # an exception: the last line of its traceback
            cause = details.strip().splitlines()[-1].strip()
        return _Death(cause, details=details)

    def _replace(self, worker: _Worker, death: _Death) -> Outcome | None:
        """Start another worker in the place of one that is dead, or not to be trusted."""
        self._ray.kill(worker.actor)
        self._workers[self._workers.index(worker)] = self._start_worker(worker.pool)
        if worker.task is not None:
            return Outcome(
                worker.task, death=death.cause, blamed=death.blamed, details=death.details
            )
        if worker.place_ref is not None:
            self._failed_starts += death.blamed
            if self._failed_starts >= MAX_STARTS:
                raise VidinvError(f"workers cannot start: {death.cause}")
        return None

    def _kill(self, worker: _Worker) -> Outcome | None:
        death = f"hung: no frame for {self._stall_seconds:g} s; its worker was killed"
        return self._replace(worker, _Death(death))

    def _ask_for_reports(self) -> None:
        """Ask busy workers how far they are; a worker that cannot answer does not move."""
        for worker in self._workers:
            if worker.task is None:
                continue
            if worker.report_ref is None:
                worker.report_ref = worker.actor.report.remote()
            ready, _ = self._ray.wait([worker.report_ref], timeout=0)
            if ready:
                ref, worker.report_ref = worker.report_ref, None
                try:
                    self._note_report(worker, self._ray.get(ref))
                except self._ray.exceptions.RayError:
                    continue  # its task tells

    def _note_report(self, worker: _Worker, report: Report) -> None:
        if (report.frames, report.beats) != (worker.frames, worker.beats):
            worker.frames, worker.beats = report.frames, report.beats
            worker.moved = time.monotonic()
        worker.num_expected = report.num_expected
        worker.facts.peak_rss_mb = max(worker.facts.peak_rss_mb, report.peak_rss_mb)

    def _is_stalled(self, worker: _Worker) -> bool:
        idle = time.monotonic() - worker.moved
        return worker.task is not None and idle > self._stall_seconds

    def _check_starts(self) -> None:
        """Without any worker for a stage there is nothing to wait for."""
        now = time.monotonic()
        for pool in {worker.pool for worker in self._workers}:
            ups = [
                w.pid or now - w.started <= START_SECONDS for w in self._workers if w.pool == pool
            ]
            if all(ups):
                self._late.discard(pool)
                continue
            free = self._ray.available_resources()
            text = (
                f"of {len(ups)} workers ({pool.name}) {ups.count(False)} could not start within "
                f"{START_SECONDS:g} s: the Ray cluster has {free.get('CPU', 0):g} CPUs and "
                f"{free.get('GPU', 0):g} GPUs free"
            )
            if not any(ups):
                raise VidinvError(
                    f"{text}; end other work on it, add nodes, or run with fewer --workers; "
                    "then --resume"
                )
            if pool not in self._late:
                self._late.add(pool)
                self.tell(text)

    def _start_worker(self, pool: Pool) -> _Worker:
        facts = WorkerFacts(f"{pool.name} {next(self._numbers)}")
        # On a machine with a GPU, "auto" would take it without reserving it.
        device = self._settings["device"] if pool.num_gpus else "cpu"
        # Two threads: the second one tells the progress while the first one works.
        actor = (
            self._ray.remote(Host)
            .options(
                name=f"vidinv {facts.name}",
                namespace=self._namespace,
                num_cpus=pool.num_cpus,
                num_gpus=pool.num_gpus,
                max_restarts=0,
                max_task_retries=0,
                max_concurrency=2,
                runtime_env={"env_vars": _ENVIRONMENT},
            )
            .remote(self._stages_class, {**self._settings, "device": device})
        )
        self.facts.append(facts)
        return _Worker(pool, actor, actor.place.remote(), time.monotonic(), facts)

    def _disconnect(self) -> None:
        for worker in self._workers:
            self._ray.kill(worker.actor)
        self._workers = []
        if self._owns_ray:
            self._ray.shutdown()
