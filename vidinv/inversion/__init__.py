"""Inversion methods behind one interface; a pack says which of them it has weights for.

Names load on first use: the command line reads the table of methods without torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from vidinv.inversion.registry import METHODS, find_method

if TYPE_CHECKING:
    from vidinv.inversion.base import Code, Inverter
    from vidinv.inversion.state import TrackState

__all__ = ["METHODS", "Code", "Inverter", "TrackState", "find_method"]

_HOMES = {"Code": "base", "Inverter": "base", "TrackState": "state"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
