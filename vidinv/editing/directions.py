"""Latent directions: what a unit of an attribute adds to w+, and applying several at once.

A direction belongs to one pair of generator and encoder (its pack): directions of other networks do
not transfer (PEERS.md B7). Strengths are calibrated: 1 is a clear, natural change.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from vidinv.editing.schedules import Keyframes
from vidinv.errors import UnknownNameError


@dataclass(frozen=True, eq=False)
class Direction:
    """One attribute's direction.

    Attributes:
        name: as on the command line.
        vector_LD: what strength 1 adds to a w+ code, ``[L, D]``.
        positive: what a positive strength does, in words.
        strength_range: strengths that were looked at and stay natural.
    """

    name: str
    vector_LD: Tensor
    positive: str
    strength_range: tuple[float, float]


@dataclass(frozen=True)
class Directions:
    """The directions of a pack, by name."""

    by_name: Mapping[str, Direction]

    def __getitem__(self, name: str) -> Direction:
        """UnknownNameError lists the known attributes, nearest first."""
        if name not in self.by_name:
            raise UnknownNameError("attribute", name, self.by_name)
        return self.by_name[name]

    def names(self) -> list[str]:
        return sorted(self.by_name)

    def apply(self, latents_NLD: Tensor, strengths_N: Mapping[str, Tensor]) -> Tensor:
        """w~ = w + sum over attributes of strength x vector; strengths ``[N]`` per attribute."""
        edited = latents_NLD
        for name, strengths in strengths_N.items():
            vector = self[name].vector_LD.to(latents_NLD)
            edited = edited + strengths.to(latents_NLD)[:, None, None] * vector
        return edited

    def warnings(self, attributes: Mapping[str, Keyframes]) -> list[str]:
        """One line for each least or largest strength outside the range that was looked at."""
        lines = []
        for name, keyframes in attributes.items():
            low, high = self[name].strength_range
            strengths = [strength for _, strength in keyframes]
            lines += [
                f"{name}={strength:g} is outside the range {low:g}..{high:g} "
                "that was checked to look natural"
                for strength in sorted({min(strengths), max(strengths)})
                if not low <= strength <= high
            ]
        return lines


def constant_rows(vector_D: Tensor, num_ws: int) -> Tensor:
    """A direction in W as one in W+: the same row for every layer."""
    return torch.as_tensor(vector_D)[None].expand(num_ws, -1)
