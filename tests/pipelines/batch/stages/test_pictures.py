"""Still pictures in a run: made by the code of ``vidinv edit``, with rows like those of clips."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage
from PIL.PngImagePlugin import PngInfo

import vidinv
from pipelines.batch.inputs.find import find_jobs
from pipelines.batch.request.jobs import Settings, pack_digest
from pipelines.batch.stages.picture import PictureTask
from pipelines.batch.stages.runner import StageRunner
from pipelines.clip.networks import Networks
from tests.pipelines.batch.in_process import InProcessWorkers, run_jobs
from tests.pipelines.batch.stages.test_segments import check_leftovers
from tests.video.clips import images_of
from vidinv.cli import main
from vidinv.packs import load_pack
from vidinv.video import read_image, read_with_alpha, write_image

AGE = {"age": ((0.0, 1.5),)}
FACES = ("face.png", "s/face.JPG", f"s/{'n' * 200}.webp")


@pytest.fixture(scope="module")
def stages(tiny_pack):
    return StageRunner(Settings(str(tiny_pack), pack_digest(load_pack(tiny_pack).meta)))


@pytest.fixture
def folder(face_clip, tmp_path) -> Path:
    """A face in three formats, a picture without one, and what is no picture."""
    root = tmp_path / "in"
    (root / "s").mkdir(parents=True)
    face = images_of(face_clip)[0]
    for name in FACES:
        write_image(root / name, face)
    write_image(root / "grey.png", np.full((64, 96, 3), 90, np.uint8))
    (root / "broken.jpg").write_bytes((root / "s" / "face.JPG").read_bytes()[:3000])
    (root / "link.png").symlink_to("gone.png")
    return root


def run(folder, output, stages, **how):
    jobs = find_jobs([str(folder)], output=output, attributes=AGE)
    return run_jobs(jobs, output, InProcessWorkers(stages), **how)


def test_pictures_are_those_of_edit_with_rows_like_those_of_clips(
    folder, stages, tiny_pack, tmp_path
):
    rows = run(folder, tmp_path / "out", stages)
    for name in FACES:
        expected = tmp_path / f"expected{Path(name).suffix}"
        result = vidinv.edit(folder / name, expected, attributes=AGE, pack=tiny_pack)
        made = tmp_path / "out" / name
        assert made.read_bytes() == expected.read_bytes()
        assert read_image(made).shape == read_image(folder / name).shape
        row = rows[name]
        assert (row["status"], row["frames"], row["faces_edited"]) == ("done", 1, 1)
        assert row["synthetic"] is True
        assert row["identity"] == dataclasses.asdict(result.identity)
        assert row["tracks"][0]["identity"]["similarity_mean"] is not None
        assert set(row["seconds"]) == {"picture"}
    changed = read_image(tmp_path / "out" / "face.png") != read_image(folder / "face.png")
    assert changed.any()


def test_what_a_killed_worker_left_beside_a_picture_is_removed(folder, stages, tmp_path):
    (job,) = find_jobs([str(folder / "face.png")], output=tmp_path / "out", attributes=AGE)
    output = tmp_path / "out" / "face.png"
    task = PictureTask(job, tmp_path / "w", output)
    check_leftovers(output, lambda: stages.run(task))


def test_a_faceless_picture_is_copied_and_a_broken_one_is_quarantined(folder, stages, tmp_path):
    rows = run(folder, tmp_path / "out", stages)
    assert (tmp_path / "out" / "grey.png").read_bytes() == (folder / "grey.png").read_bytes()
    assert any("no face found" in warning for warning in rows["grey.png"]["warnings"])
    assert rows["grey.png"]["synthetic"] is False
    broken, link = rows["broken.jpg"], rows["link.png"]
    assert (broken["status"], broken["stage"], broken["attempts"]) == ("quarantined", "picture", 1)
    assert broken["cause"].startswith(f"{folder / 'broken.jpg'}: the picture is damaged")
    assert (link["stage"], link["cause"]) == (
        "picture",
        f"{folder / 'link.png'}: broken link to gone.png",
    )
    assert not (tmp_path / "out" / "broken.jpg").exists()


def test_what_a_picture_loses_is_said_and_an_animation_is_quarantined(folder, stages, tmp_path):
    face = PillowImage.fromarray(read_image(folder / "face.png"))
    face.putalpha(99)
    said = PngInfo()
    said.add_itxt("XML:com.adobe.xmp", "<x:xmpmeta/>")
    face.save(folder / "clear.png", pnginfo=said)
    face.save(folder / "moving.webp", save_all=True, append_images=[face.rotate(3)])
    rows = run(folder, tmp_path / "out", stages)
    clear, moving = rows["clear.png"], rows["moving.webp"]
    assert clear["status"] == "done"
    lost = [text for text in clear["warnings"] if "lost" in text or "written without" in text]
    assert lost == ["XMP of the picture: PNG is written without"]
    assert not any("written without" in text for text in rows["face.png"]["warnings"])
    assert set(read_with_alpha(tmp_path / "out" / "clear.png")[1].flat) == {99}
    assert (moving["status"], moving["attempts"]) == ("quarantined", 1)
    assert moving["cause"].endswith("moving.webp: an animation of 2 frames; convert it to a clip")


def test_networks_load_once_for_all_pictures(folder, stages, tmp_path, monkeypatch):
    def fail(request):
        raise AssertionError("networks were loaded again")

    monkeypatch.setattr(Networks, "load", fail)
    rows = run(folder, tmp_path / "out", stages)
    assert rows["face.png"]["status"] == "done"


def test_a_finished_picture_is_not_made_again(folder, stages, tmp_path):
    first = run(folder / "face.png", tmp_path / "out", stages)
    jobs = find_jobs([str(folder / "face.png")], output=tmp_path / "out", attributes=AGE)
    workers = InProcessWorkers(stages)
    assert run_jobs(jobs, tmp_path / "out", workers) == first
    assert workers.done == []


def test_a_dry_run_knows_pictures(folder, tiny_pack, tmp_path, capsys):
    pytest.importorskip("ray", reason="needs Ray: pip install -e .")
    command = ["batch", str(folder), "-o", str(tmp_path / "out"), "--attr", "smile"]
    assert main([*command, "--pack", str(tiny_pack), "--dry-run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == f"face.png\t1 frame 256x256\t{folder / 'face.png'}"
    assert lines[3].startswith("link.png\tcannot be read: ")
    assert lines[-1].startswith("0 clips and 6 pictures, about 4 frames")
