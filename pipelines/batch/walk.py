"""Folders and globs of this machine.

Links to folders are followed, but for one that leads back to a folder on the way to it. Hidden
folders are not looked into.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator
from pathlib import Path

from vidinv.errors import UsageError


def files_below(root: Path) -> Iterator[Path]:
    """All below a folder that is no folder itself.

    Raises:
        UsageError: a folder cannot be listed.
    """
    for _, files in _walk(root, top=root):
        yield from files


def matching(pattern: Path) -> set[Path]:
    """What a pattern names; ``**`` stands for any number of folders, hidden ones excepted.

    Not ``glob.glob(..., recursive=True)``: that goes round and round a circle of links.

    Raises:
        UsageError: a folder that ``**`` stands for cannot be listed.
    """
    first, *others = _between_stars(pattern)
    found = {Path(name) for name in glob.glob(first)} if first else {Path()}
    for after in others:
        roots = [path for path in found if os.path.isdir(path)]
        folders = {below for root in roots for below, _ in _walk(root, top=fixed_part(pattern))}
        found = {
            Path(name)
            for folder in folders
            for name in glob.glob(os.path.join(glob.escape(str(folder)), after or "*"))
        }
    return found


def _between_stars(pattern: Path) -> list[str]:
    """What lies before, between and after each ``**``; two beside each other are one."""
    parts: list[list[str]] = [[]]
    for part in pattern.parts:
        if part != "**":
            parts[-1].append(part)
        elif parts[-1] or len(parts) == 1:
            parts.append([])
    return [os.path.join(*some) if some else "" for some in parts]


def _walk(root: Path, *, top: Path) -> Iterator[tuple[Path, list[Path]]]:
    """Every folder from ``root`` on, with what is no folder in it; ``root`` lies below ``top``."""
    on_the_way = [path for path in root.parents if path.is_relative_to(top)]
    waiting = [(root, frozenset(map(os.path.realpath, on_the_way)))]
    while waiting:
        folder, above = waiting.pop()
        here = os.path.realpath(folder)
        if here in above:
            continue
        try:
            with os.scandir(folder) as entries:
                is_folder = {folder / entry.name: _is_folder(entry) for entry in entries}
        except OSError as error:
            raise UsageError(f"{folder}: cannot be listed ({error.strerror})") from None
        yield folder, [path for path, known in is_folder.items() if not known]
        waiting += [
            (path, above | {here})
            for path, known in is_folder.items()
            if known and not path.name.startswith(".")
        ]


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False


def fixed_part(pattern: Path) -> Path:
    """The folder before the first wildcard."""
    return next(p for p in pattern.parents if not glob.has_magic(str(p)))
