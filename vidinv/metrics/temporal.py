"""Flicker: how much a face changes from frame to frame beyond its motion.

A variant of the warping error of Lai et al., "Learning Blind Video Temporal Consistency" (ECCV
2018), with absolute differences and a face mask instead of squares and an occlusion mask: each
frame is compared with the one before it, warped along the optical flow of the *source*, so
that motion does not count and an edited clip is measured along true motion.
"""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np
import numpy.typing as npt

Picture = npt.NDArray[np.uint8]
Float32 = npt.NDArray[np.float32]
Positions = tuple[Float32, Float32]


def flicker(
    frames: Iterable[Picture],
    *,
    source: Iterable[Picture],
    masks: Iterable[npt.NDArray[np.generic]],
) -> float:
    """Mean absolute flow-warped difference of neighbouring frames inside a mask, in levels.

    Streams: two frames are held at a time.

    Args:
        frames: RGB ``[H, W, 3]`` uint8 pictures in order, at least two.
        source: the pictures to take the motion from, the same number (for a source clip's own
            flicker, the same pictures).
        masks: ``[H, W]`` for each frame, non-zero inside.

    Returns:
        Levels of 0..255; 0 for a still clip, and the noise level for a perfect one.

    Raises:
        ValueError: fewer than two frames, sequences of different length, or masks all empty.
    """
    differ = NeighbourDifference()
    total, pixels, count = 0.0, 0, 0
    for frame, origin, mask in zip(frames, source, masks, strict=True):
        difference = differ(origin, frame)
        if difference is not None:
            inside = mask != 0
            total += float(difference[0][inside].sum())
            pixels += int(inside.sum())
        count += 1
    if count < 2:
        raise ValueError(f"flicker compares neighbouring frames: needs two, got {count}")
    if not pixels:
        raise ValueError("every mask is empty: there is nothing to compare")
    return total / pixels


class NeighbourDifference:
    """Differences of each frame to the one before it, motion taken out; one motion, several clips.

    Call it once a frame, in order. It keeps one frame of each clip.
    """

    def __init__(self) -> None:
        self._estimator = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        self._before: tuple[Picture, tuple[Picture, ...]] | None = None

    def __call__(self, source: Picture, *frames: Picture) -> list[Float32] | None:
        """Mean absolute difference of the channels for each of ``frames``; None at the first call.

        Args:
            source: RGB ``[H, W, 3]`` uint8, the picture to take the motion from.
            frames: pictures of the same size to compare with their predecessors.

        Returns:
            ``[H, W]`` levels of 0..255 for each of ``frames``.
        """
        before, self._before = self._before, (source, frames)
        if before is None:
            return None
        positions = self._positions(before[0], source)
        pairs = zip(before[1], frames, strict=True)
        return [_difference(frame, moved_from, positions) for moved_from, frame in pairs]

    def _positions(self, before: Picture, now: Picture) -> Positions:
        """x and y ``[H, W]`` of where each pixel of ``now`` was in ``before``."""
        grays = [cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for picture in (now, before)]
        flow = self._estimator.calc(grays[0], grays[1], np.empty(0))
        height, width = flow.shape[:2]
        across = flow[..., 0] + np.arange(width, dtype=np.float32)[None, :]
        down = flow[..., 1] + np.arange(height, dtype=np.float32)[:, None]
        return np.asarray(across, np.float32), np.asarray(down, np.float32)


def _difference(frame: Picture, before: Picture, positions: Positions) -> Float32:
    moved = cv2.remap(before, *positions, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(cv2.absdiff(frame, moved).mean(2), np.float32)
