"""Reports of a data set: after the clip, never against it; made later where they are missing."""

from __future__ import annotations

import io
import json
import os
import shutil
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import pytest

from pipelines.batch.request.jobs import Job
from pipelines.batch.schedule import Schedule
from pipelines.batch.stages.picture import PictureTask
from pipelines.batch.stages.report_clip import MAX_EMBEDDINGS, ReportResult, ReportTask
from pipelines.batch.stages.runner import StageRunner
from pipelines.batch.stages.table import REPORT
from pipelines.batch.stages.tasks import Failure, ReportOptions
from pipelines.batch.status.journal import Journal
from pipelines.batch.status.progress import RunMonitor
from pipelines.batch.status.reports import (
    check_pages,
    figures,
    index_row,
    page_name,
    write_data_set_page,
)
from tests.pipelines.batch.command_line import batch_with
from tests.pipelines.batch.conftest import FRAMES
from tests.pipelines.batch.in_process import InProcessWorkers
from tests.pipelines.batch.stages.test_segments import make_stages, result_of, run_stages
from tests.pipelines.batch.test_schedule import SEGMENTS, SMILE, FakeWorkers, failed
from tests.report.made_up import make_report
from tests.report.test_page import parse
from tests.video.clips import images_of, write_clip
from vidinv.errors import EncodeError, UsageError
from vidinv.report.model import MAX_PAIRS
from vidinv.video import write_image

CAUSE = "the recognition net is gone"


class ReportingWorkers(FakeWorkers):
    """Write an empty page for every report."""

    def result_of(self, task, payload):
        if task.stage is not REPORT:
            return super().result_of(task, payload)
        assert payload.output.is_file()
        page = payload.root / payload.page
        page.parent.mkdir(parents=True, exist_ok=True)
        page.touch()
        inversion = payload.options.inversion
        return ReportResult({"status": "done", "page": payload.page, "inversion": inversion})


@pytest.fixture
def jobs(tmp_path):
    for name in ("a", "b"):
        (tmp_path / f"{name}.mp4").write_bytes(b"clip")
    return [Job(str(tmp_path / f"{n}.mp4"), f"deep/{n}.mp4", SMILE) for n in ("a", "b")]


def run(jobs, tmp_path, workers, *, reports=True):
    output = tmp_path / "out"
    (output / "deep").mkdir(parents=True, exist_ok=True)
    journal = Journal(output)
    monitor = RunMonitor(tmp_path / "log", num_workers=2, stream=io.StringIO())
    options = ReportOptions() if reports else None
    try:
        schedule = Schedule(
            jobs, output=output, journal=journal, workers=workers, monitor=monitor, reports=options
        )
        return schedule.run()
    finally:
        journal.close()
        monitor.close()


def test_every_clip_gets_its_report_before_the_next_is_finished(jobs, tmp_path):
    workers = ReportingWorkers()
    rows = run(jobs, tmp_path, workers)
    assert [row["report"]["page"] for row in rows] == [
        "reports/deep/a.mp4.html",
        "reports/deep/b.mp4.html",
    ]
    assert rows[0]["seconds"] == {"analyse": 1.0, "render": SEGMENTS, "join": 1.0, "report": 1.0}
    stages = [stage for name, stage, _ in workers.done if name == "a"]
    assert stages == ["analyse", *["render"] * SEGMENTS, "join", "report"]
    assert not list((tmp_path / "out" / ".vidinv-batch" / "work").iterdir())


@pytest.mark.parametrize(
    ("answers", "attempts"),
    [([failed(CAUSE, retry=False)], 1), ([failed(CAUSE)] * 2, 2), ([Failure(CAUSE)] * 2, 2)],
)
def test_a_report_that_fails_leaves_the_clip_done_and_says_why(jobs, tmp_path, answers, attempts):
    workers = ReportingWorkers({("a", "report", None): list(answers)})
    bad, good = run(jobs, tmp_path, workers)
    assert (bad["status"], bad["frames"]) == ("done", 30)
    assert bad["report"] == {"status": "failed", "cause": CAUSE}
    assert good["report"]["status"] == "done"
    assert workers.done.count(("a", "report", None)) == attempts


def test_a_full_disk_ends_the_run_and_the_next_one_makes_the_report(jobs, tmp_path):
    full = failed("the disk is full", disk_full=True)
    with pytest.raises(EncodeError, match="--resume"):
        run(jobs, tmp_path, ReportingWorkers({("a", "report", None): [full]}))
    workers = ReportingWorkers()
    assert all(row["report"]["status"] == "done" for row in run(jobs, tmp_path, workers))
    assert [stage for name, stage, _ in workers.done if name == "a"] == ["report"]


def test_a_clip_whose_report_was_not_made_is_done_for_a_run_without_reports(jobs, tmp_path):
    full = failed("the disk is full", disk_full=True)
    with pytest.raises(EncodeError):
        run(jobs, tmp_path, ReportingWorkers({("a", "report", None): [full]}))
    workers = FakeWorkers()
    rows = run(jobs, tmp_path, workers, reports=False)
    assert [row["status"] for row in rows] == ["done", "done"]
    assert "a" not in {name for name, *_ in workers.done}


def test_the_next_run_makes_missing_reports_and_nothing_else(jobs, tmp_path):
    before = run(jobs, tmp_path, FakeWorkers(), reports=False)
    assert "report" not in before[0]
    workers = ReportingWorkers({("b", "report", None): [failed(CAUSE, retry=False)]})
    run(jobs, tmp_path, workers)
    assert workers.done == [("a", "report", None), ("b", "report", None)]
    again = ReportingWorkers()
    rows = run(jobs, tmp_path, again)
    assert again.done == [("b", "report", None)]
    assert rows[0] == {
        **before[0],
        "report": rows[0]["report"],
        "seconds": {**before[0]["seconds"], "report": 1.0},
    }
    (tmp_path / "out" / page_name("deep/a.mp4")).unlink()
    third = ReportingWorkers()
    run(jobs, tmp_path, third)
    assert third.done == [("a", "report", None)]


def history(*outputs, has_reports=False):
    return SimpleNamespace(outputs=set(outputs), has_reports=has_reports)


def test_pages_that_no_run_has_made_are_not_replaced(jobs, tmp_path):
    page = tmp_path / page_name("deep/a.mp4")
    page.parent.mkdir(parents=True)
    page.touch()
    with pytest.raises(UsageError, match=r"a\.mp4\.html exists and is not from an earlier run"):
        check_pages(tmp_path, jobs, history())
    with pytest.raises(UsageError, match=r"a\.mp4\.html exists"):
        check_pages(tmp_path, jobs, history("deep/a.mp4"))  # it made outputs, and no reports
    check_pages(tmp_path, jobs, history("deep/a.mp4", has_reports=True))
    page.unlink()
    for suffix in (".json", ".csv"):
        beside = page.with_suffix(suffix)
        beside.touch()
        with pytest.raises(UsageError, match=rf"a\.mp4\{suffix} exists and is not from"):
            check_pages(tmp_path, jobs, history())
        beside.unlink()
    check_pages(tmp_path, jobs, history())
    (tmp_path / "report.html").touch()
    with pytest.raises(UsageError, match=r"report\.html exists"):
        check_pages(tmp_path, jobs, history())


def test_the_page_of_the_data_set_says_of_every_clip_what_became_of_it(tmp_path):
    summary = {"ic_source": 0.9, "ic_output": 0.8, "distance_median": 0.3}
    made = {
        "status": "done",
        "page": page_name("deep/a b.mp4"),
        "standing_out": 3,
        "outlier_score": 9.0,
        "network": "dlib_test_net",
        "summary": summary,
    }
    rows = [
        {"output": "deep/a b.mp4", "status": "done", "frames": 30, "report": made},
        {"output": "c.mp4", "status": "done", "report": {"status": "failed", "cause": CAUSE}},
        {"output": "d.mp4", "status": "done"},
        {"output": "e.mp4", "status": "quarantined", "stage": "analyse", "cause": "truncated"},
    ]
    page = write_data_set_page(tmp_path, rows).read_text()
    checker = parse(page)
    words = " ".join(checker.texts)
    assert "3 of 4 clips done, 1 with frames that stand out, 2 without a report" in words
    assert page.index("analyse: truncated") < page.index(CAUSE) < page.index("deep/a b.mp4")
    links = [attributes["href"] for tag, attributes in checker.elements if tag == "a"]
    assert links == ["reports/deep/a%20b.mp4.html"]
    assert '<data value="0.8">' in page


def test_a_clip_without_a_face_is_told_on_the_page_of_the_data_set(tmp_path):
    empty = figures(make_report(rows=(), tracks=(), standing_out=()), page_name("a.mp4"))
    row = {"output": "a.mp4", "status": "done", "frames": 30, "report": empty}
    page = write_data_set_page(tmp_path, [row]).read_text()
    assert "1 of 1 clips done, 0 with frames that stand out" in page
    assert "1 without a face." in page
    assert 'class="verdict bad"' in page
    del empty["faces"]  # an earlier version's manifest
    assert "without a face" not in write_data_set_page(tmp_path, [row]).read_text()


@pytest.fixture(scope="module")
def reported(face_clip, tiny_pack, tmp_path_factory):
    """Stages, the task of a report, its row, and the output folder of one edited clip."""
    folder = tmp_path_factory.mktemp("reports")
    stages, work, root = make_stages(tiny_pack), folder / "work", folder / "out"
    run_stages(stages, face_clip, work, root / "deep" / "o.mkv")
    job = Job(str(face_clip), "deep/o.mkv", {"age": ((0.0, 0.0), (0.6, 1.5))})
    page = page_name(job.output)
    task = ReportTask(job, work, root / job.output, root, page, ReportOptions(inversion=True))
    counted = stages.frames_done
    made = result_of(stages, task).report
    assert stages.frames_done - counted >= FRAMES  # it does not look hung
    return stages, task, made, root


def test_a_worker_reports_a_clip_along_the_tracks_of_its_plan(reported):
    _, _, made, root = reported
    data = json.loads((root / "reports" / "deep" / "o.mkv.json").read_text())
    assert made["summary"] == data["summary"]
    known = data["recognition"]
    assert known["embedded"] <= MAX_EMBEDDINGS / 3 * 1.5 + MAX_PAIRS
    assert known["pairs"] == min(MAX_PAIRS, FRAMES - 1)
    assert data["edit"] == {"age": [[0.0, 0.0], [0.6, 1.5]], "method": "fse"}
    assert None not in (made["summary"]["ic_inversion"], made["summary"]["ic_output"])
    assert [track["id"] for track in made["tracks"]] == [0]
    assert made["tracks"][0]["ic_output"] == made["summary"]["ic_output"]
    assert (root / made["page"]).is_file()
    assert (root / made["page"]).with_suffix(".csv").is_file()


def test_the_manifest_says_the_same_as_the_report(reported):
    _, _, made, root = reported
    manifest = {"output": "deep/o.mkv", "status": "done", "frames": FRAMES, "report": made}
    found = index_row(manifest)
    data = json.loads((root / "reports" / "deep" / "o.mkv.json").read_text())
    for name in ("ic_source", "ic_inversion", "ic_output", "tl_id"):
        assert getattr(found, name) == data["summary"][name], name
    assert found.outlier_score == max(row["outlier_score"] for row in data["rows"])
    assert found.standing_out == len({item["frame"] for item in data["standing_out"]})
    strangers = data["recognition"]["baseline"]["strangers_p5"]
    distances = [row["distance"] for row in data["rows"] if not row["additional"]]
    beyond = sum(distance is not None and distance >= strangers for distance in distances)
    assert found.like_strangers == data["summary"]["like_strangers"] == beyond


def test_manifests_of_earlier_versions_are_read():
    made = {"status": "done", "page": "a.html", "standing_out": 1, "network": "", "summary": {}}
    row = {"output": "a.mp4", "status": "done", "report": {**made, "badness": 7.5}}
    assert index_row(row).outlier_score == 7.5
    assert index_row({**row, "report": made}).outlier_score == 0


def test_a_report_without_the_plan_looks_for_the_faces_again(reported, tmp_path):
    stages, task, made, root = reported
    again = result_of(stages, replace(task, folder=tmp_path / "gone", page="again.html"))
    assert again.report == {**made, "page": "again.html"}
    assert (root / "again.html").is_file()


def test_a_picture_is_reported_too(reported, face_clip, tmp_path):
    stages, task, *_ = reported
    picture, root = tmp_path / "a.png", tmp_path / "out"
    write_image(picture, images_of(face_clip, limit=1)[0])
    job = Job(str(picture), "a.png", {"age": ((0.0, 2.0),)})
    where = {"job": job, "folder": tmp_path / "work", "output": root / job.output}
    result_of(stages, PictureTask(**where))
    task = replace(task, **where, root=root, page=page_name(job.output))
    made = result_of(stages, task).report
    assert made["summary"]["distance_median"] > 0
    assert made["summary"]["ic_output"] is None
    assert (root / "reports" / "a.png.html").is_file()


def test_an_output_of_another_length_is_a_failure_with_its_reason(reported, face_clip, tmp_path):
    stages, task, *_ = reported
    short = write_clip(tmp_path / "short.mp4", images_of(face_clip, limit=5))
    failure = stages.run(replace(task, output=short))
    assert isinstance(failure, Failure)
    assert f"has {FRAMES} frames and {short} 5" in failure.cause
    assert not failure.retry


class LocalWorkers(InProcessWorkers):
    """In the place of Ray's: the command runs its stages in this process."""

    facts, dashboard_url = (), ""

    def __init__(self, settings):
        super().__init__(StageRunner(settings))

    def wait_until_up(self):
        pass

    def describe(self):
        return "in this process"


def here(request, settings):
    return nullcontext(LocalWorkers(settings))


def test_the_command_writes_reports_and_the_page_of_the_data_set(
    face_clip, tiny_pack, tmp_path, capsys
):
    clips, output = tmp_path / "in", tmp_path / "out"
    clips.mkdir()
    name = os.fsdecode(b"face\xff.mp4")  # not UTF-8
    shutil.copy(face_clip, clips / name)
    (clips / "broken.mp4").write_bytes(b"no video")
    command = ["batch", str(clips), "-o", str(output), "--attr", "age", "--pack", str(tiny_pack)]
    command += ["--json", "--quiet", "--report", "--no-inversion"]
    assert batch_with(here, command) == 3
    assert json.loads(capsys.readouterr().out)["report"] == str(output / "report.html")
    page = (output / "report.html").read_text()
    assert "1 of 2 clips done" in page
    assert 'href="reports/face%FF.mp4.html"' in page
    manifest = [json.loads(line) for line in (output / "manifest.jsonl").read_text().splitlines()]
    made = next(row["report"] for row in manifest if row["status"] == "done")
    assert made["summary"] == json.loads((output / f"reports/{name}.json").read_text())["summary"]
    assert made["summary"]["ic_inversion"] is None
    (output / "reports" / f"{name}.html").unlink()
    assert batch_with(here, [*command, "--resume"]) == 3
    assert (output / "reports" / f"{name}.html").is_file()
