"""What a worker says when it fails: whoever started it has the text of a traceback."""

from __future__ import annotations

import re

import vidinv.errors
from vidinv.errors import UsageError, VidinvError

_OWN = re.compile(r"^vidinv\.errors\.(\w+): (.+)$", re.MULTILINE)


def own_error(traceback: str) -> VidinvError | None:
    """The error that was raised on purpose, with the worker's own words; None for any other.

    Messages are one line (vidinv.errors), so that it stands on a line of the traceback.
    """
    if not (found := _OWN.findall(traceback)):
        return None
    name, words = found[-1]
    is_usage = issubclass(getattr(vidinv.errors, name, VidinvError), UsageError)
    return (UsageError if is_usage else VidinvError)(words)


def last_line(traceback: str) -> str:
    """What a traceback ends with: the error and its message."""
    return next((line for line in reversed(traceback.splitlines()) if line.strip()), "").strip()
