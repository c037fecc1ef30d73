"""Public files of directions as vidinv's, where strength 1 adds the vector as it is.

Files differ in shape, length, sign and use (docs/REFERENCES.md, "Directions and units"). What a
unit of their published use is becomes strength 1; nothing is calibrated here, and options say
otherwise where a user knows better.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vidinv.checkpoints.errors import CheckpointError
from vidinv.checkpoints.parts import DirectionPart

UNIT_STEP = 3.0  # InterFaceGAN's range is -3..3 along unit vectors of W, e4e's about -5..5
FSE_STEP = 15.0  # Feature-Style: w + 15 strength n
STIT_STEP = 1.0  # w + (f / 2) d, at f of 2
RANGE = (-2.0, 2.0)

# GANSpace's edits of FFHQ, as e4e publishes them: component, first row, row after the last,
# strength.
GANSPACE = {
    "eye_openness": (54, 7, 8, 5.0),
    "trimmed_beard": (58, 7, 9, 7.0),
    "lipstick": (34, 10, 11, 20.0),
    "face_roundness": (37, 0, 5, 20.0),
    "nose_length": (51, 4, 5, -30.0),
    "eyebrow_thickness": (37, 8, 9, 20.0),
    "head_angle_up": (11, 1, 4, -10.5),
    "displeased": (36, 4, 7, 10.0),
}


@dataclass(frozen=True)
class DirectionOptions:
    """What a user says of a file of a direction; None: as its file and its source have it.

    Attributes:
        name: on the command line.
        scale: what strength 1 adds, as a multiple of the file's vector; negative turns it round.
        space: "w" or "w+".
        layers: first and last row that it changes.
        positive: what a positive strength does, in words.
    """

    name: str | None = None
    scale: float | None = None
    space: str | None = None
    layers: tuple[int, int] | None = None
    positive: str | None = None


def read_directions(
    content: Any, path: Path, options: DirectionOptions
) -> tuple[str, dict[str, DirectionPart]]:
    """The layout in words, and directions by name; CheckpointError for shapes that are none."""
    if isinstance(content, Mapping):
        return "GANSpace", _ganspace(content, options)
    if not content.is_floating_point() or not torch.isfinite(content).all() or not content.any():
        raise CheckpointError("a direction of no finite numbers, or of zeros alone")
    layout, vector, scale = _layout(content.float(), path)
    if options.space == "w" and vector.ndim == 2:
        if not torch.allclose(vector, vector[:1].expand_as(vector)):
            raise CheckpointError("a direction whose rows differ is one of w+, not of w")
        vector = vector[0]
    if options.space == "w+" and vector.ndim == 1:
        raise CheckpointError("a direction of one row is one of w, not of w+")
    if options.space not in (None, "w", "w+"):
        raise CheckpointError(f"a direction in {options.space}: vidinv edits in w and w+")
    name = options.name or _name(path)
    part = DirectionPart(
        vector * (scale if options.scale is None else options.scale),
        "w+" if vector.ndim == 2 else "w",
        options.positive or f"more {name.replace('_', ' ')}",
        RANGE,
        options.layers,
    )
    return layout, {name: part}


def _layout(vector: Tensor, path: Path) -> tuple[str, Tensor, float]:
    """Layout, ``[D]`` or ``[L, D]``, and the multiple of it that its source uses."""
    shape = tuple(vector.shape)
    if len(shape) == 3 and shape[0] == 1:  # e4e's pose: a unit row, repeated
        return _equal_rows("e4e (rows)", vector[0], UNIT_STEP)
    if len(shape) == 2 and shape[0] == 1 and shape[1] % 512 == 0 and shape[1] > 512:
        return "Feature-Style (flattened w+)", vector.reshape(-1, 512), FSE_STEP
    if len(shape) == 2 and shape[0] > 1:
        return _equal_rows("STIT", vector, STIT_STEP)
    if len(shape) == 1 or (len(shape) == 2 and shape[0] == 1):
        if path.name.endswith("_boundary.npy") and not path.stem.endswith("_w_boundary"):
            raise CheckpointError(
                "InterFaceGAN's boundary in z, which vidinv does not edit in; take ..._w_boundary"
            )
        source = "InterFaceGAN" if path.suffix == ".npy" else "e4e"
        return f"{source} (one row)", vector.flatten(), UNIT_STEP
    raise CheckpointError(f"numbers of the shape {list(shape)}, which is no direction's")


def _equal_rows(layout: str, rows_LD: Tensor, scale: float) -> tuple[str, Tensor, float]:
    if torch.allclose(rows_LD, rows_LD[:1].expand_as(rows_LD)):
        return layout, rows_LD[0], scale
    return layout, rows_LD, scale


def _ganspace(content: Mapping[str, Any], options: DirectionOptions) -> dict[str, DirectionPart]:
    """The published edits of its components; ``name`` picks one.

    Published code sets the coordinate to the strength; here the strength is added to it, as a
    direction does, so that 1 is a published step from where the face is.
    """
    components, deviations = content["comp"].float(), content["std"].float().flatten()
    parts = {}
    for name, (index, first, end, strength) in GANSPACE.items():
        if options.name not in (None, name) or index >= len(deviations):
            continue
        step = strength if options.scale is None else options.scale
        vector = components[index].flatten() * deviations[index] * step
        words = options.positive or name.replace("_", " ")
        parts[name] = DirectionPart(vector, "w", words, RANGE, options.layers or (first, end - 1))
    if not parts:
        raise CheckpointError("no component of GANSpace that has a published edit")
    return parts


def _name(path: Path) -> str:
    """``stylegan_ffhq_smile_w_boundary.npy`` -> ``smile``."""
    stem = re.sub(r"^stylegan\d?_[a-z]+_", "", path.stem.lower())
    stem = re.sub(r"(_c)?(_w)?_boundary$", "", stem)
    return re.sub(r"[^a-z0-9_]+", "_", stem).strip("_") or "direction"
