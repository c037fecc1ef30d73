"""Paths that cannot be read from or written to, and two runs that write one file."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from vidinv.errors import UsageError
from vidinv.files import MAX_NAME_BYTES, atomic_file, put_in_place, temporary_path
from vidinv.paths import check_input, check_new_file, sole_writer


def odd_files(folder: Path) -> None:
    (folder / "folder.mp4").mkdir()
    os.mkfifo(folder / "fifo.mp4")
    (folder / "file").write_bytes(b"")
    (folder / "loop.mp4").symlink_to("loop.mp4")
    (folder / "to_folder.mp4").symlink_to("folder.mp4")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(folder / "socket.mp4"))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("folder.mp4", "is a folder: name the file"),
        ("to_folder.mp4", "is a folder"),
        ("fifo.mp4", "is a FIFO"),
        ("socket.mp4", "is a socket"),
        ("loop.mp4", "symbolic links"),
        ("absent/a.mp4", "the folder .*absent does not exist; make it first"),
        ("file/a.mp4", "file is a file, not a folder"),
        ("x" * 252 + ".mp4", "longer than 255 bytes"),
        ("\u00e9" * 126 + ".mp4", "longer than 255 bytes"),
    ],
)
def test_what_cannot_be_written_is_told(tmp_path, name, message):
    odd_files(tmp_path)
    with pytest.raises(UsageError, match=message):
        check_new_file(tmp_path / name)
    with pytest.raises(UsageError, match="is a device"):
        check_new_file(Path("/dev/null"))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("folder.mp4", "is a folder: `vidinv batch`"),
        ("to_folder.mp4", "is a folder"),
        ("fifo.mp4", "is a FIFO, and a clip is read more than once"),
        ("socket.mp4", "is a socket"),
        ("/dev/stdin", "is a pipe"),
        ("/dev/fd/0", "is a pipe"),
        ("/proc/self/fd/0", "is a pipe"),
        ("/dev/null", "is a device"),
    ],
)
def test_an_input_that_is_no_file_is_told(tmp_path, name, message):
    odd_files(tmp_path)
    with pytest.raises(UsageError, match=message):
        check_input(tmp_path / name)


def test_standard_input_is_refused_unless_a_file_is_called_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"^- is a pipe"):
        check_input(Path("-"))
    Path("-").write_bytes(b"")
    check_input(Path("-"))


@pytest.mark.parametrize("name", ["x" * 246 + ".mp4", "\u00e9" * 125 + ".mp4", "a.mp4"])
def test_every_name_that_a_disk_takes_can_be_written(tmp_path, name):
    path = tmp_path / name
    check_new_file(path)
    with sole_writer(path), atomic_file(path) as temporary:
        assert len(os.fsencode(temporary.name)) <= MAX_NAME_BYTES
        temporary.write_bytes(b"1")
    assert os.listdir(tmp_path) == [name]


@pytest.mark.parametrize("exists", [True, False])
def test_a_link_is_written_through(tmp_path, exists):
    folder, link = tmp_path / "disk", tmp_path / "a.mp4"
    folder.mkdir()
    link.symlink_to("disk/b.mp4")
    if exists:
        (folder / "b.mp4").write_bytes(b"old")
    check_new_file(link)
    with atomic_file(link) as temporary:
        assert temporary.parent == folder
        temporary.write_bytes(b"new")
    assert link.is_symlink()
    assert (folder / "b.mp4").read_bytes() == b"new"
    other = temporary_path(link)
    other.write_bytes(b"newer")
    put_in_place(other, link)
    assert link.is_symlink()
    assert link.read_bytes() == b"newer"


def test_a_link_into_a_folder_that_is_not_there_is_told(tmp_path):
    (tmp_path / "a.mp4").symlink_to("gone/b.mp4")
    with pytest.raises(UsageError, match=r"the folder .*gone does not exist"):
        check_new_file(tmp_path / "a.mp4")


def test_a_second_writer_is_refused_until_the_first_ends(tmp_path):
    path, link = tmp_path / "a.mp4", tmp_path / "link.mp4"
    link.symlink_to("a.mp4")
    with sole_writer(path):
        for same in (path, link):
            with (
                pytest.raises(UsageError, match="is being written by another run"),
                sole_writer(same),
            ):
                pass
        with sole_writer(tmp_path / "other.mp4"):
            pass
    with sole_writer(path):
        pass
    assert os.listdir(tmp_path) == ["link.mp4"]
