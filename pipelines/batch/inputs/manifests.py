"""Manifests: CSV or JSONL with a row for each clip, from a file or a URL.

Everything that can be wrong with a row is one line that begins with file and line number.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from pipelines.batch.inputs import remote
from pipelines.batch.inputs.sources import absolute, decoded, input_name, is_url, local_path, shown
from pipelines.batch.request.jobs import Keyframes
from vidinv.editing.schedules import check_attributes, face_and_name, parse_attributes
from vidinv.errors import MissingDependencyError, UnknownNameError, UsageError
from vidinv.faces import face_numbers, no_face_choice
from vidinv.video import is_image_path
from vidinv.video.codecs import FORMATS
from vidinv.video.images import IMAGE_SUFFIXES

MANIFEST_SUFFIXES = (".csv", ".jsonl")
FIELDS = ("input", "output", "attributes", "strength", "face")

Attributes = Mapping[str, Keyframes]
_NO_STRENGTH = "strength is for attributes that are named without one, and there is none"
_WINDOWS_PATH = re.compile(r"[A-Za-z]:[\\/]|.*\\", re.DOTALL)


@dataclass(frozen=True)
class RowDefaults:
    """What is asked of a clip whose row does not say otherwise.

    Attributes:
        face: as ``EditSpec.face``.
        names: of the attributes that there are; None takes any.
    """

    attributes: Attributes
    face: str = "largest"
    names: Collection[str] | None = None

    def check_names(self, attributes: Attributes) -> None:
        """UnknownNameError for an attribute that there is not."""
        for _, name in map(face_and_name, attributes):
            if self.names is not None and name not in self.names:
                raise UnknownNameError("attribute", name, self.names)


@dataclass(frozen=True)
class ManifestRow:
    """A row: absolute path or URL, the output's name as given or mirrored, and its edit."""

    input: str
    output: str
    attributes: Attributes
    face: str


def is_manifest(text: str) -> bool:
    """The name of an input says that it lists others."""
    return PurePosixPath(input_name(text)).suffix.lower() in MANIFEST_SUFFIXES


def read_manifest(text: str, default: RowDefaults) -> Iterator[ManifestRow]:
    """The rows of a manifest.

    Args:
        text: path or URL; inputs, and pictures of faces, count from its folder.

    Raises:
        UsageError, MissingDependencyError: an invalid row.
        MediaError: a URL that cannot be read.
    """
    reader = _Reader(text, default)
    lines: dict[str, int] = {}
    for line, fields in _rows(text):
        where = f"{shown(text)}:{line}"
        try:
            entry = reader.entry(fields)
        except MissingDependencyError as error:
            raise MissingDependencyError(f"{where}: {error}") from None
        except UsageError as error:
            raise UsageError(f"{where}: {str(error).removeprefix('--attr ')}") from None
        first = lines.setdefault(entry.output, line)
        if first != line:
            raise UsageError(
                f"{where}: {shown(entry.input)} would be written to {entry.output}, "
                f"as line {first} is; give each row an output of its own"
            )
        yield entry


def check_face(value: Any, folder: Path | None) -> str:
    """Whose face to edit; a picture's path becomes absolute.

    Args:
        folder: that a path counts from; None takes absolute paths only.

    Raises:
        UsageError: none of the ways to say it.
    """
    is_text = isinstance(value, (str, int)) and not isinstance(value, bool)
    if is_text and (str(value) in ("largest", "all") or face_numbers(str(value))):
        return str(value)
    if is_text:
        path = local_path(str(value))
        if folder is not None or path.is_absolute():
            picture = (folder or Path()) / path
            if os.path.isfile(picture):
                return str(picture.resolve())
    raise UsageError(no_face_choice(value))


class _Reader:
    """Turns fields into entries; errors are without file and line."""

    def __init__(self, text: str, default: RowDefaults) -> None:
        self.url = text if is_url(text) else None
        self.folder = None if self.url else local_path(text).absolute().parent
        self.default = default

    def entry(self, fields: Mapping[Any, Any]) -> ManifestRow:
        unknown = [name for name in fields if name not in FIELDS]
        if None in unknown:
            raise UsageError("more values than the first line has names")
        if unknown:
            raise UsageError(f"no such field {unknown[0]!r}; there are {', '.join(FIELDS)}")
        source, name = self._source(_path_of(fields, "input"))
        if "output" in fields:
            name = _output(_path_of(fields, "output"), is_picture=is_image_path(input_name(source)))
        face = check_face(fields["face"], self.folder) if "face" in fields else self.default.face
        wanted = _attributes(fields) or self.default.attributes
        self.default.check_names(wanted)
        if not wanted:
            raise UsageError("nothing to change: give attributes, or --attr for all rows")
        return ManifestRow(source, name, wanted, face)

    def _source(self, given: str) -> tuple[str, str]:
        """Where an input lies, and the name that its output mirrors."""
        if is_url(given):
            remote.check(given)
            return given, input_name(given)
        path = local_path(given)
        if self.url is not None and not path.is_absolute():
            if _WINDOWS_PATH.match(given):
                raise UsageError(f"input {given!r} is a Windows path: write it with /")
            return remote.beside(self.url, given), decoded(self.url, given)
        path = (self.folder or Path()) / path
        if os.path.isdir(path):
            raise UsageError(f"input {given!r} is a folder, not a file")
        # A file that is merely not there ends as a row, and costs no other clip anything.
        if _WINDOWS_PATH.match(given) and not os.path.lexists(path):
            raise UsageError(f"input {given!r} is not a file (a Windows path? write it with /)")
        return str(absolute(path)), path.name if local_path(given).is_absolute() else given


def _path_of(fields: Mapping[str, Any], name: str) -> str:
    value = fields.get(name)
    if value is None:
        raise UsageError(f"the field {name} is missing")
    if not isinstance(value, str) or not value or "\0" in value or not _is_encodable(value):
        raise UsageError(f"{name} {value!r} is not a path")
    return value


def _is_encodable(path: str) -> bool:
    try:
        os.fsencode(path)
    except UnicodeEncodeError:  # half of a surrogate pair
        return False
    return True


def _output(given: str, *, is_picture: bool) -> str:
    suffix = PurePosixPath(given).suffix.lower()
    if _WINDOWS_PATH.match(given):
        raise UsageError(f"output {given!r} is a Windows path: write it with /")
    if is_picture and not is_image_path(given):
        raise UsageError(f"output {given!r}: a picture is written as {', '.join(IMAGE_SUFFIXES)}")
    if not is_picture and suffix and suffix not in FORMATS:
        raise UsageError(f"output {given!r}: a clip is written as {', '.join(FORMATS)}")
    return given


def _rows(text: str) -> Iterator[tuple[int, dict[Any, Any]]]:
    """Line number and fields of each row; empty rows and fields are left out."""
    file = io.StringIO(_content(text), newline="")
    if PurePosixPath(input_name(text)).suffix.lower() == ".csv":
        reader = csv.DictReader(file)
        try:
            _check_names(reader.fieldnames or (), f"{shown(text)}:{reader.line_num}")
            for fields in reader:
                if row := {name: v for name, v in fields.items() if v not in (None, "")}:
                    yield reader.line_num, row
        except csv.Error as error:
            raise UsageError(f"{shown(text)}:{reader.line_num + 1}: not CSV ({error})") from None
        return
    for number, line in enumerate(file, 1):
        if line.strip():
            fields = _object(line, f"{shown(text)}:{number}")
            yield number, {name: value for name, value in fields.items() if value is not None}


def _content(text: str) -> str:
    try:
        data = remote.read_bytes(text) if is_url(text) else local_path(text).read_bytes()
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UsageError(f"{shown(text)}: not UTF-8 text; save it as UTF-8") from None
    except PermissionError as error:
        raise UsageError(f"{text}: cannot be read ({error.strerror})") from None


def _object(line: str, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line, object_pairs_hook=lambda pairs: _dict(pairs, where))
    except UsageError:
        raise
    except (ValueError, RecursionError) as error:  # also for an integer of too many digits
        raise UsageError(f"{where}: not JSON ({getattr(error, 'msg', error)})") from None
    if not isinstance(row, dict):
        raise UsageError(f"{where}: expected an object with the fields {', '.join(FIELDS)}")
    return row


def _dict(pairs: Sequence[tuple[str, Any]], where: str) -> dict[str, Any]:
    _check_names([name for name, _ in pairs], where)
    return dict(pairs)


def _check_names(names: Sequence[str], where: str) -> None:
    """UsageError for a name that is given twice; columns without a name are none."""
    for name, count in Counter(names).items():
        if name and count > 1:
            raise UsageError(f"{where}: {name!r} is given twice; keep one")


def _attributes(fields: Mapping[str, Any]) -> dict[str, Keyframes]:
    """``"smile=1 age=-0.5"``, ``["smile", "age=1"]`` or ``{"smile": 1, "age": [[0, 0], [2, 1]]}``.

    ``strength`` is for the attributes that are named without one. Nothing where they are left out.
    """
    value, strength = fields.get("attributes"), fields.get("strength")
    if value is None:
        if strength is not None:
            raise UsageError("strength is given without attributes")
        return {}
    if isinstance(value, str):
        value = value.replace(";", " ").split()
    if value in ({}, []):
        raise UsageError("attributes are empty: leave the field out to take --attr, or name one")
    if isinstance(value, dict):
        if strength is not None:
            raise UsageError(_NO_STRENGTH)
        return check_attributes(value)
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise UsageError(f"attributes {value!r}: expected text, a list of texts, or an object")
    if strength is None:
        return parse_attributes(value)
    if all("=" in text for text in value):
        raise UsageError(_NO_STRENGTH)
    return parse_attributes(text if "=" in text else f"{text}={strength}" for text in value)
