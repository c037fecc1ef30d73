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

FLOW_SIGMA_PX = 1.5  # DETAIL_TRANSFER.md step 1: smoothing at the generator's size


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
        flow = self._dis.calc(_luma(after), _luma(before), np.empty(0))
        return np.asarray(cv2.GaussianBlur(flow, (0, 0), FLOW_SIGMA_PX), np.float32)


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


def _luma(image: Float32) -> npt.NDArray[np.uint8]:
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    return np.asarray(cv2.convertScaleAbs(gray), np.uint8)
