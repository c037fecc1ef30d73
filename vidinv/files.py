"""Files that appear under their names when they are whole, and their names as text."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

# Of ext4, XFS, Btrfs, APFS (in characters there) and most others.
MAX_NAME_BYTES = 255


@contextlib.contextmanager
def atomic_file(path: Path, *, sync: bool = False) -> Iterator[Path]:
    """A temporary name to write to; the file gets its own, ``path``, at the end of the ``with``.

    After an error ``path`` is as it was before, and nothing is left beside it. Where it is a link,
    what it leads to is replaced, and the link stays.

    Args:
        sync: for names that count as done: see ``put_in_place``.

    Raises:
        OSError: it cannot be written or named.
    """
    temporary = temporary_path(path)
    try:
        yield temporary
        put_in_place(temporary, path) if sync else os.replace(temporary, behind_link(path))
    finally:
        with contextlib.suppress(OSError):  # the error that led here says more
            temporary.unlink(missing_ok=True)


def temporary_path(path: Path) -> Path:
    """A new hidden name beside ``path``, on the same file system: ``.NAME.1a2b3c4d.part``."""
    return hidden_name(path, f".{secrets.token_hex(4)}.part")


def remove_temporaries(path: Path) -> None:
    """Remove what writers of ``path`` that were killed have left beside it."""
    example = hidden_name(path, f".{'0' * 8}.part")
    prefix = example.name.removesuffix(f"{'0' * 8}.part")
    ours = re.compile(re.escape(prefix) + r"[0-9a-f]{8}\.part")
    with contextlib.suppress(FileNotFoundError):  # no folder, nothing in it
        for found in filter(ours.fullmatch, os.listdir(example.parent)):
            with contextlib.suppress(OSError):  # of use to nobody, and in nobody's way
                (example.parent / found).unlink()


def hidden_name(path: Path, ending: str) -> Path:
    """``.NAME`` and ``ending`` beside ``path``, or beside what it links to.

    A long name is cut: the hidden one is as valid as ``path`` is.
    """
    path = behind_link(path)
    name = os.fsencode(path.name)[: MAX_NAME_BYTES - 1 - len(os.fsencode(ending))]
    kept = path.name if name == os.fsencode(path.name) else name.decode(errors="ignore")
    return path.with_name(f".{kept}{ending}")


def behind_link(path: Path) -> Path:
    """What a link leads to, which may not be there yet; any other path as it is."""
    return Path(os.path.realpath(path)) if path.is_symlink() else path


def put_in_place(temporary: Path, path: Path) -> None:
    """Give a finished file its name, replacing what is there.

    It is on the disk first: a crash of the machine must not leave an empty file under a name that
    counts as done.

    Raises:
        OSError: it cannot be written or named.
    """
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(temporary, behind_link(path))


def printable(text: str) -> str:
    r"""``text`` as UTF-8 holds it: a byte of a file name that is not UTF-8 becomes ``\udcff``.

    For what is shown or written for others; the file is found by the name as it was.
    """
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def one_line(text: str) -> str:
    """``text`` for one line of a terminal or log: what cannot be printed is escaped."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def printable_values(value: Any, *, other: Callable[[Any], Any] = lambda leaf: leaf) -> Any:
    """``printable`` of every text in JSON's types: strict readers refuse lone surrogates.

    Args:
        other: what becomes of values that are neither text nor hold others.
    """
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, Mapping):
        return {printable(str(k)): printable_values(v, other=other) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [printable_values(item, other=other) for item in value]
    return other(value)
