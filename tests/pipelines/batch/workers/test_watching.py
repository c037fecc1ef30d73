"""How workers are watched: those that start, those that wait, those that work; without Ray."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from pipelines.batch.request.jobs import Job, Settings
from pipelines.batch.stages.clip_state import Clip
from pipelines.batch.stages.table import ANALYSE
from pipelines.batch.workers.pools import PoolRequest
from pipelines.batch.workers.protocol import ScheduledTask
from pipelines.batch.workers.ray_workers import RayWorkers
from tests.pipelines.batch.workers.fake_ray import DIED, DIED_AT_START, FakeRay
from vidinv.errors import VidinvError

STALL_SECONDS = 60.0


@pytest.fixture
def ray():
    return FakeRay()


@pytest.fixture
def workers_of(ray):
    """Connected, and the lines that they tell."""
    opened = []

    def make(num_workers, *, up=0):
        workers = RayWorkers(
            Settings("/pack", "1234", device="cpu"),
            pools=PoolRequest(num_workers=num_workers),
            stall_seconds=STALL_SECONDS,
            ray=ray,
            monotonic=ray.monotonic,
            sleep=ray.sleep,
        )
        told = []
        workers.tell = lambda text, details="": told.append(text)
        opened.append(workers.__enter__())
        for actor in ray.actors[:up]:
            actor.state = "up"
        workers.wait(timeout_seconds=1.0)
        assert len(workers.process_ids) == up
        return workers, told

    yield make
    for workers in opened:
        workers.__exit__(None, None, None)


def task_of(name) -> ScheduledTask:
    return ScheduledTask(ANALYSE, Clip(Job(name, name, {}), name, Path(name)))


def watch(ray, workers, *, seconds):
    """Outcomes of so many seconds, looked at each second, as a schedule does."""
    outcomes = []
    end = ray.now + seconds
    while ray.now < end:
        outcomes += workers.wait(timeout_seconds=1.0)
        ray.sleep(0.01)
    return outcomes


def test_workers_that_die_as_they_start_cost_nothing_while_another_works(ray, workers_of):
    workers, told = workers_of(2, up=1)
    assert workers.start(task_of("a"), {"name": "a"})
    ray.actors[1].state = ray.new_state = DIED_AT_START
    starts = []
    for frame in range(600):
        starts += [ray.now] * (len(ray.actors) - 2 - len(starts))
        ray.actors[0].frames = frame
        assert workers.wait(timeout_seconds=1.0) == []
    pauses = [b - a for a, b in itertools.pairwise(starts)]
    assert len(pauses) > 4
    assert all(2 * a - 3 < b < 2 * a + 3 for a, b in itertools.pairwise(pauses))
    (line,) = told
    assert line.startswith("all stages 2 could not start, and is tried again now and then: ")
    assert line.endswith("died before it was up: out of memory, killed, or a library crashed")
    assert (workers.count, len(workers.running)) == (2, 1)
    ray.new_state = "up"
    while len(workers.process_ids) < 2:
        ray.actors[0].frames += 1
        assert workers.wait(timeout_seconds=1.0) == []
    assert workers.start(task_of("b"), {"name": "b"})


def test_two_deaths_among_many_that_start_end_no_run(ray, workers_of):
    workers, told = workers_of(4)
    for actor in ray.actors[:2]:
        actor.state = DIED_AT_START
    watch(ray, workers, seconds=1)
    for actor in ray.actors[2:]:
        actor.state = "up"
    workers.wait_until_up()
    assert len(told) == 1
    watch(ray, workers, seconds=4)
    assert len(ray.actors) == 6


@pytest.mark.parametrize("num_workers", [1, 3])
def test_workers_of_which_none_can_start_end_the_run(ray, workers_of, num_workers):
    workers, _ = workers_of(num_workers)
    ray.new_state = DIED_AT_START
    for actor in ray.actors:
        actor.state = DIED_AT_START
    with pytest.raises(VidinvError, match=r"^workers cannot start: the process died before it was"):
        workers.wait_until_up()
    assert len(ray.actors) == max(2, num_workers)


def test_a_worker_that_died_while_it_waited_is_replaced_and_no_task_is_blamed(ray, workers_of):
    workers, told = workers_of(2, up=2)
    ray.actors[0].state = DIED
    assert workers.start(task_of("a"), {"name": "a"})
    assert [actor.tasks for actor in ray.actors] == [[], [{"name": "a"}], []]
    assert ray.actors[0].killed
    (line,) = told
    assert line.startswith("all stages 1 had no task and is replaced: the worker process 1 died")


def test_waiting_workers_are_watched_while_others_work(ray, workers_of):
    workers, told = workers_of(2, up=2)
    assert workers.start(task_of("a"), {"name": "a"})
    ray.actors[1].state = DIED
    assert watch(ray, workers, seconds=2) == []
    assert (len(ray.actors), len(told), len(workers.running)) == (3, 1, 1)


def test_a_waiting_worker_that_does_not_answer_gets_no_task_and_is_killed(ray, workers_of):
    workers, told = workers_of(1, up=1)
    ray.actors[0].state = "frozen"
    assert not workers.start(task_of("a"), {"name": "a"})
    assert watch(ray, workers, seconds=STALL_SECONDS + 5) == []
    assert (ray.actors[0].killed, ray.actors[0].tasks, len(ray.actors)) == (True, [], 2)
    assert "hung: no answer for 60 s" in told[0]


def test_a_driver_that_was_stopped_blames_no_worker(ray, workers_of):
    workers, told = workers_of(2, up=1)
    assert workers.start(task_of("a"), {"name": "a"})
    for _ in range(3):
        ray.now += 1000.0  # Ctrl-Z, or a disk that hangs; the other worker is still starting
        assert watch(ray, workers, seconds=10) == []
    assert not told
    ray.actors[0].frames = 1
    assert watch(ray, workers, seconds=STALL_SECONDS - 5) == []
    (outcome,) = watch(ray, workers, seconds=10)
    assert outcome.result.cause == "hung: no frame for 60 s; its worker was killed"
    assert outcome.result.blamed
