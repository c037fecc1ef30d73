"""The inversion methods by name: what ``--method``, packs, reports, ``doctor`` and help texts read.

To add a method: its file, a line here, its tests. Files are imported when their method is used:
reading the table costs nothing.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vidinv.errors import UnknownNameError

if TYPE_CHECKING:
    from vidinv.inversion.base import Inverter


@dataclass(frozen=True)
class MethodEntry:
    """A line of the table.

    Attributes:
        summary: what it does, in one line for people.
        where: ``module:class`` of its inverter.
    """

    name: str
    summary: str
    where: str

    def load(self) -> type[Inverter]:
        """Import its file."""
        module, name = self.where.split(":")
        method: type[Inverter] = getattr(importlib.import_module(module), name)
        return method


_ENTRIES = (
    MethodEntry(
        "adaptive",
        "Adaptive-block encoder, fine-tuned to each face track (Yu et al. 2024)",
        "vidinv.inversion.adaptive:AdaptiveInverter",
    ),
    MethodEntry(
        "fse",
        "Feature-Style encoder: latents and a feature code (Yao et al. 2022)",
        "vidinv.inversion.fse:FeatureStyleInverter",
    ),
    MethodEntry(
        "hyper",
        "HyperInverter: w and residuals of the generator's weights (Dinh et al. 2022)",
        "vidinv.inversion.hyper:HyperInverter",
    ),
    MethodEntry(
        "psp",
        "Encoders into W+ alone: imported pSp, e4e and ReStyle (Richardson 2021, Tov 2021)",
        "vidinv.inversion.psp:PspInverter",
    ),
    MethodEntry(
        "pti",
        "Pivotal tuning: the generator tuned to each face track (Roich et al. 2022)",
        "vidinv.inversion.pti:PivotalTuningInverter",
    ),
    MethodEntry(
        "rectify",
        "ReGANIE: another method's inversion, and a network that rectifies it (Li et al. 2023)",
        "vidinv.inversion.rectify:RectifyInverter",
    ),
    MethodEntry(
        "wplus",
        "Projection into W+: a search for latents, without weights (Abdal et al. 2019)",
        "vidinv.inversion.wplus:WPlusInverter",
    ),
)
METHODS = {entry.name: entry for entry in _ENTRIES}


def find_method(name: str) -> type[Inverter]:
    """A method by its name; UnknownNameError lists those that there are, nearest first."""
    if name not in METHODS:
        raise UnknownNameError("method", name, METHODS)
    return METHODS[name].load()
