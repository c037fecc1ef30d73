"""Which clips a run edits, and where each output goes.

Inputs are files, folders, globs, and manifests (CSV or JSONL with a row for each clip). Outputs
mirror the tree of the inputs below the output folder; two inputs never share one output, no output
lies elsewhere, and none replaces an input.
"""

from __future__ import annotations

import csv
import glob
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from pipelines.batch.jobs import Job, Keyframes
from vidinv.editing.schedules import check_keyframes, parse_attributes
from vidinv.errors import UsageError
from vidinv.video.writer import FORMATS

# Extensions taken from folders and globs; a file that is named by itself may have any.
CLIP_SUFFIXES = (
    *FORMATS,
    *(".mpg", ".mpeg", ".avi", ".wmv", ".flv", ".ts", ".mts", ".m2ts", ".3gp", ".ogv", ".mxf"),
)
MANIFEST_SUFFIXES = (".csv", ".jsonl")
FIELDS = ("input", "output", "attributes", "strength", "face")

Attributes = Mapping[str, Keyframes]


def find_jobs(
    inputs: Sequence[str], *, output: Path, attributes: Attributes, face: str = "largest"
) -> tuple[Job, ...]:
    """The clips of a run, in order of their outputs.

    Args:
        inputs: files, folders, globs or manifests, as typed.
        output: folder of the outputs.
        attributes, face: for clips whose manifest row gives none.

    Raises:
        UsageError: an input that is not there, outputs that collide, or a manifest in error.
    """
    jobs = [job for text in inputs for job in _jobs_of(text, attributes=attributes, face=face)]
    if not jobs:
        raise UsageError(f"no clips in {', '.join(inputs)}: expected {' '.join(CLIP_SUFFIXES)}")
    for job in jobs:
        if not job.attributes:
            raise UsageError(f"nothing to change in {job.input}: give --attr, or in its manifest")
    _check_outputs(jobs, output)
    return tuple(sorted(jobs, key=lambda job: job.output))


def _jobs_of(text: str, *, attributes: Attributes, face: str) -> Iterator[Job]:
    if "://" in text:
        raise UsageError(f"{text}: inputs are local or mounted paths; mount or copy it first")
    path = Path(text)
    if path.is_dir():
        yield from _tree(path, path.rglob("*"), attributes, face)
    elif path.is_file() and path.suffix.lower() in MANIFEST_SUFFIXES:
        yield from _manifest_jobs(path, attributes, face)
    elif path.is_file():
        yield Job(str(path.resolve()), output_name(path.name), attributes, face)
    elif glob.has_magic(text):
        found = [Path(name) for name in glob.iglob(text, recursive=True)]
        yield from _tree(_fixed_part(path), found, attributes, face)
    else:
        raise UsageError(f"{text}: no such file or folder")


def _tree(root: Path, found: Iterable[Path], attributes: Attributes, face: str) -> Iterator[Job]:
    for path in sorted(found):
        hidden = any(part.startswith(".") for part in path.relative_to(root).parts)
        if path.suffix.lower() in CLIP_SUFFIXES and not hidden and path.is_file():
            name = path.relative_to(root).as_posix()
            yield Job(str(path.resolve()), output_name(name), attributes, face)


def _fixed_part(pattern: Path) -> Path:
    """The folder before the first wildcard."""
    return next(p for p in pattern.parents if not glob.has_magic(str(p)))


def output_name(name: str) -> str:
    """Output of an input's relative name: the same, in a container that can be written."""
    path = PurePosixPath(name)
    return str(path if path.suffix.lower() in FORMATS else path.with_suffix(".mp4"))


def _manifest_jobs(path: Path, attributes: Attributes, face: str) -> Iterator[Job]:
    for line, row in _rows(path):
        where = f"{path}:{line}"
        unknown = sorted(set(row) - set(FIELDS))
        if unknown:
            raise UsageError(
                f"{where}: no such field {unknown[0]!r}; there are {', '.join(FIELDS)}"
            )
        clip = path.parent / str(row.get("input") or "")
        if not row.get("input") or not clip.is_file():
            raise UsageError(f"{where}: input {row.get('input')!r} is not a file")
        given = PurePosixPath(str(row["input"]).replace("\\", "/"))
        name = row.get("output") or (given.name if given.is_absolute() else str(given))
        wanted = _attributes(row, where) or attributes
        yield Job(str(clip.resolve()), output_name(str(name)), wanted, str(row.get("face") or face))


def _rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line number and fields of each row; empty fields are left out."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        if path.suffix.lower() == ".csv":
            reader = csv.DictReader(file)
            for fields in reader:
                yield reader.line_num, {k: v for k, v in fields.items() if v not in (None, "")}
            return
        for number, line in enumerate(file, 1):
            if line.strip():
                yield number, _object(line, f"{path}:{number}")


def _object(line: str, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise UsageError(f"{where}: not JSON ({error.msg})") from None
    if not isinstance(row, dict):
        raise UsageError(f"{where}: expected an object with the fields {', '.join(FIELDS)}")
    return row


def _attributes(row: Mapping[str, Any], where: str) -> dict[str, Keyframes]:
    """``"smile=1 age=-0.5"``, ``["smile", "age=1"]`` or ``{"smile": 1, "age": [[0, 0], [2, 1]]}``.

    ``strength`` is for the attributes that are named without one.
    """
    value, strength = row.get("attributes"), row.get("strength")
    if value is None:
        if strength is not None:
            raise UsageError(f"{where}: strength is given without attributes")
        return {}
    try:
        if isinstance(value, dict):
            return {
                name: check_keyframes([(0.0, keys)] if _is_number(keys) else keys, name=name)
                for name, keys in value.items()
            }
        texts = value.replace(";", " ").split() if isinstance(value, str) else list(value)
        if strength is not None:
            texts = [text if "=" in text else f"{text}={strength}" for text in texts]
        return parse_attributes(texts)
    except (UsageError, TypeError) as error:
        raise UsageError(f"{where}: {error}") from None


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float))


def _check_outputs(jobs: Sequence[Job], folder: Path) -> None:
    """UsageError for outputs that collide, leave the folder or replace an input."""
    root = folder.resolve()
    taken: dict[str, Job] = {}
    inputs = {job.input for job in jobs}
    for job in jobs:
        # Also through links that exist already below the folder.
        target = (root / job.output).resolve()
        if ".." in PurePosixPath(job.output).parts or not target.is_relative_to(root):
            raise UsageError(f"output {job.output} of {job.input} would lie outside {folder}")
        if str(target) in inputs:
            raise UsageError(f"output {target} would replace an input: give another folder")
        # Names that differ in case only are one file on many disks.
        other = taken.setdefault(str(target).casefold(), job)
        if other is not job:
            raise UsageError(
                f"{other.input} and {job.input} would both be written to {job.output}; "
                "name their outputs in a manifest, or give the folder above both"
            )
