"""The journal: what survives a crash, and which runs may follow which."""

from __future__ import annotations

import dataclasses
import errno
import fcntl
import json
import os
from pathlib import Path

import pytest

from pipelines.batch.request.jobs import Job, Settings
from pipelines.batch.status.journal import Journal, check, start
from vidinv.errors import UsageError
from vidinv.types import TimeRange

SETTINGS = Settings("/pack", "1234")
AGREED = {"resume": False, "restart": False}


@pytest.fixture
def job(tmp_path):
    clip = tmp_path / "a.mp4"
    clip.write_bytes(b"clip")
    return Job(str(clip), "a.mp4", {"smile": ((0.0, 1.0),)})


@pytest.fixture
def output(tmp_path):
    return tmp_path / "out"


def begin(output, jobs, *, settings=SETTINGS, **how):
    journal = Journal(output)
    try:
        how = {**AGREED, **how}
        check(journal, settings, jobs, **how)
        start(journal, settings, jobs, restart=how["restart"], reports=False)
    finally:
        journal.close()
    return journal


def lines_of(output):
    journal = Journal(output)
    journal.close()
    return journal.lines


def test_lines_come_back(output, job):
    begin(output, [job])
    journal = Journal(output)
    journal.append({"event": "rendered", "clip": "x"})
    journal.close()
    lines = lines_of(output)
    assert [line.get("event") for line in lines] == [None, None, "rendered"]
    assert lines[0]["digest"] == SETTINGS.digest()
    assert Job.from_json(lines[1]["job"]) == job


def test_a_line_cut_short_by_a_crash_is_left_out(output, job):
    journal = begin(output, [job])
    with journal.path.open("ab") as file:
        file.write(b'{"event": "rend')
    journal = Journal(output)
    assert len(journal.lines) == 2
    journal.append({"event": "next"})
    journal.close()
    assert [json.loads(line) for line in journal.path.read_bytes().splitlines()][-1] == {
        "event": "next"
    }


def test_a_damaged_line_is_named_and_restart_goes_on(output, job):
    journal = begin(output, [job])
    text = journal.path.read_text().replace('{"job"', '{"jo', 1)
    journal.path.write_text(text)
    with pytest.raises(UsageError, match=r"journal\.jsonl: line 2 is damaged.*--restart"):
        begin(output, [job], resume=True)
    assert begin(output, [job], restart=True).lines == []
    begin(output, [job], resume=True)


def test_a_disk_without_locks_can_be_written_to(output, job, monkeypatch):
    def refuse(*arguments):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    assert len(begin(output, [job], resume=True).lines) == 0
    assert len(lines_of(output)) == 2


def test_two_runs_do_not_share_a_folder(output):
    journal = Journal(output)
    with pytest.raises(UsageError, match="another run is writing"):
        Journal(output)
    journal.close()
    Journal(output).close()


def test_an_earlier_run_is_resumed_or_restarted_but_not_overrun(output, job):
    begin(output, [job])
    with pytest.raises(UsageError, match="--resume does what is missing"):
        begin(output, [job])
    assert len(begin(output, [job], resume=True).lines) == 2
    assert begin(output, [job], restart=True).lines == []


def test_resume_of_nothing_is_a_run(output, job):
    begin(output, [job], resume=True)
    assert len(lines_of(output)) == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"segment_frames": 99}, r"segment_frames: 160 -> 99"),
        ({"pack_digest": "5678"}, r'pack_digest: "1234" -> "5678"'),
    ],
)
def test_resume_under_another_configuration_is_refused_with_the_difference(
    output, job, changes, message
):
    begin(output, [job])
    with pytest.raises(UsageError, match=message):
        begin(output, [job], resume=True, settings=dataclasses.replace(SETTINGS, **changes))


def test_a_pack_that_moved_is_the_same_pack(output, job):
    begin(output, [job])
    begin(output, [job], resume=True, settings=dataclasses.replace(SETTINGS, pack="/other"))


def test_resume_with_another_edit_of_a_clip_is_refused(output, job):
    begin(output, [job])
    other = dataclasses.replace(job, face="all")
    with pytest.raises(UsageError, match=r'a\.mp4: face: "largest" -> "all"'):
        begin(output, [other], resume=True)


def test_resume_takes_more_clips(output, job):
    begin(output, [job])
    begin(output, [job, dataclasses.replace(job, output="b.mp4")], resume=True)
    assert [line["job"]["output"] for line in lines_of(output)[1:]] == ["a.mp4", "b.mp4"]


def test_files_that_are_not_ours_are_not_replaced(output, job):
    output.mkdir()
    (output / "a.mp4").write_bytes(b"precious")
    for how in ({}, {"restart": True}):
        with pytest.raises(UsageError, match="not from an earlier run"):
            begin(output, [job], **how)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("sub/b/a.mp4", r"sub: not a folder"),
        ("manifest.jsonl/a.mp4", "lies where the run keeps its own files"),
        (".vidinv-batch/a.mp4", "lies where the run keeps its own files"),
        ("report.html/a.mp4", "lies where the run keeps its own files"),
    ],
)
def test_what_is_no_folder_is_refused_before_any_work(output, job, name, message):
    output.mkdir()
    (output / "sub").write_bytes(b"a file")
    with pytest.raises(UsageError, match=message):
        begin(output, [dataclasses.replace(job, output=name)])
    assert (output / "sub").read_bytes() == b"a file"


def test_a_folder_that_cannot_be_written_to_is_refused(output, job, monkeypatch):
    (output / "sub").mkdir(parents=True)
    access = os.access
    monkeypatch.setattr(os, "access", lambda p, mode: Path(p).name != "sub" and access(p, mode))
    with pytest.raises(UsageError, match=r"sub: cannot be written to"):
        begin(output, [dataclasses.replace(job, output="sub/a.mp4")])


def test_a_manifest_that_is_not_ours_is_not_replaced(output, job):
    output.mkdir()
    (output / "manifest.jsonl").write_bytes(b"precious")
    with pytest.raises(UsageError, match=r"manifest\.jsonl exists and is not from an earlier run"):
        begin(output, [job])


def test_restart_may_replace_what_an_earlier_run_made(output, job):
    begin(output, [job])
    (output / "a.mp4").write_bytes(b"ours")
    begin(output, [job], restart=True)


def test_a_restart_begins_with_its_own_edits_and_still_knows_its_outputs(output, job):
    begin(output, [job])
    (output / "a.mp4").write_bytes(b"ours")
    other = dataclasses.replace(job, face="all")
    begin(output, [other], restart=True)
    assert [line["job"]["face"] for line in lines_of(output)[1:]] == ["all"]
    begin(output, [other], resume=True)


def test_a_restart_that_was_cut_short_at_once_can_be_resumed(output, job):
    """The configuration is written, and the machine fails before the first clip is."""
    begin(output, [job])
    (output / "a.mp4").write_bytes(b"ours")
    journal = Journal(output)
    journal.forget({"settings": SETTINGS.deciding(), "digest": SETTINGS.digest()})
    journal.close()
    begin(output, [job], resume=True)
    assert len(lines_of(output)) == 2


def test_what_is_refused_leaves_the_earlier_run_as_it_was(output, job):
    begin(output, [job])
    journal = Journal(output)
    check(journal, SETTINGS, [job], resume=False, restart=True)
    journal.close()
    assert len(lines_of(output)) == 2


def test_another_file_is_other_work(job):
    other = dataclasses.replace(job, stamp={"size": 10})
    assert job.id != other.id
    assert job.as_requested() == other.as_requested()


def test_settings_with_a_range_survive_the_journal():
    settings = Settings("pack", "digest", within=TimeRange(1.5, None))
    again = Settings.from_json(json.loads(json.dumps(settings.to_json())))
    assert again == settings
    assert again.digest() != Settings("pack", "digest").digest()
