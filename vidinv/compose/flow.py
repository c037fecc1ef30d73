"""Dense flow between two pictures of the same face, at the generator's own size.

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

# Lengths are in sides of the tight crop (``face_px``: that side in pixels).
# Between two blurred pictures of a generator the flow is rougher than between photographs, where
# 1.5 px did (twenty strangers at 64 px, smile=1.5: identity distance 0.257 at 1.5 px, 0.232 at
# 2.2 px, the smile measure the same).
FLOW_SIGMA = 2.2 / 64
# Flow is estimated on the pictures' structure: luma without its low frequencies, in
# units of its local spread, so that a drift of tone moves nothing. The floor keeps flat skin flat.
STRUCTURE_SIGMA, SPREAD_SIGMA, SPREAD_FLOOR = 1 / 10, 1 / 5, 3.0
SPREAD_LEVELS = 50.0  # one spread in levels of the 8-bit pictures that DIS takes
# Faces are enlarged or reduced to this side or up to twice it. A DIS patch is 8 px wide: of a 64 px
# face that would be half a mouth; and of a large one the smoothing leaves no more than this shows.
MIN_FACE_PX = 128


class FlowEstimator:
    """Estimates the flow of an edit; holds OpenCV's buffers, so use one per thread."""

    def __init__(self) -> None:
        # Medium preset with finest scale 0: docs/REFERENCES.md, "Detail transfer".
        self._dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        self._dis.setFinestScale(0)
        # Measured on pairs from the clips at 128 px: without variational refinement 5.8 -> 3.0 ms
        # and +0.1 dB (the Gaussian smooths anyway); 8 descents instead of 16 another 10 %, +-0 dB.
        self._dis.setVariationalRefinementIterations(0)
        self._dis.setGradientDescentIterations(8)

    def estimate(self, before: Float32, after: Float32, *, face_px: float) -> Float32:
        """Flow from ``after`` back to ``before``: after(p) is about before(p + flow(p)).

        Args:
            before: RGB ``[R, R, 3]`` float32, 0..255.
            after: the same shape and range.
            face_px: side of the tight crop in pixels of these pictures.

        Returns:
            ``[R, R, 2]`` float32 displacement (x, y) in pixels of these pictures.
        """
        size = before.shape[0]
        working_size = _working_size(size, face_px)
        factor = working_size / size
        first, second = (
            _structure(picture, working_size, face_px * factor) for picture in (before, after)
        )
        flow = self._dis.calc(second, first, np.empty(0))
        flow = cv2.GaussianBlur(flow, (0, 0), FLOW_SIGMA * face_px * factor)
        if factor != 1:
            how = cv2.INTER_AREA if factor > 1 else cv2.INTER_LINEAR
            flow = cv2.resize(flow, (size, size), interpolation=how) / factor
        return np.asarray(flow, np.float32)


class MotionEstimator:
    """Estimates how a face moves between frames; one per thread, as ``FlowEstimator``.

    Between sources of neighbouring frames a coarser flow does than between two pictures of a
    generator (docs/LOG.md).
    """

    def __init__(self) -> None:
        self._dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
        self._dis.setFinestScale(1)
        self._dis.setVariationalRefinementIterations(0)

    def estimate(self, now: Float32, other: Float32, *, face_px: float) -> Float32:
        """Where each pixel of ``now`` is in another frame's source: other(p + flow(p)).

        Args:
            now, other: luma ``[R, R]`` float32, 0..255.
            face_px: side of the tight crop in pixels of these pictures.

        Returns:
            ``[R, R, 2]`` float32 displacement (x, y) in pixels of these pictures.
        """
        size = now.shape[0]
        side = _working_size(size, face_px)
        how = cv2.INTER_AREA if side < size else cv2.INTER_LINEAR
        first, second = (
            np.clip(cv2.resize(luma, (side, side), interpolation=how), 0, 255).astype(np.uint8)
            for luma in (now, other)
        )
        flow = self._dis.calc(first, second, np.empty(0))
        if side != size:
            flow = cv2.resize(flow, (size, size), interpolation=cv2.INTER_LINEAR) * (size / side)
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


def _working_size(size: int, face_px: float) -> int:
    """Side of pictures of ``size`` px at which their flow is estimated."""
    if face_px < MIN_FACE_PX:
        return size * int(MIN_FACE_PX // face_px)
    return round(size / (face_px // MIN_FACE_PX))


def _structure(image: Float32, size: int, face_px: float) -> npt.NDArray[np.uint8]:
    """``[size, size]`` luma with tone and contrast evened out; ``face_px`` at that size."""
    luma = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    how = cv2.INTER_AREA if size < len(luma) else cv2.INTER_CUBIC
    luma = cv2.resize(luma, (size, size), interpolation=how)
    high = luma - cv2.GaussianBlur(luma, (0, 0), STRUCTURE_SIGMA * face_px)
    spread = cv2.sqrt(cv2.GaussianBlur(high * high, (0, 0), SPREAD_SIGMA * face_px))
    scaled = 128.0 + SPREAD_LEVELS * high / (spread + SPREAD_FLOOR)
    return np.asarray(np.clip(scaled, 0, 255), np.uint8)
