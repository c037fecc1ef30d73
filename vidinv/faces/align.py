"""From 68 landmarks to the square that the generator sees.

One formula, that of FFHQ (Karras et al., "A Style-Based Generator Architecture for Generative
Adversarial Networks", CVPR 2019; docs/REFERENCES.md, "Crops"), with two constants. A model pack
names its alignment: ``tight`` is the crop of the default pack's training faces, ``ffhq`` that of
every public StyleGAN face checkpoint. Vectors are written as complex numbers: rot90 is a product
with i.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vidinv.errors import UnknownNameError, UsageError
from vidinv.faces.whole import WHOLE_ALIGNMENTS, whole_alignment
from vidinv.types import Crop, FloatArray

LEFT_EYE = slice(36, 42)
RIGHT_EYE = slice(42, 48)
MOUTH_CORNERS = (48, 54)
# Which point of the mirrored face each of the 68 is.
MIRRORED = (
    *range(16, -1, -1),
    *range(26, 16, -1),
    *range(27, 31),
    *range(35, 30, -1),
    *(45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40),
    *range(54, 47, -1),
    *range(59, 54, -1),
    *range(64, 59, -1),
    *range(67, 64, -1),
)
# ``Alignment.scale`` of the tight crop. All alignments take the same multiple of the same vectors,
# so around the same landmarks their sides are as their scales: FFHQ's is 1 / 0.70 tight ones.
TIGHT_SCALE = 0.70


@dataclass(frozen=True, slots=True)
class Alignment:
    """Where the crop lies relative to eyes and mouth.

    Attributes:
        scale: half side of the crop in units of max(2.0 |e|, 1.8 |m|), with e the vector between
            the eyes and m that from the eyes to the mouth.
        shift: centre of the crop below the eyes, in units of m.
    """

    scale: float
    shift: float

    @property
    def crop_scale(self) -> float:
        """Side of this crop over that of the tight crop around the same landmarks; tight: 1."""
        return self.scale / TIGHT_SCALE

    def crop(self, landmarks: FloatArray, *, pixel_aspect: float = 1.0) -> Crop:
        """The crop of one face, from ``[68, 2]`` landmarks in frame pixels."""
        seen = stretched(np.asarray(landmarks), pixel_aspect)
        return Crop.from_array(self.crops(seen[None])[0], pixel_aspect=pixel_aspect)

    def crops(self, landmarks_T682: FloatArray) -> npt.NDArray[np.float64]:
        """``[T, 4]`` float64 crops (``Crop.as_array``) from ``[T, 68, 2]`` landmarks.

        Landmarks as seen: of square pixels, or ``stretched``.
        """
        points = to_complex(landmarks_T682)
        left, right = points[:, LEFT_EYE].mean(1), points[:, RIGHT_EYE].mean(1)
        eyes = (left + right) / 2
        across = right - left
        down = points[:, MOUTH_CORNERS].mean(1) - eyes
        axis = across - 1j * down
        half_side = self.scale * np.maximum(2.0 * np.abs(across), 1.8 * np.abs(down))
        axis *= half_side / np.maximum(np.abs(axis), np.finfo(float).tiny)
        center = eyes + self.shift * down
        return np.stack([center.real, center.imag, axis.real, axis.imag], axis=1)


ALIGNMENTS = {
    "tight": Alignment(scale=TIGHT_SCALE, shift=0.48),
    "ffhq": Alignment(scale=1.0, shift=0.1),  # Karras et al. 2019, FFHQ recreate script
}
TIGHT = ALIGNMENTS["tight"]
FFHQ = ALIGNMENTS["ffhq"]


def named_alignment(name: str) -> Alignment:
    """The alignment of faces that a pack names.

    Raises:
        UsageError: the pack is of other things than faces.
        UnknownNameError: lists those there are.
    """
    if name not in ALIGNMENTS:
        if whole_alignment(name) is not None:
            raise UsageError(
                f"the pack edits whole frames (alignment {name}): this looks for faces"
            )
        raise UnknownNameError("alignment", name, [*ALIGNMENTS, *WHOLE_ALIGNMENTS])
    return ALIGNMENTS[name]


def crop_scale_of(name: str) -> float:
    """``Alignment.crop_scale``; that of a square of the frame is 1."""
    return 1.0 if whole_alignment(name) is not None else named_alignment(name).crop_scale


def stretched(points: FloatArray, pixel_aspect: float) -> FloatArray:
    """``[..., 2]`` points where they lie once pixels of this aspect have been made square."""
    if pixel_aspect == 1.0:
        return points
    seen = np.array(points)
    seen[..., 0] = (seen[..., 0] + 0.5) * pixel_aspect - 0.5
    return seen


def to_complex(points: FloatArray) -> npt.NDArray[np.complex128]:
    """``[..., 2]`` points as ``[...]`` complex numbers x + iy."""
    points = np.asarray(points, np.float64)
    return points[..., 0] + 1j * points[..., 1]


def from_complex(points: npt.NDArray[np.complex128]) -> npt.NDArray[np.float64]:
    """The inverse of ``to_complex``."""
    return np.stack([points.real, points.imag], axis=-1)
