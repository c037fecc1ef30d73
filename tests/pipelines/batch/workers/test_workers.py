"""Workers as Ray actors: what they report, how they end, and those that cannot start."""

from __future__ import annotations

import os
import re
import signal
import time
from pathlib import Path

import psutil
import pytest

from pipelines.batch.request.jobs import Job
from pipelines.batch.stages.clip_state import Clip
from pipelines.batch.stages.table import ANALYSE
from pipelines.batch.stages.tasks import Failure
from pipelines.batch.workers.pools import PoolRequest
from pipelines.batch.workers.protocol import ScheduledTask
from pipelines.batch.workers.ray_workers import START_SECONDS, RayWorkers
from pipelines.batch.workers.worker import diagnose
from tests.pipelines.batch.workers.light import LightSettings, LightTask
from vidinv.errors import VidinvError

STALL_SECONDS = 2.0


def workers_of(num_workers=1, start_seconds=START_SECONDS, **settings):
    return RayWorkers(
        LightSettings(**settings),
        pools=PoolRequest(num_workers=num_workers),
        stall_seconds=STALL_SECONDS,
        start_seconds=start_seconds,
        runner_class="tests.pipelines.batch.workers.light:LightRunner",
    )


def task_of(name) -> ScheduledTask:
    return ScheduledTask(ANALYSE, Clip(Job(name, name, {}), name, Path(name)))


def outcome_of(workers, name):
    """Of one task, from its start to its end."""
    workers.wait_until_up()
    while not workers.start(task_of(name), LightTask(name)):
        workers.wait(timeout_seconds=0.2)
    while not (outcomes := workers.wait(timeout_seconds=0.2)):
        pass
    (outcome,) = outcomes
    return outcome


def test_a_task_gives_its_row_and_the_worker_is_free_again(local_ray):
    with workers_of() as workers:
        first, second = outcome_of(workers, "a"), outcome_of(workers, "b")
        assert (first.result.name, second.result.name) == ("a", "b")
        assert first.result.pid == second.result.pid
        assert first.result.arenas == "2"  # or its memory grows with its clips
        assert workers.running == []
        (facts,) = workers.facts
        assert facts.name == "all stages 1"
        assert facts.node
        assert 20 < facts.peak_rss_mb < 1000
        assert "1 workers (all stages) on Ray" in workers.describe()


def ended(pid) -> bool:
    deadline = time.monotonic() + 10
    while psutil.pid_exists(pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    return not psutil.pid_exists(pid)


@pytest.mark.parametrize(
    ("name", "death"),
    [
        ("die", r"the worker process \d+ died"),
        ("hang", "hung: no frame for 2 s; its worker was killed"),
        pytest.param(
            "freeze", "hung: no frame for 2 s; its worker was killed", marks=pytest.mark.slow
        ),
        ("raise", "^RuntimeError: a mistake of ours$"),
    ],
)
def test_another_worker_takes_the_place_of_one_that_failed(local_ray, name, death):
    with workers_of() as workers:
        pid = outcome_of(workers, "a").result.pid
        bad = outcome_of(workers, name)
        assert isinstance(bad.result, Failure)
        assert bad.result.blamed
        assert re.search(death, bad.result.cause)
        assert outcome_of(workers, "b").result.pid != pid
        assert ended(pid)
        assert [facts.name[-1] for facts in workers.facts] == ["1", "2"]


def test_a_slow_task_that_moves_is_left_alone(local_ray):
    with workers_of() as workers:
        assert outcome_of(workers, "slow").result.name == "slow"


def test_a_machine_low_on_memory_is_told_in_one_line(local_ray):
    error = local_ray.exceptions.OutOfMemoryError("1 worker(s) were killed\nTop 10 memory users:\n")
    with workers_of() as workers:
        workers.wait_until_up()
        failure = diagnose(local_ray, workers._workers[0], error)
    assert "ran low on memory; fewer --workers help" in failure.cause
    assert "Top 10 memory users" in failure.details
    assert failure.blamed


def test_a_node_that_dies_while_its_workers_start_is_not_held_against_them(local_ray):
    error = local_ray.exceptions.RayError("The actor died because its node has died.")
    with workers_of() as workers:
        failure = diagnose(local_ray, workers._workers[0], error)  # it has no place yet
    assert (failure.cause, failure.blamed) == ("its node was lost", False)


@pytest.mark.parametrize(
    ("broken", "cause"),
    [
        ("raise", "ValueError: weights are missing"),
        ("die", "the process died before it was up: out of memory, killed, or a library crashed"),
    ],
)
def test_workers_that_cannot_start_end_the_run_with_the_reason(local_ray, broken, cause):
    with (
        workers_of(broken=broken) as workers,
        pytest.raises(VidinvError, match=rf"^workers cannot start: {cause}$"),
    ):
        workers.wait_until_up()


def test_the_death_of_a_worker_that_waited_is_not_blamed_on_the_next_task(local_ray):
    with workers_of() as workers:
        workers.wait_until_up()
        (pid,) = workers.process_ids
        os.kill(pid, signal.SIGKILL)
        assert ended(pid)
        assert outcome_of(workers, "a").result.name == "a"


def test_a_cluster_that_others_have_filled_is_no_silent_hang(local_ray):
    with workers_of(num_workers=4) as others:
        while len(others.process_ids) < 4:
            others.wait(timeout_seconds=0.2)
        began = time.monotonic()
        message = r"of 2 workers \(.*\) 2 could not start within 1 s: .* 0 CPUs and 0 GPUs free"
        late = workers_of(num_workers=2, start_seconds=1.0)
        with late as workers, pytest.raises(VidinvError, match=message):
            workers.wait_until_up()
        assert time.monotonic() - began < 10


def test_a_run_goes_on_with_the_workers_that_could_start(local_ray):
    with workers_of(num_workers=3) as others:
        while len(others.process_ids) < 3:
            others.wait(timeout_seconds=0.2)
        with workers_of(num_workers=2, start_seconds=4.0) as workers:
            told = []
            workers.tell = lambda text, details: told.append(text)
            assert outcome_of(workers, "slow").result.name == "slow"
            assert len(told) == 1
            assert "of 2 workers" in told[0]
            assert "1 could not start within 4 s" in told[0]
