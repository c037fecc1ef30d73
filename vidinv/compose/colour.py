"""Black-and-white clips stay black and white: a generator of faces paints them in colour."""

from __future__ import annotations

import cv2
import numpy as np

from vidinv.compose.flow import Float32
from vidinv.compose.masks import smoothstep

# Mean difference of the largest and the smallest channel over mean luma and a floor, which makes
# little of the noise of dark pictures. Faces of colour clips have 0.2 to 0.6, compressed grey ones
# up to 0.02; a face between is between.
GREY, COLOURED = 0.03, 0.08
FLOOR_LEVELS = 32.0


def match_colourlessness(source: Float32, *pictures: Float32) -> tuple[Float32, ...]:
    """The pictures, grey where the source is grey; the very same where it has colour.

    Args:
        source: RGB ``[R, R, 3]`` float32, 0..255.
        pictures: the same.
    """
    share = colourlessness(source)
    if share == 0.0:
        return pictures
    return tuple(_faded(picture, share) for picture in pictures)


def colourlessness(source: Float32) -> float:
    """0..1: 1 for a black-and-white picture ``[R, R, 3]``."""
    chroma = float((source.max(axis=2) - source.min(axis=2)).mean())
    ratio = np.full(1, chroma / (float(source.mean()) + FLOOR_LEVELS), np.float32)
    return 1.0 - float(smoothstep(ratio, GREY, COLOURED)[0])


def _faded(picture: Float32, share: float) -> Float32:
    luma = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)[..., None]
    return np.asarray(luma + np.float32(1.0 - share) * (picture - luma), np.float32)
