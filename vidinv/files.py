"""Files that appear under their names when they are whole, and their names as text."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


def put_in_place(temporary: Path, path: Path) -> None:
    """Give a finished file its name, replacing what is there.

    It is on the disk first: a crash of the machine must not leave an empty file under a name that
    counts as done.

    Raises:
        OSError: it cannot be written or named.
    """
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(temporary, path)


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
