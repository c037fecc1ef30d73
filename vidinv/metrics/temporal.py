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
    estimator = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    total, pixels, count = 0.0, 0, 0
    before: tuple[Picture, Picture] | None = None
    for frame, origin, mask in zip(frames, source, masks, strict=True):
        if before is not None:
            difference = _warped_difference(estimator, before, (frame, origin))
            inside = mask != 0
            total += float(difference[inside].sum())
            pixels += int(inside.sum())
        before, count = (frame, origin), count + 1
    if count < 2:
        raise ValueError(f"flicker compares neighbouring frames: needs two, got {count}")
    if not pixels:
        raise ValueError("every mask is empty: there is nothing to compare")
    return total / pixels


def _warped_difference(
    estimator: cv2.DISOpticalFlow,
    before: tuple[Picture, Picture],
    now: tuple[Picture, Picture],
) -> npt.NDArray[np.float32]:
    """``[H, W]`` mean absolute difference of the channels after motion is taken out."""
    grays = [cv2.cvtColor(origin, cv2.COLOR_RGB2GRAY) for origin in (now[1], before[1])]
    flow = estimator.calc(grays[0], grays[1], np.empty(0))
    height, width = flow.shape[:2]
    map_x = flow[..., 0] + np.arange(width, dtype=np.float32)[None, :]
    map_y = flow[..., 1] + np.arange(height, dtype=np.float32)[:, None]
    moved = cv2.remap(before[0], map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(cv2.absdiff(now[0], moved).mean(2), np.float32)
