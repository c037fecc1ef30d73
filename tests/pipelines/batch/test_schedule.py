"""The schedule with workers of this process: order, second attempts, quarantine, what is redone."""

from __future__ import annotations

import dataclasses
import io
import itertools
from pathlib import Path

import pytest

from pipelines.batch.request.jobs import Job
from pipelines.batch.schedule import Schedule
from pipelines.batch.stages.analyse import AnalyseResult
from pipelines.batch.stages.edit_result import EditResult
from pipelines.batch.stages.render import RenderResult
from pipelines.batch.stages.report_clip import ReportResult
from pipelines.batch.stages.tasks import Completed, Failure, ReportOptions
from pipelines.batch.status.journal import Journal
from pipelines.batch.status.progress import RunMonitor
from pipelines.batch.workers.protocol import Outcome, RunningTask
from vidinv.errors import EncodeError
from vidinv.report import report_files
from vidinv.types import IdentitySummary

SMILE = {"smile": ((0.0, 1.0),)}
SEGMENTS = 3


class FakeWorkers:
    """Do every task at once, in order; ``fail`` maps (clip, stage, segment) to failures."""

    def __init__(self, fail=None, warnings=None, *, count=2):
        self.count = count
        self.done, self.fail, self.warnings = [], fail or {}, warnings or {}
        self._busy = []

    @property
    def running(self):
        return [RunningTask(task, 0) for task, _ in self._busy]

    def start(self, task, payload):
        if len(self._busy) == self.count:
            return False
        self._busy.append((task, payload))
        return True

    def wait(self, *, timeout_seconds):
        assert self._busy, "nothing runs and nothing can start"
        task, payload = self._busy.pop(0)
        place = (Path(task.clip.job.input).stem, task.stage.name, task.segment)
        self.done.append(place)
        failures = self.fail.get(place, [])
        if failures:
            return [Outcome(task, failures.pop(0))]
        return [Outcome(task, Completed(self.result_of(task, payload), 1.0))]

    def result_of(self, task, payload):
        match task.stage.name:
            case "analyse":
                payload.folder.mkdir(parents=True, exist_ok=True)
                (payload.folder / "plan.safetensors").touch()
                return AnalyseResult(30, (10,) * SEGMENTS)
            case "render":
                name = f"{payload.segment}.nut"
                (payload.folder / name).touch()
                return RenderResult(name, tuple(self.warnings.get(payload.segment, ())))
            case "report":
                page = payload.root / payload.page
                page.parent.mkdir(exist_ok=True)
                for path in report_files(page):
                    path.write_bytes(b"report")
                return ReportResult({"status": "done", "page": payload.page})
        assert payload.files == tuple(f"{n}.nut" for n in range(SEGMENTS))
        payload.output.write_bytes(b"edit")
        return EditResult(30, 30, 0, (), IdentitySummary(), payload.warnings)


def failed(cause, *, retry=True, disk_full=False):
    return Failure(cause, retry=retry, disk_full=disk_full)


def killed(times=1):
    return [Failure("killed")] * times


def lost(times):
    return [Failure("node lost", blamed=False)] * times


@pytest.fixture
def jobs(tmp_path):
    for name in ("a", "b"):
        (tmp_path / f"{name}.mp4").write_bytes(b"clip")
    stamp = {"size": 4}
    return [Job(str(tmp_path / f"{n}.mp4"), f"{n}.mp4", SMILE, stamp=stamp) for n in ("a", "b")]


def run(jobs, tmp_path, workers, *, reports=None, monitor=None):
    output = tmp_path / "out"
    journal = Journal(output)
    monitor = monitor or RunMonitor(tmp_path / "log", num_workers=2, stream=io.StringIO())
    how = {"journal": journal, "workers": workers, "monitor": monitor, "reports": reports}
    try:
        return Schedule(jobs, output=output, **how).run()
    finally:
        journal.close()
        monitor.close()


def test_every_clip_goes_through_every_stage(jobs, tmp_path):
    workers = FakeWorkers()
    rows = run(jobs, tmp_path, workers)
    assert [row["status"] for row in rows] == ["done", "done"]
    assert rows[0]["seconds"] == {"analyse": 1.0, "render": 3.0, "join": 1.0}
    for clip in ("a", "b"):
        stages = [(stage, segment) for name, stage, segment in workers.done if name == clip]
        renders = [("render", n) for n in range(SEGMENTS)]
        assert stages == [("analyse", None), *renders, ("join", None)]


def test_a_finished_clip_leaves_no_work_files(jobs, tmp_path):
    run(jobs, tmp_path, FakeWorkers())
    assert not list((tmp_path / "out" / ".vidinv-batch" / "work").iterdir())


def test_a_worker_that_dies_once_is_forgiven(jobs, tmp_path):
    workers = FakeWorkers({("a", "render", 1): killed()})
    assert [row["status"] for row in run(jobs, tmp_path, workers)] == ["done", "done"]
    assert workers.done.count(("a", "render", 1)) == 2


def test_a_segment_that_kills_two_workers_is_quarantined_and_the_rest_done(jobs, tmp_path):
    workers = FakeWorkers({("a", "render", 1): killed(2)})
    bad, good = run(jobs, tmp_path, workers)
    assert (bad["status"], bad["stage"], bad["segment"]) == ("quarantined", "render", 1)
    assert (bad["cause"], bad["attempts"]) == ("killed", 2)
    assert good["status"] == "done"
    assert ("a", "join", None) not in workers.done


def test_lost_nodes_are_not_held_against_a_segment(jobs, tmp_path):
    workers = FakeWorkers({("a", "render", 1): lost(5)})
    assert [row["status"] for row in run(jobs, tmp_path, workers)] == ["done", "done"]


def test_a_task_that_loses_worker_after_worker_is_given_up(jobs, tmp_path):
    workers = FakeWorkers({("a", "render", 1): lost(99)})
    bad, good = run(jobs, tmp_path, workers)
    assert (bad["cause"], good["status"]) == ("node lost", "done")


def test_what_cannot_get_better_is_not_tried_again(jobs, tmp_path):
    workers = FakeWorkers({("a", "analyse", None): [failed("damaged", retry=False)]})
    bad, _ = run(jobs, tmp_path, workers)
    assert (bad["stage"], bad["cause"], bad["attempts"]) == ("analyse", "damaged", 1)


def test_a_failure_that_may_pass_is_tried_again(jobs, tmp_path):
    workers = FakeWorkers({("b", "join", None): [failed("hiccup")]})
    assert [row["status"] for row in run(jobs, tmp_path, workers)] == ["done", "done"]


def test_a_full_disk_ends_the_run_and_it_can_be_resumed(jobs, tmp_path):
    full = failed("a.nut: the disk is full", disk_full=True)
    with pytest.raises(EncodeError, match=r"disk is full; make room.*--resume"):
        run(jobs, tmp_path, FakeWorkers({("a", "render", 2): [full]}))
    workers = FakeWorkers()
    assert [row["status"] for row in run(jobs, tmp_path, workers)] == ["done", "done"]
    assert ("a", "render", 0) not in workers.done
    assert ("a", "analyse", None) not in workers.done


def test_finished_clips_are_not_done_again_unless_their_output_is_gone(jobs, tmp_path):
    first = run(jobs, tmp_path, FakeWorkers())
    workers = FakeWorkers()
    assert run(jobs, tmp_path, workers) == first
    assert workers.done == []
    (tmp_path / "out" / "b.mp4").unlink()
    run(jobs, tmp_path, workers)
    assert {name for name, *_ in workers.done} == {"b"}


def test_an_empty_output_is_none(jobs, tmp_path):
    run(jobs, tmp_path, FakeWorkers())
    (tmp_path / "out" / "b.mp4").write_bytes(b"")
    workers = FakeWorkers()
    run(jobs, tmp_path, workers)
    assert {name for name, *_ in workers.done} == {"b"}


def test_more_dead_links_than_workers_do_not_stop_the_run(jobs, tmp_path):
    links = [Job(f"http://host/{n}.mp4", f"{n}.mp4", SMILE) for n in range(6)]
    fail = {(f"{n}", "fetch", None): [failed("gone"), failed("gone")] for n in range(6)}
    rows = run([*links, *jobs], tmp_path, FakeWorkers(fail))
    assert [row["status"] for row in rows] == ["quarantined"] * 6 + ["done"] * 2
    assert {row["attempts"] for row in rows[:6]} == {2}


def test_what_an_encoder_says_of_segments_is_said_of_the_clip(jobs, tmp_path):
    said = {0: ["odd size"], 2: ["odd size", "times rounded"]}
    first, _ = run(jobs, tmp_path, FakeWorkers(warnings=said))
    assert first["warnings"] == ["odd size", "odd size", "times rounded"]


def test_every_second_of_a_task_counts_up_to_its_end(jobs, tmp_path):
    clock = itertools.count(0.0).__next__  # one second at each look
    how = {"stream": io.StringIO(), "monotonic": clock}
    monitor = RunMonitor(tmp_path / "log", num_workers=1, **how)
    run(jobs, tmp_path, FakeWorkers(count=1), monitor=monitor)
    throughput = monitor.throughput
    assert {"analyse", "render", "join"} == {*throughput.busy}
    assert sum(throughput.busy.values()) == throughput.seconds > 0


def test_quarantined_clips_are_tried_again_by_the_next_run(jobs, tmp_path):
    run(jobs, tmp_path, FakeWorkers({("a", "analyse", None): [failed("gone", retry=False)]}))
    rows = run(jobs, tmp_path, FakeWorkers())
    assert [row["status"] for row in rows] == ["done", "done"]


def test_few_clips_are_half_done_at_a_time(tmp_path):
    for number in range(20):
        (tmp_path / f"{number}.mp4").write_bytes(b"clip")
    jobs = [Job(str(tmp_path / f"{n}.mp4"), f"{n}.mp4", SMILE) for n in range(20)]
    workers = FakeWorkers()
    run(jobs, tmp_path, workers)
    begun, most = set(), 0
    for name, stage, _ in workers.done:
        begun.add(name)
        if stage == "join":
            begun.remove(name)
        most = max(most, len(begun))
    assert most <= 4


def test_a_clip_that_could_not_be_joined_is_rendered_anew(jobs, tmp_path):
    """One of its segments may be damaged, which only their joining tells."""
    damaged = failed("0.nut: end of file", retry=True)
    first, _ = run(jobs, tmp_path, FakeWorkers({("a", "join", None): [damaged, damaged]}))
    assert (first["status"], first["stage"]) == ("quarantined", "join")
    workers = FakeWorkers()
    assert [row["status"] for row in run(jobs, tmp_path, workers)] == ["done", "done"]
    assert [stage for _, stage, _ in workers.done] == ["analyse", *["render"] * SEGMENTS, "join"]


def test_a_plan_that_is_gone_is_made_again(jobs, tmp_path):
    run(jobs, tmp_path, FakeWorkers({("a", "render", 1): killed(2)}))
    (plan,) = (tmp_path / "out" / ".vidinv-batch" / "work").rglob("plan.safetensors")
    plan.unlink()
    workers = FakeWorkers()
    assert [row["status"] for row in run(jobs, tmp_path, workers)] == ["done", "done"]
    assert ("a", "analyse", None) in workers.done


def test_an_output_of_another_file_is_put_aside_when_its_clip_fails(jobs, tmp_path):
    """Neither lost nor taken for the edit that the manifest says was not made."""
    run(jobs, tmp_path, FakeWorkers())
    jobs[0] = dataclasses.replace(jobs[0], stamp={"size": 1})
    (tmp_path / "out" / "a.mp4").write_bytes(b"old edit")
    bad = failed("damaged", retry=False)
    first, _ = run(jobs, tmp_path, FakeWorkers({("a", "analyse", None): [bad]}))
    assert first["status"] == "quarantined"
    assert not (tmp_path / "out" / "a.mp4").exists()
    stale = tmp_path / "out" / ".vidinv-batch" / "stale" / "a.mp4"
    assert stale.read_bytes() == b"old edit"


def test_work_for_a_file_that_was_changed_is_cleared_up(jobs, tmp_path):
    run(jobs, tmp_path, FakeWorkers({("a", "render", 1): killed(2)}))
    work = tmp_path / "out" / ".vidinv-batch" / "work"
    assert [path.name for path in work.iterdir()] == [jobs[0].id]
    run(jobs[1:], tmp_path, FakeWorkers())  # not asked for now: it may be again
    assert [path.name for path in work.iterdir()] == [jobs[0].id]
    run([dataclasses.replace(jobs[0], stamp={"size": 1})], tmp_path, FakeWorkers())
    assert list(work.iterdir()) == []


def test_reports_of_what_is_made_anew_without_one_are_put_aside(jobs, tmp_path):
    output, index = tmp_path / "out", tmp_path / "out" / "report.html"
    run(jobs, tmp_path, FakeWorkers(), reports=ReportOptions())
    index.write_bytes(b"index")
    run(jobs, tmp_path, FakeWorkers())
    assert index.exists()  # nothing was made
    (output / "a.mp4").unlink()
    run(jobs, tmp_path, FakeWorkers())
    kept = {path.name for path in output.rglob("*.*") if "stale" not in path.parts}
    assert {"a.mp4", "b.mp4", "b.mp4.html", "b.mp4.json", "b.mp4.csv"} <= kept
    stale = output / ".vidinv-batch" / "stale"
    moved = {str(path.relative_to(stale)) for path in stale.rglob("*.*")}
    assert moved == {"report.html", *(f"reports/a.mp4.{kind}" for kind in ("html", "json", "csv"))}
    assert not kept & {Path(name).name for name in moved}


def test_a_report_of_a_clip_that_fails_now_goes_with_its_output(jobs, tmp_path):
    run(jobs, tmp_path, FakeWorkers(), reports=ReportOptions())
    jobs[0] = dataclasses.replace(jobs[0], stamp={"size": 1})
    bad = failed("damaged", retry=False)
    run(jobs, tmp_path, FakeWorkers({("a", "analyse", None): [bad]}), reports=ReportOptions())
    assert [path.name for path in (tmp_path / "out" / "reports").glob("*.html")] == ["b.mp4.html"]


def test_a_page_of_somebody_else_stays_where_it_is(jobs, tmp_path):
    page = tmp_path / "out" / "report.html"
    page.parent.mkdir()
    page.write_bytes(b"theirs")
    run(jobs, tmp_path, FakeWorkers())
    assert page.read_bytes() == b"theirs"


def test_a_remote_clip_that_is_done_stays_so_while_its_server_is_silent(tmp_path):
    job = Job("https://host/a.mp4", "a.mp4", SMILE, stamp={"size": 4})
    output = tmp_path / "out"
    (output / "a.mp4").parent.mkdir(parents=True)
    (output / "a.mp4").write_bytes(b"edit")
    journal = Journal(output)
    row = {"status": "done", "output": "a.mp4", "frames": 30, "seconds": {}}
    journal.append({"event": "finished", "clip": job.id, "row": row})
    journal.close()
    workers = FakeWorkers()
    assert run([dataclasses.replace(job, stamp={})], tmp_path, workers) == [row]
    assert workers.done == []


@pytest.mark.parametrize("reports", [None, ReportOptions()])
def test_a_file_that_was_changed_back_is_edited_again(jobs, tmp_path, reports):
    """Its first output is gone: the one that is there is of the file in between."""
    changed = [dataclasses.replace(jobs[0], stamp={"size": 1}), jobs[1]]
    for version in (jobs, changed, jobs):
        workers = FakeWorkers()
        run(version, tmp_path, workers, reports=reports)
        assert ("a", "join", None) in workers.done
    assert ("b", "join", None) not in workers.done
