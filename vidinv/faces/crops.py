"""Cutting the aligned square out of a frame, without aliasing.

The published pipelines sample the square bilinearly, which aliases when the face is larger than
the crop (docs/REFERENCES.md, "Crops"). Here a crop is sampled on a grid finer by a whole factor and
averaged over that factor; very large faces are first reduced by a whole factor. Both steps are box
filters whose geometry is exact, so ``Crop.crop_to_frame`` is the inverse to a fraction of a pixel.
"""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from vidinv.errors import UsageError
from vidinv.types import Crop, Image

# Samples a side per output pixel before averaging; above it the frame is reduced first. Two
# keeps the 512 -> 128 crop under a millisecond and shows no moire on a 1 px grating.
_MAX_SUPERSAMPLING = 2
_BILINEAR_ENOUGH = 0.15  # up to 15 % reduction plain bilinear sampling does not alias visibly
_MARGIN_PX = 3  # neighbours that bilinear sampling touches outside the square


def extract_crop(image: Image, crop: Crop, size_px: int) -> Image:
    """The square ``crop`` of a frame at ``size_px``, antialiased.

    Args:
        image: ``[H, W, 3]`` or ``[H, W]``, uint8 or uint16.
        crop: the square in frame pixels; what lies outside the frame is the other half of the
            square mirrored, as a face is, and the frame mirrored where that is outside too.
        size_px: side of the result.

    Returns:
        ``[size_px, size_px, 3]`` (or ``[size_px, size_px]``), same type and range as ``image``.
    """
    if size_px < 1:
        raise UsageError(f"crop size must be at least 1 px, got {size_px}")
    # Along the finer axis of the frame's pixels, so that nothing is averaged away before.
    ratio = crop.side_px / size_px / max(crop.pixel_aspect, 1.0)
    reduce_by = min(max(1, math.ceil(ratio / _MAX_SUPERSAMPLING)), *image.shape[:2])
    samples = max(1, math.ceil(ratio / reduce_by - _BILINEAR_ENOUGH))
    samples = min(samples, _MAX_SUPERSAMPLING)  # more only for a crop larger than the frame
    region, to_frame = _reduced_region(image, crop, reduce_by)
    fine = size_px * samples
    matrix = (np.linalg.inv(to_frame) @ _as_3x3(crop.crop_to_frame(fine)))[:2]
    sampled: Any = cv2.warpAffine(
        region,
        matrix,
        (fine, fine),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REFLECT_101,
    )
    if samples > 1:
        sampled = cv2.resize(sampled, (size_px, size_px), interpolation=cv2.INTER_AREA)
    return mirror_missing(sampled, crop, image.shape)


def mirror_missing(square: Image, crop: Crop, frame_shape: tuple[int, ...]) -> Image:
    """A crop whose part outside the frame is its other half mirrored; itself if it has none.

    Args:
        square: ``[R, R, 3]`` or ``[R, R]``, cut with ``crop``; not modified.
        frame_shape: height and width of the frame first.
    """
    size_px = len(square)
    to_frame = crop.crop_to_frame(size_px)
    ends = np.array([-0.5, size_px - 0.5])
    if _inside(to_frame, ends, ends[:, None], frame_shape).all():
        return square
    columns = np.arange(size_px)
    inside = _inside(to_frame, columns, columns[:, None], frame_shape)
    mirrored = ~inside & inside[:, ::-1]
    completed = square.copy()
    completed[mirrored] = square[:, ::-1][mirrored]
    return completed


def _inside(
    to_frame: npt.NDArray[np.float64], u: Any, v: Any, frame_shape: tuple[int, ...]
) -> npt.NDArray[np.bool_]:
    """Whether places of a crop (column u, row v) lie in the frame."""
    x, y = (row[0] * u + row[1] * v + row[2] for row in to_frame)
    height, width = frame_shape[:2]
    return (x >= -0.5) & (x <= width - 0.5) & (y >= -0.5) & (y <= height - 0.5)


def as_displayed(image: Image, pixel_aspect: float) -> Image:
    """A frame with its pixels made square by stretching it sideways; itself where they are."""
    if pixel_aspect == 1.0:
        return image
    height, width = image.shape[:2]
    stretched: Any = cv2.resize(
        image,
        (max(1, round(width * pixel_aspect)), height),
        interpolation=cv2.INTER_AREA if pixel_aspect < 1 else cv2.INTER_LINEAR,
    )
    return stretched


def as_uint8(image: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """An 8-bit picture of an 8 or 16-bit one."""
    if image.dtype == np.uint16:
        image = image >> 8
    return image.astype(np.uint8, copy=False)


def _reduced_region(image: Image, crop: Crop, factor: int) -> tuple[Image, npt.NDArray[np.float64]]:
    """The part of the frame around a crop, averaged over factor x factor pixels.

    Returns the part and the 3x3 matrix from its pixels to frame pixels.
    """
    reach = abs(crop.axis_x) + abs(crop.axis_y)
    aspect = crop.pixel_aspect
    center_x = (crop.center_x + 0.5) / aspect - 0.5
    left, right = _span(center_x, reach / aspect, factor, image.shape[1])
    top, bottom = _span(crop.center_y, reach, factor, image.shape[0])
    region: Any = image[top:bottom, left:right]
    if factor > 1:
        size = ((right - left) // factor, (bottom - top) // factor)
        region = cv2.resize(
            region[: size[1] * factor, : size[0] * factor], size, interpolation=cv2.INTER_AREA
        )
    offset = (factor - 1) / 2  # the mean of pixels 0..f-1 lies at (f - 1) / 2
    to_frame = np.array([[factor, 0, left + offset], [0, factor, top + offset], [0, 0, 1]], float)
    return region, to_frame


def _span(center: float, reach: float, factor: int, length: int) -> tuple[int, int]:
    """First and end pixel along one axis that a crop needs; at least ``factor`` pixels.

    Args:
        reach: of the crop from its centre.
    """
    reach += _MARGIN_PX * factor
    first = int(np.clip(math.floor(center - reach), 0, max(0, length - factor)))
    end = int(np.clip(math.ceil(center + reach) + 1, first + factor, max(length, first + 1)))
    # One reduced pixel more, so that what the whole factor cuts off lies outside the square.
    return first, min(length, end + factor)


def _as_3x3(matrix: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.vstack([matrix, [0.0, 0.0, 1.0]])
