"""Directions: what a unit of an attribute changes in the latents, and applying several at once.

A direction belongs to one generator, one latent space and a range of layers: directions of other
networks do not transfer. Strengths are calibrated: 1 is a clear, natural change. Spaces: ``"w"``,
one vector for every layer; ``"w+"``, a vector for each; ``"style"``, what is added to the styles
that the layers' affines give (StyleSpace, Wu et al. 2021).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vidinv.editing.schedules import Keyframes, face_and_name
from vidinv.errors import UnknownNameError
from vidinv.generators.base import GeneratorConfig
from vidinv.types import EditedLatents

SPACES = ("w", "w+", "style")
JAW_POINTS, OUTLINE_POINTS = 17, 27  # of 68 landmarks: jaw 0-16, brows 17-26


@dataclass(frozen=True, eq=False)
class Direction:
    """One attribute's direction.

    Attributes:
        name: as on the command line.
        vector_LD: what strength 1 adds to a w+ code, ``[L, D]``; None in style space.
        positive: what a positive strength does, in words.
        strength_range: strengths that were checked and stay natural; or that are usual, where
            nobody checked (``checked``).
        style_vectors: by layer (``"b8.conv0"``): what strength 1 adds to its style, ``[C]``.
        outline_P2: where strength 1 moves jaw and brows, ``[27, 2]``, x and y in sides of the
            pack's crop; None where nobody measured it.
    """

    name: str
    vector_LD: Tensor | None
    positive: str
    strength_range: tuple[float, float]
    style_vectors: Mapping[str, Tensor] = field(default_factory=dict)
    outline_P2: Tensor | None = None
    checked: bool = True


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

    def apply(self, latents_NLD: Tensor, strengths_N: Mapping[str, Tensor]) -> EditedLatents:
        """w~ = w + sum over attributes of strength x vector, styles alike; strengths ``[N]``."""
        edited, offsets = latents_NLD, dict[str, Tensor]()
        for name, strengths in strengths_N.items():
            direction, factors = self[name], strengths.to(latents_NLD)
            if direction.vector_LD is not None:
                edited = edited + factors[:, None, None] * direction.vector_LD.to(latents_NLD)
            for layer, vector_C in direction.style_vectors.items():
                offset = factors[:, None] * vector_C.to(latents_NLD)
                offsets[layer] = offsets[layer] + offset if layer in offsets else offset
        return EditedLatents(edited, offsets)

    def outline_shift(self, strengths_N: Mapping[str, Tensor]) -> npt.NDArray[np.float32] | None:
        """Where an edit moves jaw and brows: ``[N, 27, 2]`` in sides of the pack's crop.

        None where it is known of none of the attributes.
        """
        known = [
            strengths[:, None, None] * outline
            for name, strengths in strengths_N.items()
            if (outline := self[name].outline_P2) is not None
        ]
        return torch.stack(known).sum(0).float().numpy() if known else None

    def warnings(self, attributes: Mapping[str, Keyframes]) -> list[str]:
        """One line for each least or largest strength outside the range that was checked."""
        lines = []
        for key, keyframes in attributes.items():
            direction = self[face_and_name(key)[1]]
            low, high = direction.strength_range
            strengths = [strength for _, strength in keyframes]
            lines += [
                f"{key}={strength:g} is outside the range {low:g}..{high:g} "
                f"that {'was checked to look natural' if direction.checked else 'is usual'}"
                for strength in sorted({min(strengths), max(strengths)})
                if not low <= strength <= high
            ]
        return lines


def read_direction(
    name: str,
    entry: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    *,
    generator: GeneratorConfig,
    generator_digest: str,
) -> Direction:
    """A direction as a pack stores it, for the generator that it is to be used with.

    Args:
        entry: ``space``, ``positive``, ``strength_range``, optionally ``checked`` (false: nobody
            looked at that range), ``layers`` (first and last row of w+ that it changes, inclusive)
            and ``generator`` (digest of its weights).
        tensors: ``NAME`` (``[D]`` for w, ``[L, D]`` for w+), or ``NAME/LAYER`` (``[C]``) for each
            layer of a direction in style space; optionally ``NAME.outline`` (``[27, 2]``,
            ``Direction.outline_P2``).
        generator_digest: of the weights at hand.

    Raises:
        ValueError: another generator, a space that this one lacks, or anything that does not fit.
    """
    made_for = entry.get("generator", generator_digest)
    if made_for != generator_digest:
        raise ValueError(
            f"made for another generator (weights {str(made_for)[:12]}..., "
            f"here {generator_digest[:12]}...)"
        )
    space = _check_space(entry.get("space"), generator)
    if space == "style":
        vector, styles = None, _style_vectors(name, entry, tensors, generator)
    else:
        rows = slice(*_row_range(entry.get("layers"), generator.num_ws))
        vector, styles = _rows(_tensor(name, tensors), space, rows, generator), {}
    outline = tensors.get(f"{name}.outline")
    if outline is not None and outline.shape != (OUTLINE_POINTS, 2):
        raise ValueError(f"its outline is [{OUTLINE_POINTS}, 2], got {list(outline.shape)}")
    return Direction(
        name,
        vector,
        _positive(entry),
        _strength_range(entry),
        styles,
        outline,
        checked=entry.get("checked", True) is not False,
    )


def _check_space(space: Any, generator: GeneratorConfig) -> str:
    if space not in SPACES:
        raise ValueError(f"space must be one of {', '.join(SPACES)}, got {space!r}")
    if space not in generator.latent_spaces:
        raise ValueError(
            f"made for the space {space}, which a generator of kind {generator.kind} lacks "
            f"(it has: {', '.join(generator.latent_spaces)})"
        )
    return str(space)


def _row_range(layers: Any, num_ws: int) -> tuple[int, int]:
    """First row and the one after the last."""
    if layers is None:
        return 0, num_ws
    if isinstance(layers, Sequence) and len(layers) == 2 and all(type(v) is int for v in layers):
        first, last = layers
        if 0 <= first <= last < num_ws:
            return first, last + 1
    raise ValueError(f"layers must be [first, last] within 0..{num_ws - 1}, got {layers!r}")


def _rows(vector: Tensor, space: str, rows: slice, generator: GeneratorConfig) -> Tensor:
    """``[L, D]``, zero outside ``rows``."""
    full = (generator.num_ws, generator.w_dim)
    expected = full if space == "w+" else full[1:]
    if vector.shape != expected:
        raise ValueError(f"a direction in {space} is {list(expected)}, got {list(vector.shape)}")
    vector_LD = vector.expand(full)
    if rows == slice(0, full[0]):
        return vector_LD
    limited = torch.zeros_like(vector_LD)
    limited[rows] = vector_LD[rows]
    return limited


def _style_vectors(
    name: str, entry: Mapping[str, Any], tensors: Mapping[str, Tensor], generator: GeneratorConfig
) -> dict[str, Tensor]:
    if "layers" in entry:
        raise ValueError("layers are rows of w+; a direction in style names its layers itself")
    prefix = f"{name}/"
    found = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
    if not found:
        raise ValueError(f"its file has no tensor {prefix}LAYER")
    for layer, vector in found.items():
        channels = generator.style_channels.get(layer)
        if channels is None:
            raise ValueError(f"the generator has no layer {layer!r}")
        if vector.shape != (channels,):
            raise ValueError(f"the style of {layer} is [{channels}], got {list(vector.shape)}")
    return found


def _tensor(name: str, tensors: Mapping[str, Tensor]) -> Tensor:
    if name not in tensors:
        raise ValueError(f"its file has no tensor {name}")
    return tensors[name]


def _positive(entry: Mapping[str, Any]) -> str:
    if not isinstance(entry.get("positive"), str):
        raise ValueError(f"positive must be words, got {entry.get('positive')!r}")
    return str(entry["positive"])


def _strength_range(entry: Mapping[str, Any]) -> tuple[float, float]:
    try:
        low, high = (float(value) for value in entry["strength_range"])
    except (KeyError, TypeError, ValueError):
        low, high = 1.0, 0.0
    if not low <= high:
        raise ValueError(f"strength_range must be [low, high], got {entry.get('strength_range')!r}")
    return low, high
