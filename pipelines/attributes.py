"""Attributes of aligned pictures, read from landmarks and pixels, and what their figures mean."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from vidinv.faces.aligned import AlignedFaces
from vidinv.metrics.appearance import APPEARANCE, measure_appearance
from vidinv.metrics.attributes import geometry
from vidinv.packs import Pack
from vidinv.rendering import Float32

UNITS = {
    "smile": "standard deviations over people",
    "yaw": "nose sideways, in distances between the eyes",
    "pitch": "nose height, in the eyes' height over the mouth",
    "mouth_open": "gap of the lips, in distances between the eyes",
    "eyes_open": "gap of the lids, in distances between the eyes",
    "beard": "how much darker than the cheeks lip and chin are, as a share",
    "glasses": "edges at the bridge of the nose and under the eyes, log over those of the face",
    "lips": "height of both lips, in distances between the eyes",
    "brows": "height of the brows over the eyes, in distances between the eyes",
    "irises": "how much darker than the cheeks the darkest part of the eyes is, as a share",
}

Measured = dict[str, npt.NDArray[np.float64]]


class AttributeReader:
    """Reads all of ``UNITS``, the smile where a pack has its measure."""

    def __init__(self, faces: AlignedFaces, pack: Pack) -> None:
        self._faces, self._smile = faces, pack.smile_measure()

    def __call__(self, pictures_NRR3: Float32) -> Measured:
        """Name -> ``[N]`` in ``UNITS``."""
        landmarks = self._faces.landmarks(pictures_NRR3)
        smile = {} if self._smile is None else {"smile": self._smile(landmarks)}
        appearance, _ = measure_appearance(pictures_NRR3, landmarks)
        pixels = dict(zip(APPEARANCE, appearance.T, strict=True))
        return {**geometry(landmarks), **pixels, **smile}

    def notes(self, names: Sequence[str]) -> list[str]:
        """What the figures of these attributes are, and which have none."""
        measured = [name for name in names if name in UNITS]
        if self._smile is None:
            measured = [name for name in measured if name != "smile"]
        lines = [f"{name}: {UNITS[name]}" for name in measured]
        absent = [name for name in names if name not in measured]
        return [*lines, *([f"no measure for: {', '.join(absent)}"] if absent else [])]
