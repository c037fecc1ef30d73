"""Experiment files: YAML mappings read into frozen dataclasses, checked by the types of the fields.

An unknown key is an error that names the nearest known one, a value of another type an error that
says what was expected and given. Numbers in YAML 1.1 need a point and a sign before and after ``e``
(``1e-4`` is text to PyYAML): those that are meant as numbers are read as such.
"""

from __future__ import annotations

import dataclasses
import math
import re
import reprlib
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from vidinv.errors import UnknownNameError, UsageError
from vidinv.generators.base import GeneratorConfig
from vidinv.generators.registry import DEFAULT_KIND, find_family

T = TypeVar("T")
_EXPONENT = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+")


@dataclasses.dataclass(frozen=True)
class _Place:
    """Where a value stands: file (or what is read) and key, for messages."""

    source: str
    key: str = ""

    def __truediv__(self, key: str) -> _Place:
        return _Place(self.source, f"{self.key}.{key}" if self.key else key)

    def __str__(self) -> str:
        return f"{self.source}: {self.key}" if self.key else self.source


def load_yaml(cls: type[T], path: Path) -> T:
    """Read an experiment file; UsageError names the file and the fault."""
    import yaml

    try:
        mapping = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        line = " ".join(str(error).split())
        raise UsageError(f"{path}: cannot read the configuration: {line}") from error
    if not isinstance(mapping, Mapping):
        raise UsageError(f"{path}: expected key: value lines, got {type(mapping).__name__}")
    return from_mapping(cls, mapping, source=str(path))


def from_mapping(cls: type[T], mapping: Mapping[str, Any], *, source: str = "configuration") -> T:
    """Build a (nested) dataclass.

    Fields may be int, float, bool, str, ``Literal``, tuples, dataclasses, ``GeneratorConfig`` (its
    ``kind`` chooses the family) and Optional of these.

    Raises:
        UsageError: one line with source, key, what was expected and what was given.
    """
    return _build(cls, mapping, _Place(source))


def _build(cls: type[T], mapping: Mapping[str, Any], place: _Place) -> T:
    hints = typing.get_type_hints(cls)
    fields = dataclasses.fields(cls)  # type: ignore[arg-type]
    names = [field.name for field in fields]
    values: dict[str, Any] = {}
    for key, value in mapping.items():
        if key not in names:
            raise UnknownNameError(f"key in {place}", str(key), names)
        values[key] = _convert(hints[key], value, place / key)
    missing = [field.name for field in fields if field.name not in values and _is_required(field)]
    if missing:
        raise UsageError(f"{place} lacks: {', '.join(missing)}")
    try:
        return cls(**values)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{place}: {error}") from error


def _is_required(field: dataclasses.Field[Any]) -> bool:
    return field.default is field.default_factory is dataclasses.MISSING


def _convert(hint: Any, value: Any, place: _Place) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        (inner,) = (arg for arg in args if arg is not types.NoneType)  # Optional alone
        return None if value is None else _convert(inner, value, place)
    if hint is GeneratorConfig or dataclasses.is_dataclass(hint):
        if not isinstance(value, Mapping):
            raise _wrong(place, "key: value lines", value)
        cls: Any = hint
        return _generator(value, place) if hint is GeneratorConfig else _build(cls, value, place)
    if origin is tuple:
        return _tuple(args, value, place)
    if origin is typing.Literal:
        if not any(type(value) is type(arg) and value == arg for arg in args):
            raise _wrong(place, f"one of {', '.join(map(repr, args))}", value)
        return value
    return _scalar(hint, value, place)


def _generator(mapping: Mapping[str, Any], place: _Place) -> Any:
    kind = _scalar(str, mapping.get("kind", DEFAULT_KIND), place / "kind")
    try:
        family = find_family(kind)
    except UnknownNameError as error:
        raise UnknownNameError(f"{error.kind} in {place}", kind, error.known) from None
    return _build(family.config, {k: v for k, v in mapping.items() if k != "kind"}, place)


def _tuple(args: tuple[Any, ...], value: Any, place: _Place) -> tuple[Any, ...]:
    if not isinstance(value, (list, tuple)):
        raise _wrong(place, "a list", value)
    if args[-1] is Ellipsis:
        args = args[:1] * len(value)
    if len(value) != len(args):
        raise _wrong(place, f"a list of {len(args)}", value)
    items = zip(args, value, strict=True)
    return tuple(_convert(arg, v, place / str(index)) for index, (arg, v) in enumerate(items))


def _scalar(hint: Any, value: Any, place: _Place) -> Any:
    if hint in (bool, str):
        if type(value) is not hint:
            raise _wrong(place, "true or false" if hint is bool else "text", value)
        return value
    if hint not in (int, float):
        raise TypeError(f"{place}: fields of type {hint} cannot be read from YAML")
    expected = "a whole number" if hint is int else "a number"
    number = _number(value)
    if number is None or (hint is int and number != int(number)):
        raise _wrong(place, expected, value)
    return hint(number)


def _number(value: Any) -> int | float | None:
    """The finite number that is meant; None where none is."""
    if isinstance(value, str) and _EXPONENT.fullmatch(value):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return value if isinstance(value, int) or math.isfinite(value) else None


def _wrong(place: _Place, expected: str, value: Any) -> UsageError:
    return UsageError(f"{place}: expected {expected}, got {reprlib.repr(value)}")
