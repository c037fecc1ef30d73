"""The one interface that every inversion method implements (docs/ARCHITECTURE.md).

Three verbs over aligned faces ``[N, 3, R, R]`` in [-1, 1]: ``fit`` once per face track,
``encode`` and ``render`` per batch. Networks run without gradients; an inverter serves one thread.
"""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor

from vidinv.types import Inversion


class Inverter(Protocol):
    """A method bound to the networks of one pack."""

    @property
    def name(self) -> str:
        """Name on the command line, e.g. ``"fse"``."""

    def fit(self, sample_N3RR: Tensor) -> Any:
        """State of one face track, learned from a sample of its frames; None where nothing is."""

    def encode(self, faces_N3RR: Tensor, state: Any, *, features: bool = True) -> Inversion:
        """Invert a batch of faces; without ``features``, latents only, and the same ones."""

    def render(self, inversion: Inversion, latents_NLD: Tensor, state: Any) -> Tensor:
        """Pictures ``[N, 3, R, R]`` of the inverted faces with these (edited) latents.

        Inversions come from ``encode`` or from disk: their tensors may lie on any device.
        """
