"""``vidinv batch --dry-run``: says what the run would do, refuses what it would, writes nothing."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from pipelines.batch import driver as batch_run
from pipelines.batch.request.batch_request import BatchRequest, check_request
from pipelines.batch.status.journal import Journal, start
from tests.pipelines.batch.command_line import batch_with
from tests.video.clips import make_clip
from vidinv.cli import main
from vidinv.errors import VidinvError
from vidinv.video import probe, write_image

pytest.importorskip("ray", reason="needs Ray: pip install -e .")


@pytest.fixture
def clips(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for name, frames in (("a", 12), ("b", 5), ("c", 7)):
        make_clip(folder / f"{name}.mp4", num_frames=frames)
    return folder


@pytest.fixture
def command(clips, tiny_pack, tmp_path):
    return [
        *("batch", str(clips), "-o", str(tmp_path / "out")),
        *("--attr", "smile", "--pack", str(tiny_pack), "--method", "fse"),
    ]


@pytest.fixture
def request_(clips, tiny_pack, tmp_path):
    return BatchRequest([str(clips)], tmp_path / "out", {"smile": ((0.0, 1.0),)}, pack=tiny_pack)


def run_before(request, *done, report=None):
    """An earlier run in the output folder, which has finished some outputs."""
    jobs, settings = check_request(request)
    journal = Journal(request.output.absolute())
    start(journal, settings, jobs, restart=False, reports=False)
    for job in jobs:
        if job.output in done:
            (request.output / job.output).write_bytes(b"edited")
            row = {"status": "done", "output": job.output, "frames": 12, "seconds": {}}
            journal.append({"event": "finished", "clip": job.id, "row": {**row, "report": report}})
    journal.close()


def tree(folder: Path) -> dict[str, int]:
    return {str(path): path.lstat().st_mtime_ns for path in [folder, *folder.rglob("*")]}


def both(command, capsys) -> tuple[int, str]:
    """Exit code and message of a dry run that writes nothing; those of the run are the same."""
    before = tree(Path(command[3]).parent)
    answer = main([*command, "--dry-run"]), capsys.readouterr().err
    assert tree(Path(command[3]).parent) == before

    def unreachable(request, settings):
        raise VidinvError("nothing was refused before the start of Ray")

    assert (batch_with(unreachable, command), capsys.readouterr().err) == answer
    return answer


def foreign_output(request):
    request.output.mkdir()
    (request.output / "b.mp4").write_bytes(b"precious")


def foreign_page(request):
    (request.output / "reports").mkdir(parents=True)
    (request.output / "reports" / "b.mp4.html").write_bytes(b"precious")


def foreign_manifest(request):
    request.output.mkdir()
    (request.output / "manifest.jsonl").write_bytes(b"precious")


def damaged_journal(request):
    run_before(request)
    with (request.output / ".vidinv-batch" / "journal.jsonl").open("ab") as journal:
        journal.write(b"{damaged\n")


def no_folder(request):
    request.output.write_bytes(b"precious")


@pytest.mark.parametrize(
    ("prepare", "options", "message"),
    [
        (run_before, [], "out holds an earlier run: --resume does what is missing"),
        (
            run_before,
            ["--resume", "--no-detail"],
            "the configuration changed: detail: true -> false",
        ),
        (foreign_output, [], "b.mp4 exists and is not from an earlier run"),
        (foreign_output, ["--restart"], "b.mp4 exists and is not from an earlier run"),
        (foreign_page, ["--report"], "b.mp4.html exists and is not from an earlier run"),
        (foreign_manifest, [], "manifest.jsonl exists and is not from an earlier run"),
        (damaged_journal, ["--resume"], "line 5 is damaged"),
        (no_folder, [], "out: not a folder"),
    ],
)
def test_it_refuses_what_the_run_refuses(command, request_, capsys, prepare, options, message):
    prepare(request_)
    code, err = both([*command, *options], capsys)
    assert code == 2
    assert message in err
    assert len(err.splitlines()) == 1


def test_it_refuses_while_another_run_is_writing(command, request_, capsys):
    run_before(request_)
    journal = Journal(request_.output.absolute())
    try:
        code, err = both([*command, "--resume"], capsys)
    finally:
        journal.close()
    assert (code, "another run is writing" in err) == (2, True)


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--workers", "50"], 2, "50 workers at 0.5 CPU each do not fit: .* at most --workers 4"),
        (["--worker-cpus", "3"], 2, "give a smaller --worker-cpus"),
        (["--gpu-workers", "1"], 2, "--gpu-workers 1: each takes a whole GPU"),
        (["--device", "cuda"], 1, "no GPU in the Ray cluster; use --device cpu"),
    ],
)
def test_it_refuses_workers_that_this_machine_cannot_hold(
    local_ray, command, tmp_path, capsys, options, code, message
):
    if any(node["Resources"].get("GPU") for node in local_ray.nodes()):
        pytest.skip("this machine has a GPU")
    assert main([*command, *options, "--dry-run"]) == code
    refusal = capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert main([*command, *options]) == code
    assert capsys.readouterr().err == refusal
    assert re.search(message, refusal)


def test_a_cluster_is_not_asked_what_it_holds(command, capsys):
    options = ["--address", "auto", "--workers", "50", "--device", "cuda", "--dry-run"]
    assert main([*command, *options]) == 0
    assert "min with 50 workers" in capsys.readouterr().out
    assert main([*command, "--address", "auto", "--dry-run"]) == 0
    assert "min for one worker" in capsys.readouterr().out


@pytest.mark.slow  # a Ray of its own
def test_this_machine_is_counted_as_ray_counts_it():
    program = (
        "import json, ray; from pipelines.batch.workers import cluster;"
        "here = cluster.local_nodes();"
        "assert not ray.is_initialized(); cluster.connect(ray, None, dashboard=False);"
        "there = cluster.local_nodes(); kinds = ('CPU', 'GPU');"
        "print(json.dumps([[n.get(k, 0) for n in ns for k in kinds] for ns in (here, there)]))"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    here, there = json.loads(done.stdout.splitlines()[-1])
    assert here == there
    assert here[0] >= 1


def test_what_is_done_is_left_out(command, request_, capsys):
    run_before(request_, "a.mp4", "c.mp4")
    (request_.output / "c.mp4").unlink()  # and lost
    assert main([*command, "--resume", "--dry-run"]) == 0
    first, second, total = capsys.readouterr().out.splitlines()
    assert first.startswith("b.mp4\t5 frames")
    assert second.startswith("c.mp4\t7 frames")
    assert total.startswith("2 clips, about 12 frames")
    assert "; 1 done already" in total
    assert main([*command, "--restart", "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "3 clips, about 24 frames" in out
    assert "done already" not in out


def test_of_clips_without_a_report_only_that_is_left(command, request_, capsys):
    run_before(request_, "a.mp4", "b.mp4", "c.mp4")
    for options, seconds in ([], 0), (["--report"], 3 * (1.0 + 12 * 0.042)):
        assert main([*command, "--resume", "--dry-run", "--json", *options]) == 0
        out, err = capsys.readouterr()
        facts = json.loads(out)
        assert facts["worker_seconds"] == pytest.approx(seconds, abs=0.01)
        assert (facts["clips"], facts["done"]) == ((3, 0) if options else (0, 3))
        assert facts["bytes"] == 0
    assert err.splitlines()[0].startswith("a.mp4\t12 frames, its report only\t")


def test_reports_take_their_time(command, capsys):
    seconds = []
    for options in ([], ["--report"]):
        assert main([*command, "--dry-run", "--json", "--quiet", *options]) == 0
        seconds.append(json.loads(capsys.readouterr().out)["worker_seconds"])
    assert seconds[1] - seconds[0] == pytest.approx(3 * 1.0 + 24 * 0.042, abs=0.01)


def test_json_is_one_object(clips, command, tmp_path, capsys):
    (clips / "broken.mp4").write_bytes(b"no video")
    assert main([*command, "--dry-run", "--json", "--quiet"]) == 0
    out, err = capsys.readouterr()
    facts = json.loads(out)
    rows = facts.pop("rows")
    assert err == ""
    assert (facts["clips"], facts["frames"], facts["done"]) == (4, 24, 0)
    assert facts["bytes"] == sum(row["bytes"] for row in rows) > 0
    assert facts["worker_seconds"] == pytest.approx(sum(row["seconds"] for row in rows), abs=0.01)
    assert facts["seconds"] == pytest.approx(facts["worker_seconds"] / facts["num_workers"], abs=1)
    assert facts["free_bytes"] > 0
    assert [row["output"] for row in rows] == ["a.mp4", "b.mp4", "broken.mp4", "c.mp4"]
    a, broken = rows[0], rows[2]
    assert (a["input"], a["frames"], a["width"], a["height"]) == (str(clips / "a.mp4"), 12, 96, 64)
    assert a["cause"] is None
    assert (broken["frames"], broken["seconds"]) == (0, 0)
    assert "broken.mp4" in broken["cause"]
    assert not (tmp_path / "out").exists()


def test_with_json_the_lines_are_on_stderr(command, capsys):
    assert main([*command, "--dry-run", "--json"]) == 0
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 1
    assert [line[:5] for line in err.splitlines()[:3]] == ["a.mp4", "b.mp4", "c.mp4"]


def test_lines_come_in_order_as_soon_as_they_are_known(request_):
    told, said = [], threading.Event()
    at_once = threading.Barrier(2)

    def look(path):
        name = Path(path).name
        if name in ("a.mp4", "b.mp4"):
            at_once.wait(10)  # several at a time
        if name == "c.mp4":
            assert said.wait(10)  # not only at the end
        return probe(path)

    def tell(line):
        told.append(line[:5])
        said.set()

    plan = batch_run.estimate(request_, tell=tell, look=look)
    assert told == ["a.mp4", "b.mp4", "c.mp4"]
    assert plan.frames == 24


def test_pictures_and_clips_keep_their_order(clips, command, capsys):
    write_image(clips / "b.png", np.zeros((32, 48, 3), np.uint8))
    assert main([*command, "--dry-run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("\t")[0] for line in lines[:-1]] == ["a.mp4", "b.mp4", "b.png", "c.mp4"]
    assert lines[2].split("\t")[1] == "1 frame 48x32"


def test_a_dashboard_that_is_not_installed_is_told_before(command, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray.dashboard.optional_deps", None)
    assert main([*command, "--dashboard", "--dry-run"]) == 1
    assert "--dashboard needs it" in capsys.readouterr().err


def test_without_ray_it_says_how_to_get_it(command, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert main([*command, "--dry-run"]) == 1
    assert "batch needs Ray: pip install" in capsys.readouterr().err
