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
from types import TracebackType
from typing import Any

from pipelines.batch.stages.tasks import Outcome, Row, Running, Task
from pipelines.batch.workers.cluster import connect, import_ray
from pipelines.batch.workers.host import Host, Place, WorkerFacts
from pipelines.batch.workers.pools import Pool, Wish, choose_pools
from pipelines.batch.workers.worker import Death, LaterStart, Worker, how_it_died, pause_seconds
from vidinv.errors import VidinvError
from vidinv.interrupts import without_interrupts

STAGES_CLASS = "pipelines.batch.stages.functions:Stages"
# Encoders may hold their frames back for as long as 300 s (vidinv.video.writer).
STALL_SECONDS = 360.0
START_SECONDS = 180.0  # imports take 5-8 s on idle cores
MAX_STARTS = 2
_ANSWER_SECONDS = 2.0  # an idle worker answers within milliseconds
# The longest time between two looks that counts: a driver that was stopped (Ctrl-Z, a disk that
# hangs) has seen nothing of its workers meanwhile.
_LOOK_SECONDS = 2.0
# Ray's many threads make glibc keep many arenas, each as large as it ever was. The most memory of a
# worker at 500 and at 3,000 frames of a clip was 1137 and 1675 MiB; with two arenas, 1036 and 1101.
_ENVIRONMENT = {"MALLOC_ARENA_MAX": "2"}


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
        self._workers: list[Worker] = []
        self._later: list[LaterStart] = []
        self._late: set[Pool] = set()
        self._failing: set[Pool] = set()
        self._looked = time.monotonic()
        self._numbers = itertools.count(1)
        self._namespace = f"vidinv-{uuid.uuid4().hex[:8]}"
        self._owns_ray = False
        self._ray: Any = None
        self.facts: list[WorkerFacts] = []
        self.dashboard_url = ""
        self.tell: Callable[[str, str], None] = lambda text, details: None

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
        return len(self._places)

    @property
    def running(self) -> list[Running]:
        """Tasks in the workers."""
        return [Running(w.task, w.frames, w.num_expected) for w in self._workers if w.task]

    def describe(self) -> str:
        """``2 workers (all stages) on Ray 2.60.0 at 127.0.0.1:6379``."""
        names = [place.pool.name for place in self._places]
        pools = ", ".join(f"{names.count(n)} workers ({n})" for n in dict.fromkeys(names))
        where = self._address or "this machine"
        return f"{pools} on Ray {self._ray.__version__} at {where}"

    @property
    def process_ids(self) -> list[int]:
        """Of the workers that are up."""
        return [worker.pid for worker in self._workers if worker.pid]

    def start(self, task: Task, payload: Row) -> bool:
        """Hand a task to a free worker for its stage; False when there is none."""
        for worker in list(self._workers):
            free = worker.pid and worker.task is None and task.stage in worker.pool.stages
            if free and self._answers(worker):
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
        self._start_what_is_due()
        refs = {w.task_ref if w.task else w.place_ref: w for w in self._workers}
        refs = {ref: worker for ref, worker in refs.items() if ref is not None}
        if refs:
            ready, _ = self._ray.wait(list(refs), timeout=timeout_seconds)
        else:
            ready = []
            time.sleep(timeout_seconds)
        self._note_time()
        outcomes = [self._take(refs[ref], ref) for ref in ready]
        for worker in list(self._workers):
            if worker.pid:
                self._hear(worker, timeout_seconds=0.0)
        outcomes += [self._kill(w) for w in list(self._workers) if self._is_stalled(w)]
        self._check_starts()
        return [outcome for outcome in outcomes if outcome is not None]

    @property
    def _places(self) -> list[Worker | LaterStart]:
        return [*self._workers, *self._later]

    def _start_what_is_due(self) -> None:
        due = [later for later in self._later if later.due <= time.monotonic()]
        self._later = [later for later in self._later if later not in due]
        self._workers += [self._start_worker(later.pool, later.failures) for later in due]

    def _note_time(self) -> None:
        now = time.monotonic()
        passed, self._looked = min(now - self._looked, _LOOK_SECONDS), now
        for worker in self._workers:
            worker.silent_seconds += passed

    def _take(self, worker: Worker, ref: Any) -> Outcome | None:
        """What a finished call says: a worker that is up, a row, or a death."""
        task = worker.task
        try:
            value = self._ray.get(ref)
        except self._ray.exceptions.RayError as error:
            return self._replace(worker, how_it_died(self._ray, worker, error))
        if task is None:
            self._settle(worker, value)
            return None
        row, report = value
        worker.task = worker.task_ref = None
        worker.note_report(report)
        return Outcome(task, row=row)

    def _settle(self, worker: Worker, place: Place) -> None:
        """A worker is up."""
        worker.node, worker.pid = place.node, place.pid
        worker.place_ref, worker.failures, worker.silent_seconds = None, 0, 0.0
        self._failing.discard(worker.pool)
        addresses = {n["NodeID"]: n["NodeManagerAddress"] for n in self._ray.nodes()}
        worker.facts.node = addresses.get(place.node, "")
        if worker.pool.num_gpus and not place.device.startswith("cuda"):
            name = worker.facts.name
            self.tell(f"{name} has a GPU, but its torch cannot use it: {place.device}", "")

    def _answers(self, worker: Worker) -> bool:
        """An idle worker lives at this moment: no task is to be blamed for what was before it."""
        if worker.silent_seconds > _ANSWER_SECONDS:  # it does not; ``wait`` looks after it
            return False
        if worker.report_ref is not None and not self._hear(worker):
            return False
        return self._hear(worker)

    def _hear(self, worker: Worker, timeout_seconds: float = _ANSWER_SECONDS) -> bool:
        """Whether a worker says how far it is; an idle one that is dead is replaced."""
        if worker.report_ref is None:
            worker.report_ref = worker.actor.report.remote()
        ready, _ = self._ray.wait([worker.report_ref], timeout=timeout_seconds)
        if not ready:
            return False
        ref, worker.report_ref = worker.report_ref, None
        try:
            worker.note_report(self._ray.get(ref))
        except self._ray.exceptions.RayError as error:
            if worker.task is None:  # of a busy one, its task tells
                self._replace(worker, how_it_died(self._ray, worker, error))
            return False
        return True

    def _is_stalled(self, worker: Worker) -> bool:
        return bool(worker.pid) and worker.silent_seconds > self._stall_seconds

    def _kill(self, worker: Worker) -> Outcome | None:
        nothing = "frame" if worker.task else "answer"
        death = f"hung: no {nothing} for {self._stall_seconds:g} s; its worker was killed"
        return self._replace(worker, Death(death))

    def _replace(self, worker: Worker, death: Death) -> Outcome | None:
        """Start another worker in the place of one that is dead, or not to be trusted."""
        self._ray.kill(worker.actor)
        self._workers.remove(worker)
        if not worker.pid:
            self._start_later(worker, death)
            return None
        self._workers.append(self._start_worker(worker.pool))
        if worker.task is None:
            told = f"{worker.facts.name} had no task and is replaced: {death.cause}"
            self.tell(told, death.details)
            return None
        return Outcome(worker.task, death=death.cause, blamed=death.blamed, details=death.details)

    def _start_later(self, worker: Worker, death: Death) -> None:
        """In the place of one that died before it was up, while others of its kind may work."""
        pool, failures = worker.pool, worker.failures + death.blamed
        due = time.monotonic() + pause_seconds(failures)
        self._later.append(LaterStart(pool, failures, due))
        # Of those that are up it is 0.
        others = [place.failures for place in self._places if place.pool == pool]
        if min(others) > 0 and sum(others) >= MAX_STARTS:
            raise VidinvError(f"workers cannot start: {death.cause}")
        if pool not in self._failing:
            self._failing.add(pool)
            text = f"{worker.facts.name} could not start, and is tried again now and then"
            self.tell(f"{text}: {death.cause}", death.details)

    def _check_starts(self) -> None:
        """Without any worker for a stage there is nothing to wait for."""
        for pool in {worker.pool for worker in self._workers}:
            in_pool = [worker for worker in self._workers if worker.pool == pool]
            ups = [w.pid or w.silent_seconds <= START_SECONDS for w in in_pool]
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
                self.tell(text, "")

    def _start_worker(self, pool: Pool, failures: int = 0) -> Worker:
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
        return Worker(pool, actor, actor.place.remote(), facts, failures)

    def _disconnect(self) -> None:
        with without_interrupts():
            for worker in self._workers:
                self._ray.kill(worker.actor)
            self._workers, self._later = [], []
            if self._owns_ray:
                self._ray.shutdown()
