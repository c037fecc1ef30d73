"""Workers as Ray actors: started, watched, replaced.

Ray core and not Ray Data, for what a batch of untrusted clips needs and Ray Data does not have: one
row that kills its worker keeps the job from ending, or takes good rows or the pool along; one that
hangs ends the job; which rows were dropped is not told (measured: docs/LOG.md). Every actor
holds one task at a time, so nothing queues up inside Ray, and no frame goes through its object
store. ``cluster.py`` has the connection.
"""

from __future__ import annotations

import itertools
import time
import uuid
from collections.abc import Callable
from dataclasses import replace
from types import TracebackType
from typing import Any

from pipelines.batch.request.jobs import Settings
from pipelines.batch.stages.tasks import Failure, StageTask
from pipelines.batch.workers.actor import StageActor, WorkerAddress, WorkerFacts
from pipelines.batch.workers.cluster import connect, import_ray
from pipelines.batch.workers.pools import Pool, PoolRequest, choose_pools
from pipelines.batch.workers.protocol import Outcome, RunningTask, ScheduledTask
from pipelines.batch.workers.worker import DelayedStart, RayWorker, diagnose, pause_seconds
from vidinv.errors import VidinvError
from vidinv.interrupts import without_interrupts

RUNNER_CLASS = "pipelines.batch.stages.runner:StageRunner"
# Encoders may hold their frames back for as long as 300 s (vidinv.video.writer).
STALL_SECONDS = 360.0
START_SECONDS = 180.0  # imports take 5-8 s on idle cores
MAX_STARTS = 2
_ANSWER_SECONDS = 2.0  # an idle worker answers within milliseconds
# The longest time between two checks that counts: a driver that was stopped (Ctrl-Z, a disk that
# hangs) has seen nothing of its workers meanwhile.
_MAX_CHECK_SECONDS = 2.0
# Ray's many threads make glibc keep many arenas, each as large as it ever was. The most memory of a
# worker at 500 and at 3,000 frames of a clip was 1137 and 1675 MiB; with two arenas, 1036 and 1101.
_ENVIRONMENT = {"MALLOC_ARENA_MAX": "2"}


class RayWorkers:
    """A cluster connection and its workers; a context manager.

    Args:
        settings: of the stages.
        pools: workers of which kind.
        address: None starts Ray on this machine for the time of the run.
        dashboard: start Ray's dashboard too; a cluster has its own.
        stall_seconds: a task that moves no frame for so long is killed.
        start_seconds: so long a worker may take to start.
        runner_class: ``module:class`` of what runs the tasks.
        ray: the module, or what does its work; None imports it.
        monotonic, sleep: the clock that stalls are counted on, in seconds.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        pools: PoolRequest,
        address: str | None = None,
        dashboard: bool = False,
        stall_seconds: float = STALL_SECONDS,
        start_seconds: float = START_SECONDS,
        runner_class: str = RUNNER_CLASS,
        ray: Any = None,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._settings, self._pools, self._address = settings, pools, address
        self._dashboard, self._stall_seconds = dashboard, stall_seconds
        self._start_seconds, self._runner_class = start_seconds, runner_class
        self._monotonic, self._sleep = monotonic, sleep
        self._workers: list[RayWorker] = []
        self._delayed: list[DelayedStart] = []
        self._late: set[Pool] = set()
        self._failing: set[Pool] = set()
        self._last_check = monotonic()
        self._numbers = itertools.count(1)
        self._namespace = f"vidinv-{uuid.uuid4().hex[:8]}"
        self._owns_ray = False
        self._ray = ray
        self.facts: list[WorkerFacts] = []
        self.dashboard_url = ""
        self.tell: Callable[[str, str], None] = lambda text, details: None

    def __enter__(self) -> RayWorkers:
        self._ray = self._ray or import_ray()
        try:
            if not self._ray.is_initialized():
                self._owns_ray = True
                self.dashboard_url = connect(self._ray, self._address, dashboard=self._dashboard)
            nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
            for pool in choose_pools(nodes, self._pools):
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
        return len(self._slots)

    @property
    def running(self) -> list[RunningTask]:
        """Tasks in the workers."""
        return [RunningTask(w.task, w.frames, w.num_expected) for w in self._workers if w.task]

    def describe(self) -> str:
        """``2 workers (all stages) on Ray 2.60.0 at 127.0.0.1:6379``."""
        names = [slot.pool.name for slot in self._slots]
        pools = ", ".join(f"{names.count(n)} workers ({n})" for n in dict.fromkeys(names))
        where = self._address or "this machine"
        return f"{pools} on Ray {self._ray.__version__} at {where}"

    @property
    def process_ids(self) -> list[int]:
        """Of the workers that are up."""
        return [worker.pid for worker in self._workers if worker.pid]

    def start(self, task: ScheduledTask, payload: StageTask) -> bool:
        """Hand a task to a free worker for its stage; False when there is none."""
        for worker in list(self._workers):
            free = worker.pid and worker.task is None and task.stage.name in worker.pool.stages
            if free and self._is_responsive(worker):
                worker.task, worker.task_ref = task, worker.actor.run.remote(payload)
                worker.frames, worker.silent_seconds = 0, 0.0
                return True
        return False

    def wait_until_up(self) -> None:
        """Return when the first worker can take a task."""
        while not self.process_ids:
            self.wait(timeout_seconds=1.0)

    def wait(self, *, timeout_seconds: float) -> list[Outcome]:
        """Outcomes since the last call; returns when there is one or the time is over."""
        self._start_delayed()
        refs = {w.task_ref if w.task else w.address_ref: w for w in self._workers}
        refs = {ref: worker for ref, worker in refs.items() if ref is not None}
        if refs:
            ready, _ = self._ray.wait(list(refs), timeout=timeout_seconds)
        else:
            ready = []
            self._sleep(timeout_seconds)
        self._count_silence()
        outcomes = [self._take(refs[ref], ref) for ref in ready]
        for worker in list(self._workers):
            if worker.pid:
                self._poll(worker, timeout_seconds=0.0)
        outcomes += [self._kill(w) for w in list(self._workers) if self._is_stalled(w)]
        self._check_starts()
        return [outcome for outcome in outcomes if outcome is not None]

    @property
    def _slots(self) -> list[RayWorker | DelayedStart]:
        return [*self._workers, *self._delayed]

    def _start_delayed(self) -> None:
        due = [later for later in self._delayed if later.due <= self._monotonic()]
        self._delayed = [later for later in self._delayed if later not in due]
        self._workers += [self._start_worker(later.pool, later.failures) for later in due]

    def _count_silence(self) -> None:
        now = self._monotonic()
        passed, self._last_check = min(now - self._last_check, _MAX_CHECK_SECONDS), now
        for worker in self._workers:
            worker.silent_seconds += passed

    def _take(self, worker: RayWorker, ref: Any) -> Outcome | None:
        """What a finished call says: a worker that is up, a row, or a failure."""
        task = worker.task
        try:
            value = self._ray.get(ref)
        except self._ray.exceptions.RayError as error:
            return self._replace(worker, diagnose(self._ray, worker, error))
        if task is None:
            self._take_address(worker, value)
            return None
        result, heartbeat = value
        worker.task = worker.task_ref = None
        worker.take_heartbeat(heartbeat)
        return Outcome(task, result)

    def _take_address(self, worker: RayWorker, address: WorkerAddress) -> None:
        """A worker is up."""
        worker.node, worker.pid = address.node, address.pid
        worker.address_ref, worker.failures, worker.silent_seconds = None, 0, 0.0
        self._failing.discard(worker.pool)
        addresses = {n["NodeID"]: n["NodeManagerAddress"] for n in self._ray.nodes()}
        worker.facts.node = addresses.get(address.node, "")
        if worker.pool.num_gpus and not address.device.startswith("cuda"):
            name = worker.facts.name
            self.tell(f"{name} has a GPU, but its torch cannot use it: {address.device}", "")

    def _is_responsive(self, worker: RayWorker) -> bool:
        """An idle worker lives at this moment: no task is to be blamed for what was before it."""
        if worker.silent_seconds > _ANSWER_SECONDS:  # it does not; ``wait`` looks after it
            return False
        if worker.heartbeat_ref is not None and not self._poll(worker):
            return False
        return self._poll(worker)

    def _poll(self, worker: RayWorker, timeout_seconds: float = _ANSWER_SECONDS) -> bool:
        """Whether a worker says how far it is; an idle one that is dead is replaced."""
        if worker.heartbeat_ref is None:
            worker.heartbeat_ref = worker.actor.heartbeat.remote()
        ready, _ = self._ray.wait([worker.heartbeat_ref], timeout=timeout_seconds)
        if not ready:
            return False
        ref, worker.heartbeat_ref = worker.heartbeat_ref, None
        try:
            worker.take_heartbeat(self._ray.get(ref))
        except self._ray.exceptions.RayError as error:
            if worker.task is None:  # of a busy one, its task tells
                self._replace(worker, diagnose(self._ray, worker, error))
            return False
        return True

    def _is_stalled(self, worker: RayWorker) -> bool:
        return bool(worker.pid) and worker.silent_seconds > self._stall_seconds

    def _kill(self, worker: RayWorker) -> Outcome | None:
        nothing = "frame" if worker.task else "answer"
        cause = f"hung: no {nothing} for {self._stall_seconds:g} s; its worker was killed"
        return self._replace(worker, Failure(cause))

    def _replace(self, worker: RayWorker, failure: Failure) -> Outcome | None:
        """Start another worker in the place of one that is dead, or not to be trusted."""
        self._ray.kill(worker.actor)
        self._workers.remove(worker)
        if not worker.pid:
            self._start_later(worker, failure)
            return None
        self._workers.append(self._start_worker(worker.pool))
        if worker.task is None:
            told = f"{worker.facts.name} had no task and is replaced: {failure.cause}"
            self.tell(told, failure.details)
            return None
        return Outcome(worker.task, failure)

    def _start_later(self, worker: RayWorker, failure: Failure) -> None:
        """In the place of one that died before it was up, while others of its kind may work."""
        pool, failures = worker.pool, worker.failures + failure.blamed
        due = self._monotonic() + pause_seconds(failures)
        self._delayed.append(DelayedStart(pool, failures, due))
        # Of those that are up it is 0.
        others = [slot.failures for slot in self._slots if slot.pool == pool]
        if min(others) > 0 and sum(others) >= MAX_STARTS:
            raise VidinvError(f"workers cannot start: {failure.cause}")
        if pool not in self._failing:
            self._failing.add(pool)
            text = f"{worker.facts.name} could not start, and is tried again now and then"
            self.tell(f"{text}: {failure.cause}", failure.details)

    def _check_starts(self) -> None:
        """Without any worker for a stage there is nothing to wait for."""
        for pool in {worker.pool for worker in self._workers}:
            in_pool = [worker for worker in self._workers if worker.pool == pool]
            ups = [w.pid or w.silent_seconds <= self._start_seconds for w in in_pool]
            if all(ups):
                self._late.discard(pool)
                continue
            free = self._ray.available_resources()
            text = (
                f"of {len(ups)} workers ({pool.name}) {ups.count(False)} could not start within "
                f"{self._start_seconds:g} s: the Ray cluster has {free.get('CPU', 0):g} CPUs and "
                f"{free.get('GPU', 0):g} GPUs free"
            )
            if not any(ups):
                raise VidinvError(
                    f"{text}; end other work on it, add nodes, or run with fewer --workers; "
                    "then --resume"
                )
            if pool not in self._late:
                self._late.add(pool)
                self.tell(text, "")

    def _start_worker(self, pool: Pool, failures: int = 0) -> RayWorker:
        facts = WorkerFacts(f"{pool.name} {next(self._numbers)}")
        # On a machine with a GPU, "auto" would take it without reserving it.
        device = self._settings.device if pool.num_gpus else "cpu"
        # Two threads: the second one tells the progress while the first one works.
        actor = (
            self._ray.remote(StageActor)
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
            .remote(self._runner_class, replace(self._settings, device=device))
        )
        self.facts.append(facts)
        return RayWorker(pool, actor, actor.address.remote(), facts, failures)

    def _disconnect(self) -> None:
        with without_interrupts():
            for worker in self._workers:
                self._ray.kill(worker.actor)
            self._workers, self._delayed = [], []
            if self._owns_ray:
                self._ray.shutdown()
