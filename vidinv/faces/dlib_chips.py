"""The square picture of a face that dlib's recognition network was trained on, pixel for pixel.

dlib fits its mean face to the landmarks and samples the square around it bilinearly, from a reduced
picture where the face is large (``get_face_chip_details`` and ``extract_image_chips`` of dlib 20.0,
without jitter). Embeddings move by more than 1e-3 with another interpolation, so the steps are
repeated here as they are, rounding and half pixels included. Points are complex numbers x + iy.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
import numpy.typing as npt

from vidinv.faces.align import to_complex
from vidinv.faces.crops import as_uint8
from vidinv.faces.protocols import Picture, Points
from vidinv.types import Crop

CHIP_PX = 150
_PADDING = 0.25  # around the mean face, in units of its size; face_recognition_model_v1
# Nose and eyes (points 27..47), upper lip and inner mouth (48..54, 60..64): where brows and lower
# lip are says more of the expression than of the place. Mean face of ``get_face_chip_details``.
_FITTED = [*range(27, 55), *range(60, 65)]
_MEAN_X = """
0.490127 0.490127 0.490127 0.490127 0.36688 0.426036 0.490127 0.554217 0.613373 0.121737 0.187122
0.265825 0.334606 0.260918 0.182743 0.645647 0.714428 0.793132 0.858516 0.79751 0.719335 0.254149
0.340985 0.428858 0.490127 0.551395 0.639268 0.726104 0.290379 0.428096 0.490127 0.552157 0.689874
"""
_MEAN_Y = """
0.203352 0.307009 0.409805 0.515625 0.587326 0.609345 0.628106 0.609345 0.587326 0.216423 0.178758
0.179852 0.231733 0.245099 0.244077 0.231733 0.179852 0.178758 0.216423 0.244077 0.245099 0.780233
0.745405 0.727388 0.742578 0.727388 0.745405 0.780233 0.784792 0.778746 0.785343 0.778746 0.784792
"""
_MEAN_FACE = np.array(_MEAN_X.split(), float) + 1j * np.array(_MEAN_Y.split(), float)
_MEAN_IN_CHIP = (_MEAN_FACE + _PADDING * (1 + 1j)) / (1 + 2 * _PADDING) * CHIP_PX
_HALF_CHIP = CHIP_PX / 2 * (1 + 1j)
# Where a point lies after ``pyramid_down<2>`` halved the picture: p / 2 - this.
_HALVED_SHIFT = 1.25 + 0.75j
_LEAST_PX = 8  # of what is worth halving: nothing is left of a picture that has no more
_BINOMIAL = np.array([1, 4, 6, 4, 1], np.float32)


def chip_crop(landmarks: Points) -> Crop:
    """The square of a chip: dlib's mean face fitted to ``[68, 2]`` landmarks by least squares."""
    points = to_complex(landmarks)[_FITTED]
    spread = _MEAN_IN_CHIP - _MEAN_IN_CHIP.mean()
    turn = (spread.conj() * (points - points.mean())).sum() / (np.abs(spread) ** 2).sum()
    center = points.mean() + turn * (_HALF_CHIP - _MEAN_IN_CHIP.mean())
    axis = turn * CHIP_PX / 2
    return Crop(center.real, center.imag, axis.real, axis.imag)


def cut_chip(image: Picture, landmarks: Points) -> Picture:
    """``[150, 150, 3]`` chip of the face with these ``[68, 2]`` landmarks; black outside the frame.

    Args:
        image: ``[H, W, 3]`` uint8 RGB.
        landmarks: dlib's are whole pixels, others are rounded to such.
    """
    crop = chip_crop(np.rint(landmarks))
    axis = complex(crop.axis_x, crop.axis_y)
    center = complex(crop.center_x, crop.center_y)
    # The outer pixels of the chip lie on the square's corners, the square being a pixel smaller.
    half_px = abs(axis) - 0.5
    halvings = _num_halvings(center, half_px)
    corners = center + half_px * axis / abs(axis) * np.array([-1 - 1j, 1 - 1j, -1 + 1j, 1 + 1j])
    region, offset = _region(image, corners, halvings)
    center -= offset
    for _ in range(halvings):
        region = _halved(region)
        center = center / 2 - _HALVED_SHIFT
        half_px /= 2
    steps = np.linspace(-half_px, half_px, CHIP_PX)
    return _bilinear(region, center + axis / abs(axis) * (steps + 1j * steps[:, None]))


def _num_halvings(center: complex, half_px: float) -> int:
    """How often the picture is halved, until the square of its half has no more px than a chip."""
    count = 0
    while (half_px / 2 ** (count + 1) * 2 + 1) ** 2 > CHIP_PX**2:
        count += 1
    return count


def _region(
    image: Picture, corners: npt.NDArray[np.complex128], halvings: int
) -> tuple[Picture, complex]:
    """The part of the picture around a square, and where its top left pixel is."""
    margin = 2.0
    for _ in range(halvings):
        margin = margin * 2 + 2
    height, width = image.shape[:2]
    left, right = _span(corners.real, margin, width)
    top, bottom = _span(corners.imag, margin, height)
    return image[top:bottom, left:right], complex(left, top)


def _span(corners: npt.NDArray[np.float64], margin: float, size: int) -> tuple[int, int]:
    first, last = max(corners.min() - margin, 0), min(corners.max() + margin, size - 1)
    begin, end = math.floor(first + 0.5), math.floor(last + 0.5) + 1
    return begin, max(begin, end)


def _halved(image: Picture) -> Picture:
    """``pyramid_down<2>``: a 5 x 5 binomial filter, every second pixel of it; floats are exact."""
    if min(image.shape[:2]) <= _LEAST_PX:
        return image[:0]
    rows, columns = ((size - 3) // 2 for size in image.shape[:2])
    filtered = cv2.sepFilter2D(image, cv2.CV_32F, _BINOMIAL, _BINOMIAL)
    kept = filtered[2 : 2 + 2 * rows : 2, 2 : 2 + 2 * columns : 2]
    return as_uint8(kept / 256)


def _bilinear(image: Picture, places: npt.NDArray[np.complex128]) -> Picture:
    """``image`` at ``[H, W]`` places, cut to whole levels; black where a neighbour is missing."""
    if not image.size:
        return np.zeros((*places.shape, 3), np.uint8)
    left, top = np.floor(places.real), np.floor(places.imag)
    x, y = (places.real - left).ravel(), (places.imag - top).ravel()
    height, width = image.shape[:2]
    inside = (left >= 0) & (top >= 0) & (left + 1 < width) & (top + 1 < height)
    first = np.where(inside, top * width + left, 0).astype(np.intp).ravel()
    pixels = np.ascontiguousarray(image).reshape(-1, 3)

    def beside(first: npt.NDArray[np.intp]) -> npt.NDArray[np.float64]:
        """``[3, H * W]`` between pixels and their right neighbours."""
        a, b = (pixels.take(n, axis=0, mode="clip").T.astype(float) for n in (first, first + 1))
        return (1 - x) * a + x * b

    mixed = (1 - y) * beside(first) + y * beside(first + width)
    mixed[:, ~inside.ravel()] = 0
    return np.ascontiguousarray(mixed.astype(np.uint8).T).reshape(*places.shape, 3)
