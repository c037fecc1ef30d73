"""Inputs of a run: folders, globs and manifests; outputs that mirror them and never collide."""

from __future__ import annotations

import errno
import json
import os
import socket
from pathlib import Path

import pytest

from pipelines.batch.inputs.find import find_jobs
from pipelines.batch.request.jobs import Job, Settings
from pipelines.batch.stages.runner import StageRunner
from tests.pipelines.batch.in_process import InProcessWorkers, run_jobs
from tests.pipelines.batch.test_schedule import FakeWorkers, run
from vidinv.errors import DecodeError, UsageError
from vidinv.files import one_line
from vidinv.paths import check_file

SMILE = {"smile": ((0.0, 1.0),)}


@pytest.fixture
def tree(tmp_path) -> Path:
    root = tmp_path / "data"
    for name in ("a.mp4", "b.MKV", "c.mpg", "notes.txt", "s/a.mp4", "s/deep/d.webm", ".x/h.mp4"):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"clip")
    return root


def jobs_of(*inputs, output="out", attributes=SMILE, **how):
    return find_jobs([str(i) for i in inputs], output=Path(output), attributes=attributes, **how)


def outputs_of(*inputs, **how):
    return [job.output for job in jobs_of(*inputs, **how)]


def test_a_folder_is_mirrored_with_clips_only(tree):
    assert outputs_of(tree) == ["a.mp4", "b.MKV", "c.mp4", "s/a.mp4", "s/deep/d.webm"]


def test_a_glob_is_mirrored_from_its_first_wildcard(tree):
    assert outputs_of(tree / "**" / "*.mp4") == ["a.mp4", "s/a.mp4"]
    assert outputs_of(tree / "s" / "*.mp4") == ["a.mp4"]


def test_a_file_named_by_itself_may_have_any_extension(tree):
    assert outputs_of(tree / "notes.txt") == ["notes.mp4"]


def test_another_picture_of_the_face_to_edit_is_other_work(tree):
    face = tree / "face.png"
    face.write_bytes(b"one person")
    (before,) = jobs_of(tree / "a.mp4", face=str(face))
    face.write_bytes(b"another person")
    (after,) = jobs_of(tree / "a.mp4", face=str(face))
    assert before.id != after.id


@pytest.mark.parametrize("what", ["missing.mp4", "none/*.mp4"])
def test_inputs_that_are_not_there_are_refused(tree, what):
    with pytest.raises(UsageError, match=r"no such file|no clips or pictures in"):
        jobs_of(tree / what)


def test_collisions_are_refused_with_both_names(tree):
    with pytest.raises(UsageError, match=r"data/a\.mp4 and .*s/a\.mp4 would both"):
        jobs_of(tree / "a.mp4", tree / "s" / "a.mp4")
    (tree / "c.mp4").write_bytes(b"clip")
    with pytest.raises(UsageError, match=r"would both be written to c\.mp4"):
        jobs_of(tree)


def test_names_that_differ_in_case_only_collide(tree):
    (tree / "A.mp4").write_bytes(b"clip")
    with pytest.raises(UsageError, match="would both"):
        jobs_of(tree)


def test_an_output_never_replaces_an_input(tree):
    with pytest.raises(UsageError, match="would replace an input"):
        jobs_of(tree, output=tree)


def manifest(tree, *rows) -> Path:
    path = tree / "list.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n\n")
    return path


def test_a_jsonl_manifest_gives_each_clip_its_own_edit(tree):
    path = manifest(
        tree,
        {"input": "a.mp4", "attributes": {"age": 1, "yaw": [[0, 0], [2, 1]]}, "face": 1},
        {"input": "s/a.mp4", "attributes": "age smile=2", "strength": -0.5},
        {"input": str(tree / "c.mpg"), "output": "x/y.mkv"},
    )
    one, two, three = jobs_of(path, face="all")
    assert (one.output, one.face) == ("a.mp4", "1")
    assert one.attributes == {"age": ((0.0, 1.0),), "yaw": ((0.0, 0.0), (2.0, 1.0))}
    assert two.attributes == {"age": ((0.0, -0.5),), "smile": ((0.0, 2.0),)}
    assert (three.output, three.face, three.attributes) == ("x/y.mkv", "all", SMILE)


def test_a_csv_manifest_says_the_same(tree):
    path = tree / "list.csv"
    path.write_text('input,attributes,strength,face\na.mp4,"age yaw=1",2,\ns/a.mp4,,,all\n')
    one, two = jobs_of(path)
    assert one.attributes == {"age": ((0.0, 2.0),), "yaw": ((0.0, 1.0),)}
    assert (two.attributes, two.face) == (SMILE, "all")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"face": "all"}, r"list\.jsonl:1: the field input is missing"),
        ({"input": 5}, "input 5 is not a path"),
        ({"input": "s"}, "input 's' is a folder"),
        ({"input": "s\\a.mp4"}, r"a Windows path\? write it with /"),
        ({"input": "C:\\clips\\a.mp4"}, r"a Windows path\? write it with /"),
        ({"input": "a.mp4", "output": "s\\x.mp4"}, "Windows path: write it with /"),
        ({"input": "a.mp4", "output": "x.avi"}, "'x.avi': a clip is written as .mp4"),
        ({"input": "a.mp4", "output": "x.png"}, "'x.png': a clip is written as .mp4"),
        ({"input": "a.mp4", "output": ".vidinv-batch/x.mp4"}, "among vidinv's own"),
        ({"input": "a.mp4", "output": "x" * 230 + ".mp4"}, "longer than 230 bytes"),
        ({"input": "a.mp4", "output": "\ud800.mp4"}, r":1: output '.ud800.mp4' is not a path"),
        ({"input": "\ud800.mp4"}, r":1: input '.ud800.mp4' is not a path"),
        ({"input": "a.mp4", "face": "nobody"}, r":1: face 'nobody' is not largest, all"),
        ({"input": "a.mp4", "face": -1}, "face -1 is not"),
        ({"input": "a.mp4", "face": True}, "face True is not"),
        ({"input": "a.mp4", "face": "9" * 5000}, "face '9+' is not"),
        ({"input": "a.mp4", "attributes": {"smile": float("nan")}}, ":1: .*not finite"),
        ({"input": "a.mp4", "attributes": {"smile": "much"}}, ":1: .*keyframes are pairs"),
        ({"input": "a.mp4", "attributes": {"smile": True}}, "keyframes are pairs"),
        ({"input": "a.mp4", "attributes": {"smile": ["12"]}}, ":1: .*keyframes are pairs"),
        ({"input": "a.mp4", "attributes": {"smile": [["0", "1"]]}}, "keyframes are pairs"),
        ({"input": "a.mp4", "attributes": {"smile": [[0, False]]}}, "keyframes are pairs"),
        ({"input": "a.mp4", "attributes": {"smile": 10**400}}, ":1: .*not finite"),
        ({"input": "a.mp4", "attributes": "smile", "strength": 10**400}, ":1: .*not finite"),
        ({"input": "a.mp4", "attributes": "smile", "strength": "nan"}, ":1: .*not finite"),
        ({"input": "a.mp4", "attributes": "smile", "strength": "much"}, ":1: .*not a number"),
        ({"input": "a.mp4", "attributes": {"smile": 1}, "strength": 2}, "without one"),
        ({"input": "a.mp4", "attributes": "smile=0.5 age=1", "strength": 2}, ":1: .*without one"),
        ({"input": "a.mp4", "attributes": {}}, ":1: attributes are empty: leave the field out"),
        ({"input": "a.mp4", "attributes": []}, "attributes are empty"),
        ({"input": "a.mp4", "attributes": " ", "strength": 3}, "attributes are empty"),
        ({"input": "a.mp4", "attributes": 3}, "attributes 3: expected text"),
        ({"input": "a.mp4", "attributes": "smlie"}, ":1: unknown attribute 'smlie'; .* smile"),
        ({"input": "a.mp4", "strenght": 1}, "no such field 'strenght'"),
        ({"input": "a.mp4", "strength": 1}, "strength is given without attributes"),
        ({"input": "a.mp4", "attributes": "age=x"}, r"list\.jsonl:1: .*not a number"),
        ({"input": "a.mp4", "attributes": {"age": []}}, "no keyframe"),
        ({"input": "a.mp4", "output": "../evil.mp4"}, "would lie outside"),
        ({"input": "a.mp4", "output": "/tmp/evil.mp4"}, "would lie outside"),
        (["a.mp4"], "expected an object"),
    ],
)
def test_manifest_rows_in_error_are_refused_with_their_line(tree, row, message):
    with pytest.raises(UsageError, match=message) as caught:
        jobs_of(manifest(tree, row), attribute_names=["age", "smile"])
    assert "\n" not in str(caught.value)


def test_rows_with_the_same_output_are_refused_with_both_lines(tree):
    rows = [{"input": "a.mp4"}, {"input": "s/a.mp4"}, {"input": "a.mp4", "face": "all"}]
    with pytest.raises(UsageError, match=r"list\.jsonl:3: .*a\.mp4 would be .* as line 1 is"):
        jobs_of(manifest(tree, *rows))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("l.csv", b"input;face\na.mp4;all\n", "no such field 'input;face'"),
        ("l.csv", b"input,face\na.mp4,all,3\n", r"l\.csv:2: more values than"),
        ("l.csv", b"input\n" + b"x" * 200_000, r"l\.csv:2: not CSV"),
        ("l.csv", b"input,face,input\na.mp4,all,c.mpg\n", r"l\.csv:1: 'input' is given twice"),
        ("l.jsonl", b'{"input": "a.mp4", "input": "c.mpg"}', r"l\.jsonl:1: 'input' is given twice"),
        (
            "l.jsonl",
            b'{"input": "a.mp4", "attributes": {"age": 1, "age": 2}}',
            r"l\.jsonl:1: 'age' is given twice",
        ),
        (
            "l.jsonl",
            b'{"input": "a.mp4", "strength": 1' + b"0" * 5000 + b"}",
            r"l\.jsonl:1: not JSON",
        ),
        ("l.jsonl", b'\n{"input": "a.mp4"\n', r"l\.jsonl:2: not JSON"),
        ("l.jsonl", '{"input": "ä.mp4"}'.encode("latin-1"), r"l\.jsonl: not UTF-8"),
        ("l.jsonl", '{"input": "a.mp4"}'.encode("utf-16"), r"l\.jsonl: not UTF-8"),
        ("l.jsonl", b"\n\n", "no clips or pictures"),
    ],
)
def test_files_that_are_no_manifests_are_refused_in_one_line(tree, name, content, message):
    (tree / name).write_bytes(content)
    with pytest.raises(UsageError, match=message) as caught:
        jobs_of(tree / name)
    assert "\n" not in str(caught.value)


def test_byte_order_marks_empty_lines_and_windows_line_ends_are_nothing(tree):
    csv, lines = tree / "l.csv", tree / "l.jsonl"
    csv.write_bytes(b"\xef\xbb\xbfinput,face\r\n\r\na.mp4,all\r\n,\r\n")
    lines.write_bytes(b'\xef\xbb\xbf\r\n{"input": "a.mp4", "face": "all", "output": null}\r\n')
    for path in (csv, lines):
        (job,) = jobs_of(path)
        assert (job.output, job.face) == ("a.mp4", "all")


def test_a_face_of_a_row_counts_from_its_folder_and_zero_is_a_face(tree):
    (tree / "me.png").write_bytes(b"picture")
    rows = [{"input": "a.mp4", "face": "me.png"}, {"input": "c.mpg", "face": 0}]
    one, two = jobs_of(manifest(tree, *rows), face="all")
    assert (one.face, two.face) == (str(tree / "me.png"), "0")


def test_a_face_on_the_command_line_that_is_no_picture_is_refused(tree):
    with pytest.raises(UsageError, match="face 'nobody' is not largest"):
        jobs_of(tree, face="nobody")


def test_columns_without_a_name_are_nothing(tree):
    (tree / "l.csv").write_text("input,face,,\na.mp4,all,,\n")
    (job,) = jobs_of(tree / "l.csv")
    assert job.face == "all"


def test_a_file_that_is_missing_costs_no_other_clip_anything(tree):
    gone = str(tree / "gone.mp4")
    rows = [{"input": "a.mp4"}, {"input": "gone.mp4"}, {"input": gone, "output": "b.mp4"}]
    assert [(job.input, job.output, job.stamp == {}) for job in jobs_of(manifest(tree, *rows))] == [
        (str(tree / "a.mp4"), "a.mp4", False),
        (gone, "b.mp4", True),
        (gone, "gone.mp4", True),
    ]


def test_a_file_that_vanished_is_known_as_it_was_before(tree, tmp_path):
    (tmp_path / "link").symlink_to(tree)
    path = tmp_path / "list.jsonl"
    path.write_text(json.dumps({"input": "link/a.mp4"}))
    (before,) = jobs_of(path)
    (tree / "a.mp4").unlink()
    (after,) = jobs_of(path)
    assert before.as_requested() == after.as_requested()


def test_an_absolute_output_counts_from_the_output_folder(tree, tmp_path):
    output, link = tmp_path / "out", tmp_path / "link"
    output.mkdir()
    link.symlink_to(output)
    rows = [
        {"input": "a.mp4", "output": str(output / "x" / "one.mp4")},
        {"input": "c.mpg", "output": str(link / "two")},
    ]
    assert outputs_of(manifest(tree, *rows), output=output) == ["two.mp4", "x/one.mp4"]
    assert outputs_of(manifest(tree, *rows), output=link) == ["two.mp4", "x/one.mp4"]
    for outside in (output, tmp_path / "out2" / "x.mp4"):
        with pytest.raises(UsageError, match="would lie outside"):
            jobs_of(manifest(tree, {"input": "a.mp4", "output": str(outside)}), output=output)


@pytest.mark.parametrize("names", [("x.mp4", "x.mp4/y.mp4"), ("X.mp4/a/y.mp4", "x.mp4")])
def test_an_output_is_no_folder_of_another(tree, names):
    rows = [
        {"input": name, "output": out} for name, out in zip(("a.mp4", "c.mpg"), names, strict=True)
    ]
    with pytest.raises(UsageError, match=r"would be a file and a folder of one name") as caught:
        jobs_of(manifest(tree, *rows))
    assert all(str(tree / name) in str(caught.value) for name in ("a.mp4", "c.mpg"))


def test_a_link_below_the_output_folder_leads_nowhere_else(tree, tmp_path):
    output, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    output.mkdir()
    elsewhere.mkdir()
    (output / "s").symlink_to(elsewhere)
    with pytest.raises(UsageError, match="would lie outside"):
        jobs_of(tree, output=output)


def test_a_clip_without_an_edit_is_refused(tree):
    with pytest.raises(UsageError, match="nothing to change"):
        jobs_of(tree, attributes={})


def odd_files(folder) -> set[str]:
    """A FIFO, a socket and two links that lead nowhere, all with the names of clips."""
    os.mkfifo(folder / "fifo.mp4")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(folder / "socket.mp4"))
    (folder / "link.mp4").symlink_to("gone.mp4")
    (folder / "loop.png").symlink_to("loop.png")
    return {"fifo.mp4", "socket.mp4", "link.mp4", "loop.png"}


def test_what_is_no_file_is_taken_and_not_left_out(tmp_path):
    root = tmp_path / "o"
    root.mkdir()
    names = odd_files(root)
    (root / "folder.mp4").mkdir()
    assert set(outputs_of(root)) == names
    assert set(outputs_of(root / "*")) == names
    for name in names:
        (job,) = jobs_of(root / name)
        assert (job.input, job.output) == (str(root / name), name)
    assert set(outputs_of(manifest(root, *({"input": name} for name in names)))) == names


def test_what_is_no_file_is_named_when_it_is_opened(tmp_path):
    odd_files(tmp_path)
    for name, message in {
        "fifo.mp4": "a FIFO, not a file",
        "socket.mp4": "a socket, not a file",
        "link.mp4": "broken link to gone.mp4",
        "loop.png": "cannot be opened (Too many levels of symbolic links)",
        "nothing.mp4": "no such file",
    }.items():
        with pytest.raises(DecodeError) as caught:
            check_file(str(tmp_path / name))
        assert str(caught.value) == f"{tmp_path / name}: {message}"
    with pytest.raises(DecodeError, match="a device, not a file"):
        check_file("/dev/null")


def test_odd_files_end_as_rows_and_so_does_a_file_that_vanishes(tmp_path, tiny_pack):
    root = tmp_path / "o"
    root.mkdir()
    names = odd_files(root) | {"vanishing.mp4"}
    (root / "vanishing.mp4").write_bytes(b"clip")
    jobs = jobs_of(root)
    (root / "vanishing.mp4").unlink()
    stages = StageRunner(Settings(str(tiny_pack), "1234"))
    rows = run_jobs(jobs, tmp_path / "out", InProcessWorkers(stages))
    assert set(rows) == names
    for name, row in rows.items():
        stage = "picture" if name.endswith(".png") else "analyse"
        assert (row["status"], row["stage"], row["attempts"]) == ("quarantined", stage, 1)
        assert row["cause"].startswith(f"{root / name}: ")
    assert rows["vanishing.mp4"]["cause"].endswith(": no such file")


def test_a_finished_clip_whose_source_is_gone_stays_done(tree, tmp_path):
    path = manifest(tree, {"input": "a.mp4", "face": "all"}, {"input": "c.mpg"})
    first = run(jobs_of(path), tmp_path, FakeWorkers())
    assert [row["status"] for row in first] == ["done", "done"]
    (tree / "a.mp4").unlink()
    workers = FakeWorkers()
    assert run(jobs_of(path), tmp_path, workers) == first
    assert workers.done == []


def test_a_file_without_permission_is_named_when_it_is_opened(tree, monkeypatch):
    def refuse(*args):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)  # these tests may run as root, who may read all
    with pytest.raises(DecodeError, match=r"a\.mp4: cannot be opened \(Permission denied\)"):
        check_file(str(tree / "a.mp4"))


def test_a_folder_that_cannot_be_listed_is_refused(tree, monkeypatch):
    scandir = os.scandir

    def refuse(path):
        if str(path).endswith("deep"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(UsageError, match=r"s/deep: cannot be listed \(Permission denied\)"):
        jobs_of(tree)


def test_folders_that_are_links_are_searched_too(tree, tmp_path):
    real = tmp_path / "real"
    (real / "deep").mkdir(parents=True)
    (real / "deep" / "r.mp4").write_bytes(b"clip")
    (tree / "linked").symlink_to("../real")
    for inputs in (tree, tree / "**", tree / "**" / "*.*"):
        assert "linked/deep/r.mp4" in outputs_of(inputs)


def test_links_that_lead_in_a_circle_end_nothing_and_double_nothing(tree):
    before = outputs_of(tree)
    (tree / "loop").symlink_to(".")
    (tree / "s" / "up").symlink_to("..")
    (tree / "s" / "deep" / "up").symlink_to("../..")
    assert outputs_of(tree) == before
    assert outputs_of(tree / "**") == before
    assert outputs_of(tree / "**" / "**" / "*.mp4") == ["a.mp4", "s/a.mp4"]
    assert outputs_of(tree / "**" / "deep" / "**" / "*.webm") == ["s/deep/d.webm"]


def test_folders_that_link_to_each_other_are_searched_once_each(tmp_path):
    """They would be as many as there are ways through them: 13,699."""
    root, names = tmp_path / "r", "abcdefg"
    for name in names:
        (root / name).mkdir(parents=True)
        (root / name / f"{name}.mp4").write_bytes(b"clip")
        for other in names:
            (root / name / f"0{other}").symlink_to(f"../{other}")
    real = [f"{name}/{name}.mp4" for name in names]
    assert outputs_of(root) == real
    for pattern in ("**", "**/*.mp4", "**/?/**/*.mp4", "*/**"):
        assert outputs_of(root / pattern) == real


def test_a_folder_has_its_own_name_and_not_that_of_a_link_to_it(tree, tmp_path):
    before, elsewhere = outputs_of(tree), tmp_path / "elsewhere"
    (elsewhere / "in").mkdir(parents=True)
    (elsewhere / "in" / "e.mp4").write_bytes(b"clip")
    for path in (tree / "0", tree / "z"):
        path.symlink_to(tree / "s")
    (tree / "out2").symlink_to(elsewhere)
    (tree / "out1").symlink_to(elsewhere)
    expected = sorted([*before, "out1/in/e.mp4"])
    assert outputs_of(tree) == outputs_of(tree / "**") == expected
    assert outputs_of(tree / "*" / "**") == [name for name in expected if "/" in name]


def test_of_several_links_to_a_folder_the_first_by_depth_and_name_counts(tmp_path):
    root, elsewhere = tmp_path / "r", tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "e.mp4").write_bytes(b"clip")
    links = ["x", "y", "b/a", "c/a", "c/d/a"]
    for name in links:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).symlink_to(elsewhere)
    for name in links:
        assert outputs_of(root) == outputs_of(root / "**") == [f"{name}/e.mp4"]
        (root / name).unlink()


def test_a_glob_takes_what_it_names_and_no_hidden_folder(tree, monkeypatch):
    monkeypatch.chdir(tree)
    assert outputs_of("**/*.mp4") == ["a.mp4", "s/a.mp4"]
    assert outputs_of("s/**") == ["a.mp4", "deep/d.webm"]
    assert outputs_of("s/**/d*") == ["deep/d.webm"]
    assert outputs_of(tree / "[s]" / "**" / "*.webm") == ["s/deep/d.webm"]


def test_earlier_outputs_behind_a_link_are_no_inputs(tree, tmp_path):
    before, output = outputs_of(tree), tmp_path / "out"
    output.mkdir()
    (output / "a.mp4").write_bytes(b"edited")
    (tree / "edited").symlink_to(output)
    assert outputs_of(tree, output=output) == before


NAMES = [
    "a b.mp4",
    "-x.mp4",
    'it\'s "q".mp4',
    "ünï 日本.mp4",
    "a\nb\tc.mp4",
    "[1] *?.mp4",
    "n" * 200,
]


@pytest.mark.parametrize("name", [*NAMES, os.fsdecode(b"\xff.mp4")])
def test_names_of_all_kinds_are_mirrored(tmp_path, name):
    (tmp_path / name).write_bytes(b"clip")
    expected = name if name.endswith(".mp4") else f"{name}.mp4"
    (job,) = jobs_of(tmp_path / name)
    assert (job.input, job.output) == (str(tmp_path / name), expected)
    assert Job.from_json(json.loads(json.dumps(job.to_json()))) == job
    assert "/" not in job.id
    assert one_line(job.shown).isprintable()


def test_a_name_that_is_too_long_for_its_output_is_refused(tmp_path):
    (tmp_path / ("n" * 240)).write_bytes(b"clip")
    with pytest.raises(UsageError, match="longer than 230 bytes: name its output in a manifest"):
        jobs_of(tmp_path / ("n" * 240))


def test_outputs_of_an_earlier_run_below_the_inputs_are_no_inputs(tree):
    before = outputs_of(tree, output=tree / "out")
    (tree / "out" / "s").mkdir(parents=True)
    for name in before:
        (tree / "out" / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / "out" / name).write_bytes(b"edited")
    assert outputs_of(tree, output=tree / "out") == before
    assert outputs_of(tree / "**" / "*.mp4", output=tree / "out") == ["a.mp4", "s/a.mp4"]


def test_pictures_keep_their_format(tree):
    for name in ("p.png", "q.JPG", "s/r.webp"):
        (tree / name).write_bytes(b"picture")
    pictures = [job for job in jobs_of(tree) if job.is_picture]
    assert [job.output for job in pictures] == ["p.png", "q.JPG", "s/r.webp"]
    (job,) = jobs_of(manifest(tree, {"input": "p.png", "output": "x.jpg"}))
    assert job.output == "x.jpg"
    with pytest.raises(UsageError, match=r"'x\.mp4': a picture is written as \.png"):
        jobs_of(manifest(tree, {"input": "p.png", "output": "x.mp4"}))


def test_another_file_of_the_same_name_is_other_work(tree):
    (before,) = jobs_of(tree / "a.mp4")
    (tree / "a.mp4").write_bytes(b"other clip")
    (after,) = jobs_of(tree / "a.mp4")
    assert before.as_requested() == after.as_requested()
    assert before.id != after.id


def test_what_is_left_out_is_told(tmp_path):
    root, out = tmp_path / "i", tmp_path / "i" / "out"
    out.mkdir(parents=True)
    wanted = ["a.vob", "b.DV", "c.gif", "d.jfif", "e.bmp", "f.tiff"]
    left_out = ["notes.txt", "photo.heic"]
    for name in (*wanted, *left_out, ".hidden.txt", "out/log.txt"):
        (root / name).write_bytes(b"")
    for given in (root, root / "*"):
        told: list[str] = []
        jobs = jobs_of(given, output=out, skipped=told.append)
        assert [Path(job.input).name for job in jobs] == wanted
        assert sorted(told) == left_out
    with pytest.raises(UsageError, match=r"photo\.heic: \.heic pictures are not supported"):
        jobs_of(root / "photo.heic")
