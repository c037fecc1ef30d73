"""Masks with soft borders, and colour matched at the border, at the generator's own size."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from vidinv.faces.mask import feather

Float32 = npt.NDArray[np.float32]

# In sides of the tight crop, as are all fractions here.
FADE_SIGMA = 1 / 32  # of the soft border
BORDER_SIGMA = 1 / 10  # wide enough to reach the middle of a face, narrow enough for shading
# In pixels whatever the face's size: bicubic enlargement reaches two pixels further than the mask,
# which must stay untouched there.
ERODE_PX = 2


def fade_inwards(mask_RR: npt.NDArray[np.floating], *, face_px: float) -> Float32:
    """Soften a mask inwards: 0 stays 0, and the border rises smoothly over a 16th of the face.

    The border of the crop counts as outside, so a mask that touches it fades out too.

    Args:
        mask_RR: ``[R, R]``, 0..1, hard or already soft.
        face_px: side of the tight crop in pixels of the mask.

    Returns:
        ``[R, R]`` float32, 0..1, nowhere above the mask.
    """
    mask = np.ascontiguousarray(np.clip(mask_RR, 0.0, 1.0), np.float32)
    kernel = np.ones((2 * ERODE_PX + 1,) * 2, np.uint8)
    eroded = np.asarray(
        cv2.erode(mask, kernel, borderType=cv2.BORDER_CONSTANT, borderValue=0), np.float32
    )
    blurred = feather(eroded, max(1.0, FADE_SIGMA * face_px), sigmas=4)
    # A straight edge blurs to 0.5: what lies above it is inside, by about two sigma at 1.
    return np.asarray(np.minimum(eroded, smoothstep(blurred, 0.5, 1.0)), np.float32)


def border_offset(
    source: Float32, generated: Float32, mask_RR: Float32, visible_RR: Float32, *, face_px: float
) -> Float32:
    """Colour difference source - generated on the mask's soft border, continued smoothly inwards.

    A normalised convolution with weight 4 m (1 - m): exact tone at the seam, the average of the
    nearest border in the middle, so a paste does not show as a box. Computed at a quarter of the
    size, because only low frequencies are wanted.

    Args:
        source, generated: RGB ``[R, R, 3]`` float32, 0..255.
        mask_RR: ``[R, R]`` float32 feathered mask.
        visible_RR: the same without what is in front of the face, whose colour says nothing.
        face_px: side of the tight crop in pixels of the pictures.

    Returns:
        ``[R, R, 3]`` float32 to add to ``generated``.
    """
    weight = 4.0 * visible_RR * (1.0 - mask_RR)
    return smooth_difference(source, generated, weight, sigma_px=BORDER_SIGMA * face_px)


def smooth_difference(
    first: Float32, second: Float32, weight_RR: Float32, *, sigma_px: float
) -> Float32:
    """Low frequencies of first - second, averaged with a weight (normalised convolution).

    Args:
        first, second: RGB ``[R, R, 3]`` float32.
        weight_RR: ``[R, R]`` float32, what counts.
        sigma_px: standard deviation of the Gaussian.

    Returns:
        ``[R, R, 3]`` float32.
    """
    size = weight_RR.shape[0]
    small = (max(8, size // 4),) * 2
    weighted = np.dstack([(first - second) * weight_RR[..., None], weight_RR])
    weighted = cv2.resize(weighted, small, interpolation=cv2.INTER_AREA)
    blurred = cv2.GaussianBlur(weighted, (0, 0), sigma_px * small[0] / size)
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
