"""Inversion methods behind one interface; a pack says which of them it has weights for."""

from vidinv.inversion.base import Code, Inverter
from vidinv.inversion.registry import METHODS, find_method
from vidinv.inversion.state import TrackState

__all__ = ["METHODS", "Code", "Inverter", "TrackState", "find_method"]
