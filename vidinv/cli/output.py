"""Exit codes, and what commands print: results as JSON on stdout, all else for people on stderr."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from vidinv.files import printable_values

if TYPE_CHECKING:
    from vidinv.types import ClipResult

EXIT_FAILED, EXIT_USAGE, EXIT_QUARANTINED, EXIT_INTERRUPTED = 1, 2, 3, 130


def say(line: str) -> None:
    """On stderr, where it can be written: the exit code says how the command went."""
    with contextlib.suppress(OSError):
        print(f"vidinv: {line}", file=sys.stderr)


def print_json(data: Mapping[str, Any]) -> None:
    """One object on one line of stdout."""
    print(json.dumps(printable_values(data)))


def print_result(options: argparse.Namespace, result: ClipResult) -> None:
    """What an edit says at its end."""
    if not options.quiet:
        print_notes(result)
    if options.json:
        print_json(result.as_dict())


def print_notes(result: ClipResult) -> None:
    """Warnings and the summary, on stderr."""
    for warning in result.warnings:
        print(f"vidinv: note: {warning}", file=sys.stderr)
    print(_summary(result), file=sys.stderr)


def _summary(result: ClipResult) -> str:
    identity = result.identity.similarity_mean
    kept = "" if identity is None else f", identity similarity {identity:.2f}"
    in_range = result.frames_in_range
    part = "" if in_range == result.frames else f" ({in_range} in range)"
    return (
        f"{result.output}: {result.frames} frames{part}, {result.faces_edited} faces edited, "
        f"{result.frames_without_face} frames without, {result.fps:.1f} fps{kept}"
    )
