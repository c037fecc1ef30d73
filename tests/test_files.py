"""Files that are whole or not there, and their names as text that any reader takes."""

from __future__ import annotations

import json
import os

import pytest

from vidinv.files import (
    atomic_file,
    printable,
    printable_values,
    remove_temporaries,
    temporary_path,
)

NAME = os.fsdecode(b"b\xff\xc3\xa9.mp4")
SHOWN = "b\\udcff\u00e9.mp4"


def test_a_name_that_is_not_utf8_is_escaped_and_others_stay():
    assert printable(NAME) == SHOWN
    assert printable("\u00e9 \U0001f600\n") == "\u00e9 \U0001f600\n"


def test_every_text_of_a_row_is_escaped():
    row = {"input": NAME, NAME: [NAME, {"cause": NAME}], "frames": 3, "report": None, "x": (0.5,)}
    shown = printable_values(row)
    assert shown == {
        "input": SHOWN,
        SHOWN: [SHOWN, {"cause": SHOWN}],
        "frames": 3,
        "report": None,
        "x": [0.5],
    }
    json.dumps(shown, ensure_ascii=False).encode()


@pytest.mark.parametrize("sync", [False, True])
def test_a_file_appears_when_it_is_whole(tmp_path, sync):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with atomic_file(path, sync=sync) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
        assert temporary.parent == tmp_path
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["a.txt"]


def fail_halfway(path, error):
    path.write_text("half")
    raise error


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_an_error_leaves_what_was_there(tmp_path, error):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(error), atomic_file(path) as temporary:
        fail_halfway(temporary, error)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_two_writers_of_a_file_do_not_meet(tmp_path):
    with atomic_file(tmp_path / "a") as one, atomic_file(tmp_path / "a") as other:
        one.write_text("1")
        other.write_text("2")
    assert (tmp_path / "a").read_text() == "1"


@pytest.mark.parametrize("sync", [False, True])
def test_a_file_that_was_not_written_fails(tmp_path, sync):
    with pytest.raises(FileNotFoundError), atomic_file(tmp_path / "a", sync=sync):
        pass
    assert os.listdir(tmp_path) == []


def test_a_folder_that_is_a_file_fails(tmp_path):
    (tmp_path / "a").write_text("")
    with pytest.raises(NotADirectoryError), atomic_file(tmp_path / "a" / "b") as temporary:
        temporary.write_text("x")


@pytest.mark.parametrize("name", ["a[1].mp4", "n" * 251 + ".mp4", "link.mp4"])
def test_what_a_killed_writer_left_is_removed_and_nothing_else(tmp_path, name):
    """Also where the hidden name was cut, or lies beside what a link leads to."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link.mp4").symlink_to(tmp_path / "elsewhere" / "b.mp4")
    path = tmp_path / name
    left = [temporary_path(path) for _ in range(2)]
    others = [temporary_path(tmp_path / "other.mp4"), left[0].with_suffix(".mine")]
    for file in (*left, *others):
        file.write_bytes(b"x")
    remove_temporaries(path)
    assert not any(file.exists() for file in left)
    assert all(file.exists() for file in others)


def test_where_there_is_no_folder_nothing_is_left(tmp_path):
    remove_temporaries(tmp_path / "absent" / "a.mp4")
    assert not (tmp_path / "absent").exists()
