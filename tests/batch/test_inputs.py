"""Inputs of a run: folders, globs and manifests; outputs that mirror them and never collide."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipelines.batch.inputs import find_jobs
from vidinv.errors import UsageError

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


@pytest.mark.parametrize("what", ["missing.mp4", "none/*.mp4"])
def test_inputs_that_are_not_there_are_refused(tree, what):
    with pytest.raises(UsageError, match=r"no such file|no clips in"):
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


def test_a_jsonl_manifest_gives_each_clip_its_own_wish(tree):
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
        ({"input": "gone.mp4"}, r"list\.jsonl:1: input 'gone\.mp4' is not a file"),
        ({}, "input None is not a file"),
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
    with pytest.raises(UsageError, match=message):
        jobs_of(manifest(tree, row))


def test_a_link_below_the_output_folder_leads_nowhere_else(tree, tmp_path):
    output, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    output.mkdir()
    elsewhere.mkdir()
    (output / "s").symlink_to(elsewhere)
    with pytest.raises(UsageError, match="would lie outside"):
        jobs_of(tree, output=output)


def test_a_clip_without_a_wish_is_refused(tree):
    with pytest.raises(UsageError, match="nothing to change"):
        jobs_of(tree, attributes={})


def test_addresses_of_remote_files_are_refused_in_words(tree):
    with pytest.raises(UsageError, match="mount or copy it first"):
        jobs_of("s3://bucket/a.mp4")
