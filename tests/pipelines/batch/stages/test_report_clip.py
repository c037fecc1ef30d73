"""``report`` in a batch: what it says of a run is what the run did."""

from __future__ import annotations

import json

from pipelines.batch.request.jobs import Job, Settings, pack_digest
from pipelines.batch.stages.context import StageContext
from pipelines.batch.stages.report_clip import ReportTask, request_of
from pipelines.batch.stages.runner import StageRunner
from pipelines.batch.stages.tasks import Completed, ReportOptions
from tests.video.clips import images_of, write_clip
from vidinv.packs import load_pack
from vidinv.types import TimeRange


def task_of(source, folder):
    job, options = Job(str(source), source.name, {"age": ((0.0, 1.0),)}), ReportOptions(False)
    return ReportTask(job, folder / "work", source, folder, "report.html", options)


def test_reports_look_with_the_landmarks_of_the_run(tiny_pack, tmp_path):
    digest = pack_digest(load_pack(tiny_pack).meta)
    context = StageContext(Settings(str(tiny_pack), digest, landmarks="fan"))
    request = request_of(context, task_of(tmp_path / "a.png", tmp_path))
    assert request.landmarks == "fan"
    assert request.networks.landmarks == "fan"


def test_a_range_is_told_and_its_edges_are_no_cuts(tiny_pack, face_clip, tmp_path):
    """Frames 0 to 3 are edited, 0 to 43 searched."""
    clip = write_clip(tmp_path / "still.mp4", images_of(face_clip)[:1] * 50)
    digest = pack_digest(load_pack(tiny_pack).meta)
    stages = StageRunner(Settings(str(tiny_pack), digest, within=TimeRange(0.0, 0.16)))
    done = stages.run(task_of(clip, tmp_path))
    assert isinstance(done, Completed), done
    told = json.loads((tmp_path / "report.json").read_text())
    assert (told["shots"], told["frames_without_face"]) == ([[0, 49]], 0)
    assert told["edit"] == {"age": 1.0, "end": 0.16, "method": "fse"}
    assert "cuts and faces were sought in frames 0 to 43 only" in told["notes"]
    page = (tmp_path / "report.html").read_text()
    assert "Cuts at frames: none" in page
    assert "end 0.16" in page
