"""Folders and globs of this machine.

A search lists every folder once, however many links lead to it. Links to folders are followed
when all that lies below the root without them is done, in order of depth and name, so that a folder
below the root keeps its own name, and another one gets that of the first link to it. A link back to
a folder on the way to a glob's matches is not followed. Hidden folders are not listed.
"""

from __future__ import annotations

import glob
import os
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path

from vidinv.errors import UsageError

_Found = tuple[Path, frozenset[str]]  # a folder; real paths on the way from the top to its root


def files_below(root: Path) -> Iterator[Path]:
    """All below a folder that is no folder itself.

    Raises:
        UsageError: a folder cannot be listed.
    """
    for _, files in _walk([root], top=root):
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
        roots = sorted(path for path in found if os.path.isdir(path))
        folders = [folder for folder, _ in _walk(roots, top=fixed_part(pattern))]
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


def _walk(roots: Iterable[Path], *, top: Path) -> Iterator[tuple[Path, list[Path]]]:
    """Every folder from ``roots`` on, with what is no folder in it; all lie below ``top``."""
    real, links = deque[_Found](), deque[_Found]()
    for root in roots:
        way = [path for path in root.parents if path.is_relative_to(top)]
        is_link = any(path.is_symlink() for path in (root, *way) if path != top)
        (links if is_link else real).append((root, frozenset(map(os.path.realpath, way))))
    reached: set[str] = set()
    while real or links:
        folder, above = (real or links).popleft()
        here = os.path.realpath(folder)
        if here in reached or here in above:
            continue
        reached.add(here)
        folders, files = _listed(folder)
        yield folder, files
        for path in folders:
            (links if path.is_symlink() else real).append((path, above))


def _listed(folder: Path) -> tuple[list[Path], list[Path]]:
    """Folders in order of their names, less hidden ones; and all else."""
    try:
        with os.scandir(folder) as entries:
            is_folder = {folder / entry.name: _is_folder(entry) for entry in entries}
    except OSError as error:
        raise UsageError(f"{folder}: cannot be listed ({error.strerror})") from None
    folders = sorted(path for path, known in is_folder.items() if known)
    files = [path for path, known in is_folder.items() if not known]
    return [path for path in folders if not path.name.startswith(".")], files


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False


def fixed_part(pattern: Path) -> Path:
    """The folder before the first wildcard."""
    return next(p for p in pattern.parents if not glob.has_magic(str(p)))
