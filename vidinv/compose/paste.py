"""Lay a ``Change`` of the aligned crop on the full frame, touching only the pixels that change."""

from __future__ import annotations

from typing import cast

import cv2
import numpy as np
import numpy.typing as npt

from vidinv.compose.change import Change
from vidinv.compose.flow import Float32, sample
from vidinv.geometry import transform_points
from vidinv.types import Crop, Image

Matrix = npt.NDArray[np.float64]
Box = tuple[int, int, int, int]

CUBIC_SUPPORT_PX = 3  # bicubic reads 2 px around a sample; one more for rounding
REACH_PX = 3  # crop pixels that enlarging may spread a field (bicubic 2, then bilinear 1)
# warpAffine upsamples 3 float channels to 480x440 in 4.6 ms bicubic and 1.7 ms bilinear; enlarging
# to about the final size with resize (0.5 ms bicubic) and then bilinear looks the same.
MAX_PRE_ENLARGE = 4


def apply_change(image: Image, *, crop: Crop, change: Change) -> Image:
    """The frame with one face changed.

    Args:
        image: RGB ``[H, W, 3]`` uint8 or uint16; not modified.
        crop: where the fields of ``change`` lie in the frame.
        change: fields at any size R.

    Returns:
        A new picture of the same type, or ``image`` itself where nothing changes.
    """
    if image.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"frames are uint8 or uint16, got {image.dtype}")
    box = _changed_box(change, crop, image.shape)
    if box is None:
        return image
    flow, mix = _frame_fields(change, crop, np.iinfo(image.dtype).max)
    to_frame = crop.crop_to_frame(flow.shape[0])
    x0, y0, x1, y1 = box
    to_frame[:, 2] -= (x0, y0)
    size = (x1 - x0, y1 - y0)
    mixed = _mix(_sample(image, box, _lay(flow, to_frame, size)), _lay(mix, to_frame, size))
    output = image.copy()
    output[y0:y1, x0:x1] = mixed
    return output


def _frame_fields(change: Change, crop: Crop, top: int) -> tuple[Float32, Float32]:
    """Flow in frame pixels ``[S, S, 2]``, and add (in levels of the frame) with loss ``[S, S, 4]``.

    S suits the face's size in the frame: smaller than R by area reduction, so that nothing
    aliases, or a small multiple of R.
    """
    size = change.loss_RR.shape[0]
    linear = crop.crop_to_frame(size)[:, :2].astype(np.float32)
    flow = change.flow_RR2 @ linear.T
    mix = np.dstack([change.add_RR3 * np.float32(top / 255.0), change.loss_RR])
    if crop.side_px < size:
        side = max(2, round(crop.side_px))
        return _resize(flow, side, cv2.INTER_AREA), _resize(mix, side, cv2.INTER_AREA)
    side = size * int(np.clip(round(crop.side_px / size), 1, MAX_PRE_ENLARGE))
    return _resize(flow, side, cv2.INTER_CUBIC), _resize(mix, side, cv2.INTER_CUBIC)


def _resize(field: Float32, side: int, interpolation: int) -> Float32:
    if field.shape[0] == side:
        return field
    return np.asarray(cv2.resize(field, (side, side), interpolation=interpolation), np.float32)


def _changed_box(change: Change, crop: Crop, shape: tuple[int, ...]) -> Box | None:
    """Frame pixels (x0, y0, x1, y1; ends exclusive) that the non-zero fields can reach."""
    changed = change.flow_RR2.any(2) | change.add_RR3.any(2) | (change.loss_RR != 0)
    columns, rows = np.flatnonzero(changed.any(0)), np.flatnonzero(changed.any(1))
    if not len(columns):
        return None
    left, right = columns[0] - REACH_PX, columns[-1] + REACH_PX
    upper, lower = rows[0] - REACH_PX, rows[-1] + REACH_PX
    corners = np.array([[left, upper], [right, upper], [left, lower], [right, lower]])
    x, y = transform_points(corners, crop.crop_to_frame(change.loss_RR.shape[0])).T
    x0, x1 = max(0, int(np.floor(x.min()))), min(shape[1], int(np.ceil(x.max())) + 1)
    y0, y1 = max(0, int(np.floor(y.min()))), min(shape[0], int(np.ceil(y.max())) + 1)
    return (x0, y0, x1, y1) if x0 < x1 and y0 < y1 else None


def _lay(field: Float32, to_frame: Matrix, size: tuple[int, int]) -> Float32:
    """A field of the crop on the pixels of the box; 0 outside the crop."""
    laid = cv2.warpAffine(
        field, to_frame, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT
    )
    return np.asarray(laid, np.float32)


def _sample(image: Image, box: Box, flow: Float32) -> Image:
    """The frame at each pixel of the box plus its displacement."""
    x0, y0, x1, y1 = box
    reach = int(np.ceil(min(cv2.norm(flow, cv2.NORM_INF), max(image.shape))))
    if not reach:
        return image[y0:y1, x0:x1]
    # Beyond the frame its edge continues; beyond the reach of the flow nothing is read.
    reach += CUBIC_SUPPORT_PX
    left, upper = max(0, x0 - reach), max(0, y0 - reach)
    around = image[upper : y1 + reach, left : x1 + reach]
    return sample(around, flow, left=x0 - left, upper=y0 - upper)


def _mix(sampled: Image, mix: Float32) -> Image:
    """(1 - loss) * sampled + add, rounded into the type of the frame."""
    keep = 1.0 - cv2.extractChannel(mix, 3)
    kept = cv2.multiply(sampled, cv2.merge([keep, keep, keep]), dtype=cv2.CV_32F)
    add = cv2.cvtColor(mix, cv2.COLOR_RGBA2RGB)
    depth = cv2.CV_8U if sampled.dtype == np.uint8 else cv2.CV_16U
    mixed = cv2.add(kept, add, dtype=depth)  # OpenCV rounds and saturates
    return cast("Image", mixed)
