"""Inversion methods behind one interface; a pack says which of them it has weights for."""

from vidinv.inversion.base import Inverter
from vidinv.inversion.fse import FeatureStyleInverter

__all__ = ["FeatureStyleInverter", "Inverter"]
