"""Files that appear under their names when they are whole."""

from __future__ import annotations

import os
from pathlib import Path


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
