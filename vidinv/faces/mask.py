"""Where in a crop the face is: jaw, brows and the forehead above them, with a soft edge.

No segmentation network: the 68 landmarks give the region in 0.2 ms, the same on every machine.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from vidinv.geometry import transform_points
from vidinv.types import Crop, FloatArray

_OUTLINE = slice(0, 27)  # jaw 0-16, brows 17-26
_BROWS = slice(17, 27)
_FINER = 4  # drawn this much larger and averaged: edges to a quarter of a pixel
_EDGE_SIGMAS = 3  # the Gaussian of the soft edge is cut off here

Mask = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class FaceRegion:
    """The shape of a face mask, in sides of the tight crop.

    Attributes:
        forehead: how far above the brows the face goes on. The brows lie a good third of the
            face's height under the hairline; 0.15 of the tight crop stays under most hair.
        feather: standard deviation of the soft edge.
    """

    forehead: float = 0.15
    feather: float = 0.03


def face_mask(
    landmarks: FloatArray,
    *,
    crop: Crop,
    size_px: int,
    crop_scale: float = 1.0,
    region: FaceRegion | None = None,
) -> Mask:
    """``[size_px, size_px]`` float32 in 0..1: 1 on the face, 0 off it and at the crop's border.

    Args:
        landmarks: ``[68, 2]`` in frame pixels.
        crop: the square of the frame that the mask is for.
        size_px: side of the mask.
        crop_scale: of the alignment that ``crop`` is of (``Alignment.crop_scale``).
        region: shape of the mask.
    """
    region = region or FaceRegion()
    face_px = size_px / crop_scale
    to_crop = crop.frame_to_crop(size_px * _FINER)
    points = transform_points(np.asarray(landmarks, np.float64), to_crop)
    mask = _fill(_outline(points, region.forehead * face_px * _FINER), size_px)
    sigma_px = region.feather * face_px
    return feather(_without_border(mask, _reach_px(sigma_px, _EDGE_SIGMAS)), sigma_px)


def feather(mask_RR: Mask, sigma_px: float, *, sigmas: float = _EDGE_SIGMAS) -> Mask:
    """A mask with soft edges; beyond the border of the crop there is nothing.

    Args:
        mask_RR: ``[R, R]`` float32, 0..1.
        sigma_px: standard deviation of the Gaussian; 0 leaves the mask as it is.
        sigmas: where the Gaussian is cut off, in standard deviations.
    """
    if sigma_px <= 0:
        return mask_RR
    kernel = 2 * min(_reach_px(sigma_px, sigmas), len(mask_RR) // 2) + 1
    soft = cv2.GaussianBlur(mask_RR, (kernel, kernel), sigma_px, borderType=cv2.BORDER_CONSTANT)
    return np.clip(soft, 0.0, 1.0).astype(np.float32)


def _reach_px(sigma_px: float, sigmas: float) -> int:
    return math.ceil(sigmas * sigma_px)


def _outline(points: FloatArray, forehead_px: float) -> FloatArray:
    """Convex hull of jaw, brows and brows moved up (in the crop up is up)."""
    above = points[_BROWS] - [0.0, forehead_px]
    return np.asarray(cv2.convexHull(np.vstack([points[_OUTLINE], above]).astype(np.float32)))


def _fill(outline: FloatArray, size_px: int) -> Mask:
    """How much of each pixel lies inside an outline drawn ``_FINER`` times as large."""
    fine = np.zeros((size_px * _FINER,) * 2, np.uint8)
    cv2.fillConvexPoly(fine, np.rint(outline).astype(np.int32), 255)
    small = cv2.resize(fine, (size_px, size_px), interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.float32) / np.float32(255)


def _without_border(mask: Mask, margin_px: int) -> Mask:
    """The mask inside a margin, so that its soft edge is gone at the border of the crop."""
    margin = min(margin_px, len(mask) // 2)
    inside = np.zeros_like(mask)
    core = slice(margin, len(mask) - margin)
    inside[core, core] = mask[core, core]
    return inside
