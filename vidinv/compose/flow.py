"""Dense flow between two renderings of the same face, at the generator's own size.

DIS optical flow (Kroeger et al., "Fast Optical Flow using Dense Inverse Search", ECCV 2016) as
OpenCV implements it, plus the warp that belongs to it.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]
AnyArray = npt.NDArray[Any]

# Wider than the 1.5 px of DETAIL_TRANSFER.md step 1: between two blurred pictures of a generator
# the flow is rougher than between photographs (twenty strangers, smile=1.5: identity distance
# 0.257 at 1.5 px, 0.232 at 2.2 px, the smile measure the same).
FLOW_SIGMA_PX = 2.2
# Flow is estimated on the pictures' structure: luma without its low frequencies (sigma R/10), in
# units of its local spread, so that a drift of tone moves nothing. The floor keeps flat skin flat.
STRUCTURE_SIGMA, SPREAD_SIGMA, SPREAD_FLOOR = 1 / 10, 1 / 5, 3.0
SPREAD_LEVELS = 50.0  # one spread in levels of the 8-bit pictures that DIS takes
MIN_FLOW_PX = 128  # a DIS patch is 8 px wide: on 64 px pictures that would be half a mouth


class FlowEstimator:
    """Estimates dense flow; holds OpenCV's buffers, so use one per thread."""

    def __init__(self) -> None:
        # Medium preset with finest scale 0: the setting measured in DETAIL_TRANSFER.md.
        self._dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        self._dis.setFinestScale(0)
        # Measured on pairs from the clips at 128 px: without variational refinement 5.8 -> 3.0 ms
        # and +0.1 dB (the Gaussian smooths anyway); 8 descents instead of 16 another 10 %, +-0 dB.
        self._dis.setVariationalRefinementIterations(0)
        self._dis.setGradientDescentIterations(8)

    def estimate(self, before: Float32, after: Float32) -> Float32:
        """Flow from ``after`` back to ``before``: after(p) is about before(p + flow(p)).

        Args:
            before: RGB ``[R, R, 3]`` float32, 0..255.
            after: the same shape and range.

        Returns:
            ``[R, R, 2]`` float32 displacement (x, y) in pixels of these pictures.
        """
        size = before.shape[0]
        factor = max(1, MIN_FLOW_PX // size)
        first, second = (_structure(picture, size * factor) for picture in (before, after))
        flow = self._dis.calc(second, first, np.empty(0))
        flow = cv2.GaussianBlur(flow, (0, 0), FLOW_SIGMA_PX * factor)
        if factor > 1:
            flow = cv2.resize(flow, (size, size), interpolation=cv2.INTER_AREA) / factor
        return np.asarray(flow, np.float32)


def warp(image: Float32, flow: Float32) -> Float32:
    """Sample ``image`` ``[R, R, C]`` at p + flow(p) (bicubic; the edge pixel continues outside)."""
    return np.asarray(sample(image, flow), np.float32)


def sample(image: AnyArray, flow: Float32, *, left: int = 0, upper: int = 0) -> AnyArray:
    """``image`` at the pixel (left, upper) + p + flow(p), for every p of ``flow``; bicubic."""
    height, width = flow.shape[:2]
    grid = np.empty_like(flow)
    grid[..., 0] = np.arange(left, left + width, dtype=np.float32)
    grid[..., 1] = np.arange(upper, upper + height, dtype=np.float32)[:, None]
    positions = cv2.add(flow, grid, dst=grid)
    no_map = np.empty(0, np.float32)  # positions hold both coordinates
    return cv2.remap(image, positions, no_map, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)


def _structure(image: Float32, size: int) -> npt.NDArray[np.uint8]:
    """``[size, size]`` luma with tone and contrast evened out."""
    luma = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    luma = cv2.resize(luma, (size, size), interpolation=cv2.INTER_CUBIC)
    high = luma - cv2.GaussianBlur(luma, (0, 0), STRUCTURE_SIGMA * size)
    spread = cv2.sqrt(cv2.GaussianBlur(high * high, (0, 0), SPREAD_SIGMA * size))
    scaled = 128.0 + SPREAD_LEVELS * high / (spread + SPREAD_FLOOR)
    return np.asarray(np.clip(scaled, 0, 255), np.uint8)
