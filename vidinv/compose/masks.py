"""Masks with soft borders, and colour matched at the border, at the generator's own size."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]

FEATHER_FRACTION = 1 / 32  # sigma of the soft border: 4 px of a 128 px crop
BORDER_SIGMA = 1 / 10  # of R: wide enough to reach the middle of a face, narrow enough for shading
# Bicubic enlargement reaches two pixels further than the mask, which must stay untouched there.
ERODE_PX = 2


def feather(mask_RR: npt.NDArray[np.floating]) -> Float32:
    """Soften a mask inwards: 0 stays 0, and the border rises smoothly over R/16 px.

    The border of the crop counts as outside, so a mask that touches it fades out too.

    Args:
        mask_RR: ``[R, R]``, 0..1, hard or already soft.

    Returns:
        ``[R, R]`` float32, 0..1, nowhere above the mask.
    """
    mask = np.ascontiguousarray(np.clip(mask_RR, 0.0, 1.0), np.float32)
    kernel = np.ones((2 * ERODE_PX + 1,) * 2, np.uint8)
    eroded = cv2.erode(mask, kernel, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    sigma = max(1.0, FEATHER_FRACTION * mask.shape[0])
    blurred = cv2.GaussianBlur(eroded, (0, 0), sigma, borderType=cv2.BORDER_CONSTANT)
    # A straight edge blurs to 0.5: what lies above it is inside, by about two sigma at 1.
    inner = smoothstep(np.asarray(blurred, np.float32), 0.5, 1.0)
    return np.asarray(np.minimum(eroded, inner), np.float32)


def border_offset(source: Float32, generated: Float32, mask_RR: Float32) -> Float32:
    """Colour difference source - generated on the mask's soft border, continued smoothly inwards.

    A normalised convolution with weight 4 m (1 - m): exact tone at the seam, the average of the
    nearest border in the middle, so a paste does not show as a box. Computed at a quarter of the
    size, because only low frequencies are wanted.

    Args:
        source, generated: RGB ``[R, R, 3]`` float32, 0..255.
        mask_RR: ``[R, R]`` float32 feathered mask.

    Returns:
        ``[R, R, 3]`` float32 to add to ``generated``.
    """
    weight = 4.0 * mask_RR * (1.0 - mask_RR)
    return smooth_difference(source, generated, weight, sigma_fraction=BORDER_SIGMA)


def smooth_difference(
    first: Float32, second: Float32, weight_RR: Float32, *, sigma_fraction: float
) -> Float32:
    """Low frequencies of first - second, averaged with a weight (normalised convolution).

    Args:
        first, second: RGB ``[R, R, 3]`` float32.
        weight_RR: ``[R, R]`` float32, what counts.
        sigma_fraction: width of the Gaussian as a fraction of R.

    Returns:
        ``[R, R, 3]`` float32.
    """
    size = weight_RR.shape[0]
    small = (max(8, size // 4),) * 2
    weighted = np.dstack([(first - second) * weight_RR[..., None], weight_RR])
    weighted = cv2.resize(weighted, small, interpolation=cv2.INTER_AREA)
    blurred = cv2.GaussianBlur(weighted, (0, 0), sigma_fraction * small[0])
    # The small floor gives parts far from any weight the average of everything, not 0/0.
    floor = 1e-4
    mean = weighted[..., :3].mean((0, 1)) / max(float(weighted[..., 3].mean()), 1e-6)
    average = (blurred[..., :3] + floor * mean) / (blurred[..., 3:] + floor)
    large = cv2.resize(average, (size, size), interpolation=cv2.INTER_LINEAR)
    return np.asarray(large, np.float32)


def smoothstep(values: Float32, low: float, high: float) -> Float32:
    """0 below ``low``, 1 above ``high``, a smooth cubic between."""
    t = np.clip((values - low) * (1.0 / (high - low)), 0.0, 1.0)
    return np.asarray(t * t * (3.0 - 2.0 * t), np.float32)
