"""``fit``: once a clip, before its segments; states are found again, or fitted anew."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest

import vidinv
from pipelines.batch.request.jobs import Job, Settings, pack_digest
from pipelines.batch.stages.analyse import AnalyseTask
from pipelines.batch.stages.fit import FitResult
from pipelines.batch.stages.picture import PictureTask
from pipelines.batch.stages.report_clip import ReportTask
from pipelines.batch.stages.runner import StageRunner
from pipelines.batch.stages.table import FIT, JOIN, RENDER, next_stage
from pipelines.batch.stages.tasks import Completed, Failure, ReportOptions, RunOptions
from pipelines.batch.status.journal import Journal
from pipelines.batch.status.resume import resume_clips
from tests.inversion.toy import ToyInverter
from tests.pipelines.batch.in_process import InProcessWorkers, run_jobs
from tests.video.clips import images_of
from vidinv.inversion import METHODS
from vidinv.inversion.registry import MethodEntry
from vidinv.latents import PLAN_FILE
from vidinv.packs import load_pack
from vidinv.video import EncodeOptions, write_image

AGE = {"age": ((0.0, 1.0),)}


@pytest.fixture(autouse=True)
def toy(monkeypatch):
    entry = MethodEntry("toy", "for tests", "tests.inversion.toy:ToyInverter")
    monkeypatch.setitem(METHODS, "toy", entry)
    ToyInverter.fits.clear()


def runner(folder, latents=None) -> StageRunner:
    encode = EncodeOptions(encoder="ffv1", threads=1)
    return StageRunner(
        Settings(
            str(folder),
            pack_digest(load_pack(folder).meta),
            method="toy",
            encode=encode,
            segment_frames=8,
            latents=latents and str(latents),
        )
    )


def run(clip, output, stages, stop=None, **how):
    """Stage names in their order; ``stop`` says after which task the driver is lost."""
    workers = InProcessWorkers(stages, lambda task: stop and stop(task))
    output.mkdir(exist_ok=True)
    rows = run_jobs([Job(str(clip), "a.mkv", AGE)], output, workers, method="toy", **how)
    return [name for _, name in workers.done], rows["a.mkv"]


def test_a_clip_is_fitted_once_and_is_that_of_edit(face_clip, tiny_pack, tmp_path):
    way, row = run(face_clip, tmp_path / "out", runner(tiny_pack), reports=ReportOptions())
    assert row["status"] == "done", row
    assert way == ["analyse", "fit", "render", "render", "join", "report"]
    assert ToyInverter.fits == [3]  # the report takes the states of the edit
    assert row["report"]["status"] == "done"
    vidinv.edit(
        face_clip,
        tmp_path / "edit.mkv",
        attributes={"age": 1.0},
        method="toy",
        pack=tiny_pack,
        encode=EncodeOptions(encoder="ffv1"),
    )
    a, b = images_of(tmp_path / "out" / "a.mkv"), images_of(tmp_path / "edit.mkv")
    assert len(a) == len(b)
    assert all(map(np.array_equal, a, b))


def test_latents_keep_the_states(face_clip, tiny_pack, tmp_path):
    for number in range(2):
        stages = runner(tiny_pack, tmp_path / "kept")
        assert run(face_clip, tmp_path / f"{number}", stages)[1]["status"] == "done"
    assert ToyInverter.fits == [3]


def test_a_resumed_run_finds_its_states_or_fits_and_renders_anew(face_clip, tiny_pack, tmp_path):
    output = tmp_path / "out"

    def lost(task):
        if task.stage is RENDER and task.segment == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(face_clip, output, runner(tiny_pack), stop=lost)

    def resumed():
        with contextlib.closing(Journal(output)) as journal:
            jobs = [Job(str(face_clip), "a.mkv", AGE)]
            (clip,) = resume_clips(jobs, output=output, journal=journal, with_reports=False)
        return clip

    options = RunOptions(output, "toy")
    clip = resumed()
    assert next_stage(clip, options) is RENDER
    assert RENDER.missing(clip) == [1]
    (state,) = clip.folder.glob("*.state.safetensors")
    assert clip.result_of(FitResult) == FitResult((0,), (state.name.split(".")[0],))
    state.unlink()
    clip = resumed()
    assert next_stage(clip, options) is FIT
    way, row = run(face_clip, output, runner(tiny_pack))
    assert row["status"] == "done"
    assert way == ["fit", "render", "render", "join"]
    assert ToyInverter.fits == [3, 3]


def test_a_damaged_state_fails_its_clip_and_is_fitted_anew_by_the_next_run(
    face_clip, tiny_pack, tmp_path
):
    output = tmp_path / "out"

    def damage(task):
        if task.stage is RENDER:
            (state,) = task.clip.folder.glob("*.state.safetensors")
            state.write_bytes(state.read_bytes()[:-1])

    way, row = run(face_clip, output, runner(tiny_pack), stop=damage)
    assert way == ["analyse", "fit", "render"]
    assert (row["status"], row["stage"], row["attempts"]) == ("quarantined", "render", 1)
    assert "state.safetensors is damaged" in row["cause"]
    way, row = run(face_clip, output, runner(tiny_pack))
    assert row["status"] == "done", row
    assert way == ["fit", "render", "render", "join"]


@pytest.mark.parametrize(
    ("stage", "way"),
    [
        (FIT, ["analyse", "fit"]),
        (RENDER, ["analyse", "fit", "render"]),
        (JOIN, ["analyse", "fit", "render", "render", "join"]),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_a_damaged_plan_fails_its_clip_and_is_made_anew_by_the_next_run(
    face_clip, tiny_pack, tmp_path, stage, way
):
    output = tmp_path / "out"

    def damage(task):
        if task.stage is stage:
            plan = task.clip.folder / PLAN_FILE
            plan.write_bytes(plan.read_bytes()[:-1])

    went, row = run(face_clip, output, runner(tiny_pack), stop=damage)
    assert went == way
    assert (row["status"], row["stage"], row["attempts"]) == ("quarantined", stage.name, 1)
    assert "plan.safetensors is damaged" in row["cause"]
    went, row = run(face_clip, output, runner(tiny_pack))
    assert row["status"] == "done", row
    assert went == ["analyse", "fit", "render", "render", "join"]


def test_a_plan_that_a_report_finds_damaged_is_made_anew_by_the_next_run(
    face_clip, tiny_pack, tmp_path
):
    stages, job = runner(tiny_pack), Job(str(face_clip), "a.mkv", AGE)
    task = ReportTask(job, tmp_path / "w", face_clip, tmp_path, "a.html", ReportOptions())
    assert isinstance(stages.run(AnalyseTask(job, task.folder)), Completed)
    plan = task.folder / PLAN_FILE
    plan.write_bytes(plan.read_bytes()[:-1])
    failure = stages.run(task)
    assert isinstance(failure, Failure)
    assert "plan.safetensors is damaged" in failure.cause
    assert isinstance(stages.run(task), Completed)


def test_a_state_that_is_gone_fails_its_clip_after_two_attempts(face_clip, tiny_pack, tmp_path):
    def remove(task):
        if task.stage is RENDER:
            for state in task.clip.folder.glob("*.state.safetensors"):
                state.unlink()

    way, row = run(face_clip, tmp_path / "out", runner(tiny_pack), stop=remove)
    assert way[:2] == ["analyse", "fit"]
    assert (row["status"], row["stage"], row["attempts"]) == ("quarantined", "render", 2)
    assert ".state.safetensors" in row["cause"]


def test_fits_outside_their_stage_show_that_the_worker_is_alive(face_clip, tiny_pack, tmp_path):
    """Of a picture, and of a report of a clip whose states are gone."""
    stages = runner(tiny_pack)
    picture = tmp_path / "face.png"
    write_image(picture, images_of(face_clip)[0])
    job = Job(str(picture), "face.png", AGE)
    assert isinstance(stages.run(PictureTask(job, tmp_path / "p", tmp_path / "o.png")), Completed)
    assert (ToyInverter.fits, stages.beats) == ([1], 1)
    options, job = ReportOptions(), Job(str(face_clip), "a.mkv", AGE)
    task = ReportTask(job, tmp_path / "w", face_clip, tmp_path, "a.html", options)
    analysed = stages.run(AnalyseTask(job, tmp_path / "w"))
    assert isinstance(analysed, Completed)
    beats, done = stages.beats, stages.frames_done
    assert isinstance(stages.run(task), Completed)
    assert ToyInverter.fits == [1, 3]
    assert stages.beats > beats
    # The frames that are sampled are gone through once more than without a fit.
    assert stages.frames_done - done > 2 * analysed.result.num_frames - 2
