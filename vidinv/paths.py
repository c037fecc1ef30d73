"""Whether a path can be read from or written to, asked before any work and told in one line."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from vidinv.errors import DecodeError, UsageError
from vidinv.files import MAX_NAME_BYTES, behind_link, hidden_name

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
_STREAM = re.compile(r"/dev/(stdin|stdout|stderr|fd/\d+)|/proc/[^/]+/fd/\d+")


def kind_of(mode: int) -> str | None:
    """What ``st_mode`` says that is no file: ``"a folder"``, ``"a FIFO"``; None for a file."""
    return next((name for is_kind, name in _KINDS if is_kind(mode)), None)


def check_file(path: str) -> None:
    """DecodeError for what is not a file that can be read; never waits for a writer or a device."""
    try:
        kind = kind_of(os.stat(path).st_mode)
        if kind is None:
            os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK))
    except FileNotFoundError:
        if os.path.islink(path):
            raise DecodeError(f"{path}: broken link to {os.readlink(path)}") from None
        raise DecodeError(f"{path}: no such file") from None
    except OSError as error:
        raise DecodeError(f"{path}: cannot be opened ({error.strerror})") from None
    if kind is not None:
        raise DecodeError(f"{path}: {kind}, not a file")


def check_input(path: Path) -> None:
    """UsageError for an input that is no file; one that is not there is told by its reader.

    A clip is read more than once, which a pipe does not allow.
    """
    try:
        kind = kind_of(path.stat().st_mode)
    except OSError:
        kind = "a pipe" if str(path) == "-" else None
    if _STREAM.fullmatch(str(path.absolute())):
        kind = "a pipe"  # a child that decodes has streams of its own under these names
    if kind == "a folder":
        raise UsageError(f"{path} is a folder: `vidinv batch` edits the files in it")
    if kind in ("a pipe", "a FIFO"):
        raise UsageError(f"{path} is {kind}, and a clip is read more than once: save it first")
    if kind is not None:
        raise UsageError(f"{path} is {kind}, not a file")


def check_new_file(path: Path) -> None:
    """UsageError for a path that no file can be written to; nothing is made."""
    if len(os.fsencode(path.name)) > MAX_NAME_BYTES:
        raise UsageError(f"the name {path.name} is longer than {MAX_NAME_BYTES} bytes: shorten it")
    target = behind_link(path)
    try:
        kind = kind_of(os.stat(target).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        kind = None
    except OSError as error:
        raise UsageError(f"{path} cannot be written ({error.strerror})") from None
    if kind == "a folder":
        raise UsageError(f"{path} is a folder: name the file to write in it")
    if kind is not None:
        raise UsageError(f"{path} is {kind}: name a file to write")
    _check_folder(path, target.absolute().parent)


def check_replaceable(path: Path, *, sources: Iterable[Path], overwrite: bool) -> None:
    """UsageError for an output that no file can be written to, that would replace what is there
    without being asked to, or that is one of its own sources.
    """
    check_new_file(path)
    for source in sources:
        if source.exists() and path.exists() and source.samefile(path):
            raise UsageError(f"{path} is the input itself: give another output")
    if path.exists() and not overwrite:
        raise UsageError(f"{path} exists: give another output, or --overwrite to replace it")


def _check_folder(path: Path, folder: Path) -> None:
    if not folder.exists():
        raise UsageError(f"{path}: the folder {folder} does not exist; make it first")
    if not folder.is_dir():
        raise UsageError(f"{path}: {folder} is a file, not a folder")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UsageError(f"{path}: the folder {folder} cannot be written to")


@contextlib.contextmanager
def sole_writer(path: Path) -> Iterator[None]:
    """No other run writes ``path`` inside; a hidden file beside it is locked.

    Raises:
        UsageError: another one does.
    """
    lock = hidden_name(path, ".lock")
    fd = _locked(lock, path)
    try:
        yield
    finally:
        if fd is not None:
            lock.unlink(missing_ok=True)  # while it is ours
            os.close(fd)


def _locked(lock: Path, path: Path) -> int | None:
    """Descriptor of the locked file; None on a file system that knows no locks."""
    while True:
        fd = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_same(fd, lock):
                return fd
        except OSError as error:
            os.close(fd)
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                raise UsageError(f"{path} is being written by another run") from None
            lock.unlink(missing_ok=True)
            return None
        os.close(fd)  # of a run that ended just now and took the file with it


def _is_same(fd: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), path.stat())
    except FileNotFoundError:
        return False
