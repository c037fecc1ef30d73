"""The errors that vidinv raises on purpose; each is also the builtin a caller would expect.

    VidinvError(Exception)
    ├── UsageError(ValueError)         wrong option, name or value: exit code 2
    │   └── UnknownNameError           no such attribute, pack or method; lists the nearest
    ├── MediaError(OSError)            a file that cannot be read or written as media
    │   ├── DecodeError                damaged, truncated, hanging or unsupported input
    │   └── EncodeError                the output cannot be made as asked
    ├── PackError(ValueError)          a model pack that is missing, damaged or of another version
    └── MissingDependencyError(ImportError)   a package or weight file is missing or damaged

Messages are one line: what failed, where, and what to do about it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class VidinvError(Exception):
    """Root of all errors raised on purpose; the CLI prints it as one line."""


class UsageError(VidinvError, ValueError):
    """The request itself is wrong (option, name, value); the CLI exits 2."""


class UnknownNameError(UsageError):
    """A name that does not exist; the message lists the known ones, nearest first.

    Args:
        kind: what was named, e.g. ``"attribute"``.
        name: the unknown name.
        known: the names that exist.
    """

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        self.kind, self.name = kind, name
        self.known = nearest_first(name, known)
        super().__init__(f"unknown {kind} {name!r}; there are: {', '.join(self.known) or 'none'}")


class MediaError(VidinvError, OSError):
    """A media file that cannot be read or written."""


class DecodeError(MediaError):
    """Input that is damaged, truncated, hanging or of an unsupported kind."""


class EncodeError(MediaError):
    """Output that cannot be made as asked (codec, container, disk)."""


class PackError(VidinvError, ValueError):
    """A model pack that is missing, damaged or of another format version."""


class MissingDependencyError(VidinvError, ImportError):
    """A package or weight file is missing or damaged; the message says how to get it."""


def nearest_first(name: str, known: Iterable[str]) -> list[str]:
    """Sort ``known`` by similarity to ``name``, most similar first, ties by name."""

    def distance(other: str) -> float:
        return -difflib.SequenceMatcher(None, name.lower(), other.lower()).ratio()

    return sorted(known, key=lambda other: (distance(other), other))
