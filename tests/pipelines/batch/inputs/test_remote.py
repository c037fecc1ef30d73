"""Inputs that are URLs: what they stand for, how they are fetched once, and what may go wrong."""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
import zipfile
from pathlib import Path

import pytest

from pipelines.batch.inputs import remote
from pipelines.batch.inputs.fetching import fetch
from pipelines.batch.inputs.find import find_jobs
from pipelines.batch.inputs.sources import input_name, is_url, local_path, without_secrets
from pipelines.batch.request.jobs import Job, Settings, pack_digest
from pipelines.batch.stages.fetch import FetchResult, FetchTask
from pipelines.batch.stages.runner import StageRunner
from pipelines.batch.stages.table import FETCH, JOIN, RENDER
from pipelines.batch.status.journal import Journal, check, start
from pipelines.batch.workers.actor import StageActor, WorkerFacts, WorkerHeartbeat
from pipelines.batch.workers.pools import Pool, PoolRequest
from pipelines.batch.workers.ray_workers import RayWorkers
from pipelines.batch.workers.worker import RayWorker
from tests.pipelines.batch.conftest import FRAMES
from tests.pipelines.batch.in_process import InProcessWorkers, run_jobs
from tests.pipelines.batch.inputs.web import serving
from tests.pipelines.batch.test_schedule import FakeWorkers
from vidinv.cli import main
from vidinv.errors import MediaError, MissingDependencyError, UsageError
from vidinv.packs import load_pack

SMILE = {"smile": ((0.0, 1.0),)}
TREE = ("a.mp4", "b.MKV", "notes.txt", "s/my clip.mp4", "s/deep/d.webm", ".x/h.mp4", "p.png")
MIRRORED = ["a.mp4", "b.MKV", "p.png", "s/deep/d.webm", "s/my clip.mp4"]

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning:asyncio")


def jobs_of(*inputs, output="out", attributes=SMILE, **how):
    return find_jobs([str(i) for i in inputs], output=Path(output), attributes=attributes, **how)


def outputs_of(*inputs, **how):
    return [job.output for job in jobs_of(*inputs, **how)]


def write_tree(root):
    for name in TREE:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(f"bytes of {name}".encode())
    return root


@pytest.fixture
def web(tmp_path):
    pytest.importorskip("aiohttp", reason="fsspec reads http with it: pip install aiohttp")
    with serving(write_tree(tmp_path / "web")) as server:
        server.folder = tmp_path / "web"
        yield server


@pytest.fixture
def archive(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as file:
        for name in TREE:
            file.writestr(name, f"bytes of {name}")
    return f"file://{tmp_path / 'x.zip'}"


@pytest.fixture
def memory():
    fs = pytest.importorskip("fsspec").filesystem("memory")
    for name in TREE:
        fs.pipe(f"/bucket/{name}", f"bytes of {name}".encode())
    yield fs
    fs.rm("/bucket", recursive=True)


@pytest.fixture
def roots(web, archive, memory):
    """The same tree in three places, as (before, after) what names a file in it."""
    return [(web.url, ""), ("zip://", f"::{archive}"), ("memory://bucket/", "")]


def test_a_remote_folder_is_mirrored_with_clips_only(roots):
    for before, after in roots:
        jobs = jobs_of(f"{before}{after}")
        assert [job.output for job in jobs] == MIRRORED
        assert [job.stamp["size"] for job in jobs] == [len(f"bytes of {n}") for n in MIRRORED]
        assert all(job.is_remote for job in jobs)


def test_a_remote_folder_below_another_is_one_too(roots):
    for before, after in roots:
        assert outputs_of(f"{before}s/{after}") == ["deep/d.webm", "my clip.mp4"]


def test_a_remote_glob_is_mirrored_from_its_first_wildcard(roots):
    for before, after in roots:
        assert outputs_of(f"{before}*.mp4{after}") == ["a.mp4"]
        assert outputs_of(f"{before}s/**/*.webm{after}") == ["deep/d.webm"]


def test_what_is_found_can_be_fetched(roots, tmp_path):
    for number, (before, after) in enumerate(roots):
        for job in jobs_of(f"{before}{after}"):
            target = job.fetched(tmp_path / str(number) / job.id)
            target.parent.mkdir(parents=True)
            fetch(job.input, target, size=job.stamp["size"], on_chunk=lambda: None)
            assert target.read_bytes() == f"bytes of {job.output}".encode()
            assert list(target.parent.iterdir()) == [target]


def test_a_remote_file_named_by_itself_may_have_any_extension(roots):
    for before, after in roots:
        assert outputs_of(f"{before}notes.txt{after}") == ["notes.mp4"]


def test_file_urls_are_paths_of_this_machine(tmp_path):
    root = write_tree(tmp_path / "data")
    for scheme in ("file://", "local://"):
        (job,) = jobs_of(f"{scheme}{root}/a.mp4")
        assert (job.input, job.is_remote) == (str(root / "a.mp4"), False)
        assert len(jobs_of(f"{scheme}{root}/")) == len(MIRRORED)
    with pytest.raises(UsageError, match="would replace an input"):
        jobs_of(f"file://{root}/a.mp4", output=root)


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://host/a/my%20clip.mp4?X-Amz-Signature=1#t", "my clip.mp4"),
        ("s3://bucket/a/my%20clip.mp4", "my%20clip.mp4"),
        ("zip://a/b.mp4::s3://bucket/c.zip", "b.mp4"),
        ("simplecache::s3://bucket/c.png", "c.png"),
        ("file:///a/b.mp4", "b.mp4"),
    ],
)
def test_the_name_of_an_input(url, name):
    assert input_name(url) == name


def test_what_a_url_is():
    assert is_url("zip://a::file:///x.zip")
    assert not is_url("file:///a/b.mp4")
    assert not is_url("/a/b:c.mp4")
    assert local_path("file:///a/b.mp4") == Path("/a/b.mp4")


@pytest.mark.parametrize("name", ["..%2Fevil.mp4", "%2e%2e%2Fevil.mp4", "%2E%2E/evil.mp4"])
def test_an_encoded_name_cannot_leave_the_output_folder(web, name):
    (web.folder / "index.html").write_text(f'<a href="{name}">x</a>')
    (web.folder / "evil.mp4").write_bytes(b"clip")
    with pytest.raises(UsageError, match=r"output \.\./evil\.mp4 of .* would lie outside"):
        jobs_of(web.url)
    row = json.dumps({"input": f"{web.url}s/{name}"})
    (web.folder / "l.jsonl").write_text(row)
    if "/" not in name:
        with pytest.raises(UsageError, match="would lie outside"):
            jobs_of(f"{web.url}l.jsonl")


def test_a_name_in_an_archive_cannot_leave_the_output_folder(tmp_path):
    with zipfile.ZipFile(tmp_path / "y.zip", "w") as file:
        file.writestr("../evil.mp4", b"clip")
    with pytest.raises(UsageError, match=r"output \.\./evil\.mp4 of .* would lie outside"):
        jobs_of(f"zip://::file://{tmp_path}/y.zip")


def test_remote_inputs_collide_as_others_do(web, archive):
    with pytest.raises(UsageError, match=r"http.*a\.mp4 and zip.*a\.mp4.* would both be written"):
        jobs_of(f"{web.url}a.mp4", f"zip://a.mp4::{archive}")
    (web.folder / "A.mp4").write_bytes(b"clip")
    with pytest.raises(UsageError, match="would both be written"):
        jobs_of(web.url)


def test_rows_of_a_manifest_may_be_urls(web, archive, tmp_path):
    path = tmp_path / "l.jsonl"
    inputs = [f"{web.url}s/my%20clip.mp4", f"zip://a.mp4::{archive}", f"{web.url}gone.mp4"]
    path.write_text("\n".join(json.dumps({"input": url}) for url in inputs))
    zipped, gone, spaced = jobs_of(path)
    assert [j.output for j in (zipped, gone, spaced)] == ["a.mp4", "gone.mp4", "my clip.mp4"]
    assert (zipped.stamp["size"], gone.stamp) == (14, {})  # its fetching will say so


def test_a_manifest_may_be_a_url_and_its_rows_count_from_there(web, archive, tmp_path):
    rows = [
        {"input": "my clip.mp4"},
        {"input": "deep/d.webm"},
        {"input": f"zip://a.mp4::{archive}"},
    ]
    (web.folder / "s" / "l.jsonl").write_text("\n".join(map(json.dumps, rows)))
    jobs = jobs_of(f"{web.url}s/l.jsonl")
    assert [job.output for job in jobs] == ["a.mp4", "deep/d.webm", "my clip.mp4"]
    assert jobs[1].input == f"{web.url}s/deep/d.webm"
    assert all(job.stamp["size"] for job in jobs)
    with zipfile.ZipFile(tmp_path / "m.zip", "w") as file:
        file.writestr("s/l.csv", "input\nclip.mp4\n")
        file.writestr("s/clip.mp4", "bytes")
    (job,) = jobs_of(f"zip://s/l.csv::file://{tmp_path}/m.zip")
    assert (job.input, job.stamp["size"]) == (f"zip://s/clip.mp4::file://{tmp_path}/m.zip", 5)


def test_a_row_of_a_remote_manifest_is_refused_with_its_line(web):
    (web.folder / "l.jsonl").write_text('{"input": "a.mp4"}\n{"input": "b\\\\c.mp4"}')
    with pytest.raises(UsageError, match=r"/l\.jsonl:2: input .* is a Windows path"):
        jobs_of(f"{web.url}l.jsonl")
    (web.folder / "l.jsonl").write_text('{"input": "a.mp4", "face": "me.png"}')
    with pytest.raises(UsageError, match=r":1: face 'me.png' is not"):
        jobs_of(f"{web.url}l.jsonl")


def test_a_protocol_whose_package_is_absent_says_what_to_install(tmp_path):
    if "s3fs" in sys.modules or shutil.which("s3fs"):
        pytest.skip("s3fs is installed")
    with pytest.raises(MissingDependencyError, match=r"^s3://bucket/a\.mp4: Install s3fs"):
        jobs_of("s3://bucket/a.mp4")
    (tmp_path / "l.jsonl").write_text('{"input": "s3://bucket/a.mp4"}')
    with pytest.raises(MissingDependencyError, match=r"l\.jsonl:1: s3://.*Install s3fs"):
        jobs_of(tmp_path / "l.jsonl")


def test_without_fsspec_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    with pytest.raises(MissingDependencyError, match=r"need fsspec: pip install -e \. \("):
        jobs_of("s3://bucket/a.mp4")


def test_local_inputs_do_not_import_fsspec(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "fsspec", None)
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    (tmp_path / "a.mp4").write_bytes(b"clip")
    assert outputs_of(tmp_path) == ["a.mp4"]


@pytest.mark.parametrize(
    ("url", "error", "message"),
    [
        ("nope://bucket/a.mp4", UsageError, "Protocol not known: nope"),
        ("{web}none/", UsageError, "no such file or folder"),
        ("{web}none.txt", UsageError, "no such file or folder"),
        ("{web}*.avi", UsageError, "no clips or pictures"),
        ("{web}?token=x", UsageError, r"\?\*\*\*: a folder with a query"),
        ("http://127.0.0.1:9/clips/", MediaError, r"clips/: cannot be listed \(.*127\.0"),
        ("http://127.0.0.1:9/l.csv", MediaError, r"l\.csv: cannot be read"),
        ("zip://a.mp4::file:///none.zip", MediaError, "cannot be opened"),
    ],
)
def test_urls_that_stand_for_nothing_are_refused_in_one_line(web, url, error, message):
    with pytest.raises(error, match=message) as caught:
        jobs_of(url.format(web=web.url))
    assert "\n" not in str(caught.value)


def test_a_job_is_another_one_when_the_remote_file_is(web, archive, memory, tmp_path):
    urls = [f"{web.url}a.mp4", f"zip://a.mp4::{archive}", "memory://bucket/a.mp4"]
    before = [jobs_of(url)[0] for url in urls]
    assert [jobs_of(url)[0].id for url in urls] == [job.id for job in before]
    (web.folder / "a.mp4").write_bytes(b"other")
    memory.pipe("/bucket/a.mp4", b"bytes of b.mp4")
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as file:
        file.writestr("a.mp4", b"bytes of b.mp4")
    shutil.move(tmp_path / "z.zip", archive.removeprefix("file://"))
    remote.importlib.import_module("fsspec").filesystem("zip", fo=archive).clear_instance_cache()
    after = [jobs_of(url)[0] for url in urls]
    for old, new in zip(before, after, strict=True):
        assert old.id != new.id
        assert old.as_requested() == new.as_requested()
        assert Job.from_json(json.loads(json.dumps(new.to_json()))) == new


def test_the_state_of_a_file_is_asked_for_once(web):
    (job,) = jobs_of(f"{web.url}a.mp4")
    shutil.rmtree(web.folder)
    assert job.id == job.id


SECRETS = [
    ("ftp://me:pa:ss@host/a.mp4", "ftp://host/a.mp4"),
    ("zip://a.mp4::https://me@host/x.zip", "zip://a.mp4::https://host/x.zip"),
    ("https://h/a.mp4?id=1&X-Amz-Signature=ab&X-Amz-Expires=9", "https://h/a.mp4?***"),
    ("https://h/a.mp4?sv=1&sig=a%2Fb", "https://h/a.mp4?***"),
    ("https://h/a.mp4?version=3", "https://h/a.mp4?version=3"),
    ("https://h/@me/a.mp4", "https://h/@me/a.mp4"),
]


@pytest.mark.parametrize(("url", "said"), SECRETS)
def test_secrets_are_not_shown(url, said):
    assert without_secrets(url) == said
    assert without_secrets(f"404 of '{url}', sorry") == f"404 of '{said}', sorry"
    job = Job(url, "a.mp4", SMILE)
    assert job.shown == job.as_requested()["input"] == said


def test_a_url_that_is_signed_again_is_the_same_clip(tmp_path):
    one, two = (Job(f"https://h/a.mp4?sig={n}", "a.mp4", SMILE) for n in (1, 2))
    assert one.id == two.id
    settings = Settings("/pack", "1234")
    for job in (one, two):
        with contextlib.closing(Journal(tmp_path / "out")) as journal:
            check(journal, settings, [job], resume=True, restart=False)
            start(journal, settings, [job], restart=False, reports=False)
    assert b"sig" not in journal.path.read_bytes()


def test_pages_that_link_upwards_and_to_subfolders_that_are_gone(web):
    (web.folder / "s" / "index.html").write_text(
        '<a href="../s/">up</a> <a href="?C=N;O=D">sort</a> <a href="deep/">d</a>'
    )
    assert outputs_of(f"{web.url}s/") == ["deep/d.webm"]
    (web.folder / "s" / "index.html").write_text('<a href="gone/">g</a>')
    with pytest.raises(MediaError, match=r"s/gone/: cannot be listed \(no such file\)"):
        jobs_of(f"{web.url}s/")


def test_passwords_are_in_no_message(web):
    url = web.url.replace("http://", "http://me:secret@")
    with pytest.raises(UsageError) as caught:
        jobs_of(f"{url}none/")
    assert "secret" not in str(caught.value)
    with pytest.raises(MediaError) as caught:
        jobs_of("http://me:secret@127.0.0.1:9/clips/")
    assert "secret" not in str(caught.value)


def test_a_download_that_is_cut_short_leaves_nothing_and_may_be_tried_again(web, tmp_path):
    (job,) = jobs_of(f"{web.url}a.mp4")
    target = tmp_path / "source.mp4"
    (tmp_path / ".source.mp4.dead.part").write_bytes(b"of a worker that was killed")
    web.dropped = 1
    with pytest.raises(MediaError, match=r"a\.mp4: cannot be fetched"):
        fetch(job.input, target, size=14, on_chunk=lambda: None)
    assert not [path for path in tmp_path.iterdir() if path.name.endswith((".part", ".mp4"))]
    assert fetch(job.input, target, size=14, on_chunk=lambda: None) == 14
    with pytest.raises(MediaError, match="14 bytes came, and it had 15"):
        fetch(job.input, tmp_path / "b", size=15, on_chunk=lambda: None)


def test_a_slow_download_lives_and_a_silent_one_ends(web, tmp_path):
    beats, how = [], {"size": 14, "silence_seconds": 0.5}
    web.pauses = [0.1] * 10
    fetch(f"{web.url}a.mp4", tmp_path / "a", on_chunk=lambda: beats.append(1), **how)
    assert (tmp_path / "a").read_bytes() == b"bytes of a.mp4"
    assert len(beats) > 5
    web.pauses = [1.5]
    with pytest.raises(MediaError, match=r"cannot be fetched \(.*[Tt]imeout"):
        fetch(f"{web.url}a.mp4", tmp_path / "b", on_chunk=lambda: None, **how)


# Runs, with workers of this process.


@pytest.fixture(scope="module")
def stages(tiny_pack):
    digest = pack_digest(load_pack(tiny_pack).meta)
    return StageRunner(Settings(str(tiny_pack), digest, segment_frames=30))


@pytest.fixture
def clips(web, face_clip):
    """A good clip and a broken one on the server."""
    folder = web.folder / "clips"
    folder.mkdir()
    shutil.copy(face_clip, folder / "one.mp4")
    (folder / "broken.mp4").write_bytes(b"no video")
    return f"{web.url}clips/"


def test_remote_clips_are_fetched_once_edited_and_removed(web, clips, stages, face_clip, tmp_path):
    output, local = tmp_path / "out", tmp_path / "local"
    jobs = jobs_of(clips.replace("http://", "http://me:secret@"), f"{web.url}gone.mp4")
    web.gets.clear()
    workers = InProcessWorkers(stages)
    rows = run_jobs(jobs, output, workers)
    assert sorted(web.gets) == [
        *(f"/clips/{name}.mp4" for name in ("broken", "one")),
        *["/gone.mp4"] * 2,
    ]
    good, broken, gone = rows["one.mp4"], rows["broken.mp4"], rows["gone.mp4"]
    assert (good["status"], good["input"], good["frames"]) == ("done", f"{clips}one.mp4", FRAMES)
    assert set(good["seconds"]) == {"fetch", "analyse", "render", "join"}
    assert (broken["stage"], broken["attempts"]) == ("analyse", 1)
    assert broken["cause"].startswith(f"{clips}broken.mp4: ")
    assert (gone["stage"], gone["attempts"]) == ("fetch", 2)
    assert gone["cause"] == f"{web.url}gone.mp4: cannot be fetched (no such file)"
    # What a path on this machine gives.
    (job,) = jobs_of(face_clip)
    run_jobs([job], local, InProcessWorkers(stages))
    assert (output / "one.mp4").read_bytes() == (local / "face.mp4").read_bytes()
    work = output / ".vidinv-batch" / "work"
    assert not [path for path in work.rglob("*") if path.is_file()]
    told = (output / "log").read_text() + (output / ".vidinv-batch/journal.jsonl").read_text()
    assert "secret" not in told + json.dumps(rows)


class SlowRenderers(FakeWorkers):
    """One worker on a CPU, and one that renders once the other has nothing more to do."""

    def start(self, task, payload):
        if any((other.stage is RENDER) == (task.stage is RENDER) for other, _ in self._busy):
            return False
        self._busy.append((task, payload))
        return True

    def wait(self, *, timeout_seconds):
        self._busy.sort(key=lambda one: one[0].stage is RENDER)
        return super().wait(timeout_seconds=timeout_seconds)

    def result_of(self, task, payload):
        if task.stage is FETCH:
            path = task.clip.job.fetched(payload.folder)
            path.parent.mkdir(parents=True)
            path.write_bytes(b"clip")
            self.most = max(
                getattr(self, "most", 0), len(list(path.parent.parent.glob("*/source*")))
            )
            return FetchResult(4)
        return super().result_of(task, payload)


def test_few_copies_lie_on_disk_at_one_time(tmp_path):
    jobs = [Job(f"memory://d/{n}.mp4", f"{n}.mp4", SMILE) for n in range(20)]
    workers = SlowRenderers()
    rows = run_jobs(jobs, tmp_path / "out", workers)
    assert all(row["status"] == "done" for row in rows.values())
    assert workers.most == workers.count + 1


def test_a_resumed_run_does_not_fetch_what_is_there(web, clips, stages, tmp_path):
    jobs, output = jobs_of(f"{clips}one.mp4"), tmp_path / "out"

    def stop(task):
        if task.stage is RENDER:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_jobs(jobs, output, InProcessWorkers(stages, stop))
    web.gets.clear()
    workers = InProcessWorkers(stages)
    assert run_jobs(jobs, output, workers)["one.mp4"]["status"] == "done"
    assert web.gets == []
    assert {stage for _, stage in workers.done} == {"render", "join"}


def test_a_copy_that_is_gone_is_fetched_again_and_the_rest_is_kept(web, clips, stages, tmp_path):
    jobs, output = jobs_of(f"{clips}one.mp4"), tmp_path / "out"

    def lose(task):
        if task.stage is JOIN:
            jobs[0].fetched(task.clip.folder).unlink()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_jobs(jobs, output, InProcessWorkers(stages, lose))
    workers = InProcessWorkers(stages)
    assert run_jobs(jobs, output, workers)["one.mp4"]["status"] == "done"
    assert [stage for _, stage in workers.done] == ["fetch", "join"]


def test_a_disk_that_is_full_while_fetching_ends_the_run(web, clips, stages, tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    fs = pytest.importorskip("fsspec").filesystem("memory")
    monkeypatch.setattr(type(fs), "get_file", full)
    fs.pipe("/d/a.mp4", b"clip")
    with pytest.raises(OSError, match=r"d/a\.mp4: the disk is full; make room.*--resume"):
        run_jobs(jobs_of("memory://d/a.mp4"), tmp_path / "out", InProcessWorkers(stages))


def test_what_comes_of_a_download_is_a_sign_of_life(web, tiny_pack, stages, tmp_path, monkeypatch):
    (job,) = jobs_of(f"{web.url}a.mp4")
    actor = StageActor("pipelines.batch.stages.runner:StageRunner", stages.settings)
    done, heartbeat = actor.run(FetchTask(job, tmp_path / "work"))
    assert done.result == FetchResult(14)
    assert (heartbeat.frames, heartbeat.beats > 0) == (0, True)


def test_a_worker_that_downloads_is_not_stalled():
    workers = RayWorkers(Settings("/pack", "1"), pools=PoolRequest(), stall_seconds=1.0)
    pool = Pool(frozenset({"fetch"}), num_workers=1)
    worker = RayWorker(pool, None, None, WorkerFacts("fetch 1"), pid=1, task="fetch")
    worker.silent_seconds = 2.0
    assert workers._is_stalled(worker)
    worker.take_heartbeat(WorkerHeartbeat(frames=0, beats=0, num_expected=None, peak_rss_mb=1.0))
    assert workers._is_stalled(worker)
    worker.take_heartbeat(WorkerHeartbeat(frames=0, beats=1, num_expected=None, peak_rss_mb=1.0))
    assert not workers._is_stalled(worker)


def test_a_dry_run_lists_remote_clips_with_their_size_and_reads_none(
    web, tiny_pack, tmp_path, capsys
):
    pytest.importorskip("ray", reason="needs Ray: pip install -e .")
    (web.folder / "s" / "big.mp4").write_bytes(bytes(2_500_000))
    command = ["batch", f"{web.url}s/", "-o", str(tmp_path / "out"), "--attr", "smile"]
    assert main([*command, "--pack", str(tiny_pack), "--dry-run"]) == 0
    big, *_, total = capsys.readouterr().out.splitlines()
    assert big == f"big.mp4\t2.5 MB to fetch\t{web.url}s/big.mp4"
    assert "; and 3 remote files of 2.5 MB, not opened" in total
    assert not [path for path in web.gets if path.endswith((".mp4", ".webm"))]
    assert not (tmp_path / "out").exists()
