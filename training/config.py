"""Experiment files: YAML mappings read into frozen dataclasses; an unknown key is an error."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from vidinv.errors import UnknownNameError, UsageError

T = TypeVar("T")


def from_mapping(cls: type[T], mapping: Mapping[str, Any], *, where: str = "configuration") -> T:
    """Build a (nested) dataclass; lists become tuples, an unknown key names the nearest one."""
    hints = typing.get_type_hints(cls)
    names = [field.name for field in dataclasses.fields(cls)]  # type: ignore[arg-type]
    values: dict[str, Any] = {}
    for key, value in mapping.items():
        if key not in names:
            raise UnknownNameError(f"key in {where}", key, names)
        values[key] = _convert(hints[key], value, f"{where}.{key}")
    try:
        return cls(**values)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{where}: {error}") from error


def _convert(hint: Any, value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(hint) and isinstance(value, Mapping):
        return from_mapping(hint, value, where=where)  # type: ignore[arg-type]
    return tuple(value) if isinstance(value, list) else value


def load_yaml(cls: type[T], path: Path) -> T:
    """Read an experiment file; UsageError names the file and the fault."""
    import yaml

    try:
        mapping = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise UsageError(f"{path}: cannot read the configuration: {error}") from error
    if not isinstance(mapping, Mapping):
        raise UsageError(f"{path}: expected key: value lines, got {type(mapping).__name__}")
    return from_mapping(cls, mapping, where=str(path))
