"""``vidinv batch`` from the command line: the plan, refusals before any work, exit codes."""

from __future__ import annotations

import contextlib
import io
import json
import os
import socket
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import vidinv
from pipelines.batch import driver as batch_run
from pipelines.batch.request.result import BatchResult
from pipelines.batch.workers import cluster
from tests.pipelines.batch.command_line import batch_by, batch_with
from tests.video.clips import make_clip
from vidinv.cli import main
from vidinv.errors import MissingDependencyError, UsageError, VidinvError
from vidinv.packs import load_pack
from vidinv.video import write_image


@pytest.fixture
def clips(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    make_clip(folder / "a.mp4", num_frames=12)
    (folder / "broken.mp4").write_bytes(b"no video")
    return folder


def typed(clips, output, *more):
    return ["batch", str(clips), "-o", str(output), *map(str, more)]


def batch(clips, output, *more):
    return main(typed(clips, output, *more))


def test_a_dry_run_prints_the_plan_and_does_nothing(clips, tiny_pack, tmp_path, capsys):
    pytest.importorskip("ray", reason="needs Ray: pip install -e .")
    output = tmp_path / "out"
    assert batch(clips, output, "--attr", "smile", "--pack", tiny_pack, "--dry-run") == 0
    first, second, total = capsys.readouterr().out.splitlines()
    assert first.startswith("a.mp4\t12 frames 96x64\t")
    assert second.startswith("broken.mp4\tcannot be read")
    assert "2 clips, about 12 frames" in total
    assert "MB of" in total
    assert not output.exists()


def test_a_folder_that_cannot_be_made_is_refused(clips, tiny_pack, tmp_path, capsys):
    (tmp_path / "file").write_bytes(b"mine")
    options = ["--attr", "smile", "--pack", tiny_pack]
    for more in ([], ["--dry-run"]):
        assert batch(clips, tmp_path / "file" / "out", *options, *more) in (1, 2)
        assert "file" in capsys.readouterr().err
    assert (tmp_path / "file").read_bytes() == b"mine"


def test_json_is_strict_utf8_whatever_the_names(tiny_pack, tmp_path, capsys):
    pytest.importorskip("ray", reason="needs Ray: pip install -e .")
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / os.fsdecode(b"b\xff.mp4")).write_bytes(b"no video")
    options = ["--attr", "smile", "--pack", tiny_pack, "--dry-run", "--json", "--quiet"]
    assert batch(folder, tmp_path / "out", *options) == 0
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    assert row["output"] == "b\\udcff.mp4"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--attr", "smlie"], "unknown attribute 'smlie'"),
        ([], "nothing to change"),
        (["--attr", "smile", "--method", "hypr"], "unknown method"),
        (["--attr", "smile", "--resume", "--restart"], "exclude each other"),
        (["--attr", "smile", "--workers", 0], "give at least 1"),
        (["--attr", "smile", "--encoder", "ffv1"], r".mp4 does not hold ffv1"),
        (["--attr", "smile", "--preset", "bogus"], "--preset bogus: libx264 takes ultrafast"),
        (["--attr", "smile", "--crf", "-5"], "--crf -5: libx264 takes 0 to 51"),
        (["--attr", "smile", "--start", "3", "--end", "2"], "--end 2: not after --start 3"),
    ],
)
def test_wrong_usage_is_refused_before_any_work(
    clips, tiny_pack, tmp_path, capsys, options, message
):
    output = tmp_path / "out"
    assert batch(clips, output, "--pack", tiny_pack, *options) == 2
    assert message in capsys.readouterr().err
    assert not output.exists()


def test_a_range_of_a_picture_is_refused(tiny_pack, tmp_path, capsys):
    write_image(tmp_path / "a.png", np.zeros((8, 8, 3), np.uint8))
    options = ["--attr", "smile", "--pack", tiny_pack, "--start", 1]
    assert batch(tmp_path / "a.png", tmp_path / "out", *options) == 2
    assert "a.png is a picture: --start and --end are for clips" in capsys.readouterr().err


def test_latents_where_the_run_would_lose_them_are_refused(clips, tiny_pack, tmp_path, capsys):
    output, link, taken = tmp_path / "out", tmp_path / "link", tmp_path / "taken"
    link.symlink_to(output / ".vidinv-batch", target_is_directory=True)
    taken.write_bytes(b"precious")
    options = ["--attr", "smile", "--pack", tiny_pack, "--restart"]
    for folder in (output / ".vidinv-batch", output / ".vidinv-batch" / "kept", link / "kept"):
        assert batch(clips, output, *options, "--latents", folder) == 2
        assert f"--latents {folder}: --restart would remove it there" in capsys.readouterr().err
    for folder in (taken, taken / "kept"):
        assert batch(clips, output, *options, "--latents", folder, "--dry-run") == 2
        assert f"--latents {folder}: {taken} is not a folder" in capsys.readouterr().err
    assert taken.read_bytes() == b"precious"
    assert not output.exists()


def test_a_list_in_the_place_of_the_manifest_is_refused_and_kept(clips, tiny_pack, capsys):
    listed = clips / "manifest.jsonl"
    listed.write_text('{"input": "a.mp4", "attributes": "smile"}\n')
    text = listed.read_text()
    assert batch(listed, clips, "--pack", tiny_pack) == 2
    assert "the run writes its own manifest there" in capsys.readouterr().err
    assert listed.read_text() == text


def test_outputs_that_a_later_run_is_not_asked_for_are_named(
    local_ray, clips, tiny_pack, tmp_path, capsys
):
    options = ["--attr", "smile", "--pack", tiny_pack, "--workers", 1]
    assert batch(clips / "a.mp4", tmp_path / "out", *options) == 0
    (clips / "a.mp4").rename(clips / "b.mp4")
    assert batch(clips / "b.mp4", tmp_path / "out", *options, "--resume") == 0
    said = "outputs of earlier runs that this one is not asked for: a.mp4\n"
    assert said in capsys.readouterr().err
    assert (tmp_path / "out" / "a.mp4").exists()


def test_exit_code_3_says_which_clips_were_quarantined(
    local_ray, clips, tiny_pack, tmp_path, capsys
):
    options = ["--attr", "smile", "--pack", tiny_pack, "--json", "--workers", 1]
    assert batch(clips, tmp_path / "out", *options) == 3
    out, err = capsys.readouterr()
    facts = json.loads(out)
    assert (facts["clips"], facts["quarantined"], facts["frames"]) == (2, 1, 12)
    assert "broken.mp4: quarantined at analyse: " in err
    assert "1 of 2 clips done" in err
    assert len((tmp_path / "out" / "manifest.jsonl").read_text().splitlines()) == 2


def test_python_takes_what_edit_takes(clips, tiny_pack, tmp_path, monkeypatch):
    requests = []
    monkeypatch.setattr(batch_run, "run", requests.append)
    how = {"attributes": {"smile": 1}, "face": 1, "latents": str(tmp_path / "kept")}
    vidinv.batch(clips, tmp_path / "out", pack=load_pack(tiny_pack), **how)
    vidinv.batch(clips, str(tmp_path / "out"), pack=str(tiny_pack), num_workers=1)
    first, second = requests
    assert (Path(first.pack), first.face) == (tiny_pack, "1")
    assert (first.latents, second.latents) == (tmp_path / "kept", None)
    assert (second.pack, second.face, second.num_workers) == (str(tiny_pack), "largest", 1)


@pytest.mark.parametrize("command", [vidinv.edit, vidinv.batch])
def test_a_strength_that_no_float_holds_is_refused(clips, tmp_path, command):
    with pytest.raises(UsageError, match=r"smile.*not finite"):
        command(clips, tmp_path / "out", attributes={"smile": 10**400})


def test_errors_cannot_steer_the_terminal(tmp_path, capsys):
    assert batch(tmp_path / "a\x1bc\nb.mp4", tmp_path / "out", "--attr", "smile") == 2
    assert "a\\x1bc b.mp4: no such file" in capsys.readouterr().err


def test_what_ray_prints_does_not_get_into_the_json(clips, tiny_pack, tmp_path, capsys):
    def talking(request):
        print("(raylet) A worker died or was killed")
        return BatchResult((), tmp_path / "manifest.jsonl", seconds=1.0, start_seconds=1.0)

    options = ["--attr", "smile", "--pack", tiny_pack, "--json", "--quiet"]
    assert batch_by(talking, typed(clips, tmp_path / "out", *options)) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["clips"] == 0
    assert err == ""


def test_a_report_that_failed_is_no_success(clips, tiny_pack, tmp_path, capsys):
    row = {"status": "done", "input": "a.mp4", "report": {"status": "failed", "cause": "gone"}}
    result = BatchResult((row,), tmp_path / "manifest.jsonl", seconds=1.0, start_seconds=1.0)
    options = ["--attr", "smile", "--pack", tiny_pack, "--json", "--quiet", "--report"]
    assert batch_by(lambda request: result, typed(clips, tmp_path / "out", *options)) == 3
    assert json.loads(capsys.readouterr().out)["without_report"] == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_run_that_is_done_is_done_whoever_reads_of_it(clips, tiny_pack, tmp_path, capsys):
    result = BatchResult((), tmp_path / "manifest.jsonl", seconds=1.0, start_seconds=1.0)
    options = ["--attr", "smile", "--pack", tiny_pack, "--json"]
    with open("/dev/full", "w") as full, contextlib.redirect_stdout(full):
        assert batch_by(lambda request: result, typed(clips, tmp_path / "out", *options)) == 0
    assert "vidinv: the JSON could not be printed: " in capsys.readouterr().err


@pytest.mark.parametrize("name", ["stdout", "stderr"])
def test_a_process_without_a_stream_gets_one(name):
    with getattr(contextlib, f"redirect_{name}")(None):
        with pytest.raises(SystemExit):
            main(["--version"])
        with getattr(sys, name) as stream:
            assert stream.name == os.devnull


class Gone(io.StringIO):
    """A pipe whose reader is gone."""

    def write(self, text):
        raise BrokenPipeError


@pytest.mark.parametrize(
    ("error", "code"), [(KeyboardInterrupt(), 130), (UsageError("no"), 2), (VidinvError("no"), 1)]
)
def test_how_a_run_ended_is_in_its_code_even_where_nothing_can_be_said(
    clips, tiny_pack, tmp_path, error, code
):
    def end(request):
        raise error

    arguments = typed(clips, tmp_path / "out", "--attr", "smile", "--pack", tiny_pack)
    with contextlib.redirect_stderr(Gone()):
        assert batch_by(end, arguments) == code


def test_an_address_where_nobody_answers_is_told_at_once():
    ray = pytest.importorskip("ray", reason="needs Ray: pip install -e .")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # and does not listen
        address = f"127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(VidinvError, match=rf"cannot reach Ray at {address}: .*refused"):
            cluster.connect(ray, address, dashboard=False)


@pytest.mark.parametrize("address", ["ray://127.0.0.1:10001", "127.0.0.1", "host:port"])
def test_an_address_that_is_none_is_refused(address):
    ray = pytest.importorskip("ray", reason="needs Ray: pip install -e .")
    with pytest.raises(UsageError, match="give auto, or HOST:PORT"):
        cluster.connect(ray, address, dashboard=False)


def test_a_run_whose_workers_could_not_start_need_not_be_resumed(
    clips, tiny_pack, tmp_path, capsys
):
    def unreachable(request, settings):
        raise VidinvError("cannot reach Ray")

    for strength in (1, 2):  # the second one would be another configuration
        options = ["--attr", f"smile={strength}", "--pack", tiny_pack]
        assert batch_with(unreachable, typed(clips, tmp_path / "out", *options)) == 1
        assert "cannot reach Ray" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--dashboard", "--address", "auto"], 2, "a cluster has its own"),
        (["--worker-cpus", "1.5"], 2, "--worker-cpus 1.5: give a part of a CPU"),
        (["--worker-cpus", "nan"], 2, "--worker-cpus nan: give a part of a CPU"),
        (["--stall-seconds=-5"], 2, "--stall-seconds -5: give a time above 0"),
        (["--stall-seconds", "nan"], 2, "--stall-seconds nan: give a time above 0"),
        (["--gpu-workers", "1", "--device", "cpu"], 2, "exclude each other"),
    ],
)
def test_invalid_resources_are_refused(clips, tiny_pack, tmp_path, capsys, options, code, message):
    output = tmp_path / "out"
    assert batch(clips, output, "--attr", "smile", "--pack", tiny_pack, *options) == code
    assert message in capsys.readouterr().err
    assert not output.exists()


def test_a_dashboard_that_is_not_installed_is_told_in_one_line(monkeypatch):
    pytest.importorskip("ray", reason="needs Ray: pip install -e .")
    monkeypatch.setitem(sys.modules, "ray.dashboard.optional_deps", None)
    with pytest.raises(MissingDependencyError, match=r"--dashboard needs it: .*ray\[default\]"):
        cluster.connect(SimpleNamespace(), None, dashboard=True)  # it is not even started
