"""What a checkpoint gives a pack: a generator, weights of methods, networks, directions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from vidinv.generators.base import GeneratorConfig

State = Mapping[str, Tensor]


@dataclass(frozen=True)
class GeneratorPart:
    """Sizes and weights in the names of its family."""

    config: GeneratorConfig
    state: State


@dataclass(frozen=True)
class MethodPart:
    """What pack.json says of a method, and its weights.

    Attributes:
        state: made for the generator that the pack gets.
        lacks_mean: ``latent_avg`` comes from another file, or is the generator's mean of w.
    """

    config: Mapping[str, Any]
    state: Callable[[GeneratorConfig], State]
    lacks_mean: bool = False


@dataclass(frozen=True)
class DirectionPart:
    """A direction as its file has it.

    Attributes:
        vector: ``[D]`` (space w) or ``[L, D]`` (w+): what strength 1 adds.
        layers: first and last row that it changes; None: all.
        strength_range: that its source uses, in strengths of vidinv.
    """

    vector: Tensor
    space: str
    positive: str
    strength_range: tuple[float, float]
    layers: tuple[int, int] | None = None


@dataclass(frozen=True)
class Parts:
    """All that one file gives.

    Attributes:
        layout: in a few words, for people.
        networks: what it does -> (kind, weights), as vidinv/networks/registry.py has them.
        latent_avg: mean latent ``[L, D]`` of an encoder's file.
    """

    layout: str
    generator: GeneratorPart | None = None
    methods: Mapping[str, MethodPart] = field(default_factory=dict)
    networks: Mapping[str, tuple[str, State]] = field(default_factory=dict)
    directions: Mapping[str, DirectionPart] = field(default_factory=dict)
    latent_avg: Tensor | None = None
