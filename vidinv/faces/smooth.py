"""Steady landmarks and crops, without lag and without smearing fast moves.

Predicted landmarks are right on average but jitter; optical flow is smooth but drifts. So each
landmark is written as accumulated flow plus a remainder, and only the remainder, which is jitter
plus slow drift, is averaged over time (a bilateral filter: a true step stays a step). What moves
fast is in the flow and passes unfiltered. Crops are computed from the steady landmarks and then
averaged in the coordinates of the rigid part of the face, so the square moves exactly with the
head while its size does not pump when the mouth opens.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vidinv.faces.align import Alignment, from_complex, to_complex
from vidinv.types import FloatArray

# Corners of the eyes and the nose: what a speaking or smiling face does not move by itself.
RIGID_POINTS = (36, 39, 42, 45, *range(27, 36))
_REACH = 3  # the Gaussian is cut at this many standard deviations


@dataclass(frozen=True, slots=True)
class Smoothing:
    """How much to average; standard deviations in frames.

    Attributes:
        landmark_frames: over how long the jitter of landmarks is averaged.
        landmark_step: remainders further apart than this (fraction of the crop's side) are a move,
            not jitter.
        crop_frames: over how long the crop is averaged relative to the rigid face.
        scale_frames: over how long the size of the rigid face is averaged.
    """

    landmark_frames: float = 4.0
    landmark_step: float = 0.03
    crop_frames: float = 6.0
    scale_frames: float = 4.0


def smooth_landmarks(
    measured_T682: FloatArray,
    flow_T682: FloatArray,
    measured_T: npt.NDArray[np.bool_],
    *,
    side_px: float,
    smoothing: Smoothing,
) -> npt.NDArray[np.float32]:
    """``[T, 68, 2]`` float32 steady landmarks.

    Args:
        measured_T682: landmarks as predicted, frame pixels; ignored where not measured.
        flow_T682: displacement of each landmark since the frame before; row 0 is ignored.
        measured_T: where the prediction is to be believed.
        side_px: side of the face's crop, the unit of ``landmark_step``.
        smoothing: how much.
    """
    flow = np.asarray(flow_T682, np.float64).copy()
    flow[0] = 0
    carried = np.cumsum(flow, axis=0)
    remainder = _fill(np.asarray(measured_T682, np.float64) - carried, measured_T)
    kept = _bilateral(remainder, smoothing.landmark_frames, smoothing.landmark_step * side_px)
    return (carried + kept).astype(np.float32)


def smooth_crops(
    landmarks_T682: FloatArray, alignment: Alignment, smoothing: Smoothing
) -> npt.NDArray[np.float64]:
    """``[T, 4]`` crops of steady ``[T, 68, 2]`` landmarks."""
    crops = alignment.crops(landmarks_T682)
    center, axis = to_complex(crops[:, :2]), to_complex(crops[:, 2:])
    turn, origin = _rigid_pose(to_complex(np.asarray(landmarks_T682)[:, RIGID_POINTS]))
    size = np.exp(gaussian(np.log(np.abs(turn)), smoothing.scale_frames))
    pose = turn / np.abs(turn) * size
    center = origin + pose * gaussian((center - origin) / pose, smoothing.crop_frames)
    axis = pose * gaussian(axis / pose, smoothing.crop_frames)
    return np.hstack([from_complex(center), from_complex(axis)])


def gaussian(values: npt.NDArray, frames: float) -> npt.NDArray:
    """Average ``[T, ...]`` values over time, zero phase; the ends average what there is."""
    total = np.zeros_like(values)
    weights = np.zeros(len(values))
    for shift, weight in _taps(frames, len(values)):
        now, other = _overlap(len(values), shift)
        total[now] += weight * values[other]
        weights[now] += weight
    return total / weights.reshape(-1, *[1] * (values.ndim - 1))


def _bilateral(points: FloatArray, frames: float, step_px: float) -> FloatArray:
    """Gaussian over time whose weight falls with the distance to the present value."""
    total = np.zeros_like(points)
    weights = np.zeros((*points.shape[:-1], 1))
    for shift, weight in _taps(frames, len(points)):
        now, other = _overlap(len(points), shift)
        apart = ((points[other] - points[now]) ** 2).sum(-1, keepdims=True)
        near = weight * np.exp(-apart / (2 * step_px**2))
        total[now] += near * points[other]
        weights[now] += near
    return total / weights


def _rigid_pose(points_TP: npt.NDArray[np.complex128]) -> tuple[npt.NDArray, npt.NDArray]:
    """Per frame the similarity z -> turn * z + origin that best maps the mean shape, ``[T]``."""
    origin = points_TP.mean(1)
    shapes = points_TP - origin[:, None]
    mean_shape = shapes[len(shapes) // 2]
    for _ in range(2):  # a mean of aligned shapes; the second round settles it
        turn = (shapes * mean_shape.conj()).sum(1) / (np.abs(mean_shape) ** 2).sum()
        mean_shape = (shapes / turn[:, None]).mean(0)
    turn = (shapes * mean_shape.conj()).sum(1) / (np.abs(mean_shape) ** 2).sum()
    return turn, origin


def _fill(values: FloatArray, valid_T: npt.NDArray[np.bool_]) -> FloatArray:
    """Interpolate ``[T, 68, 2]`` over the frames that are not valid."""
    if valid_T.all() or not valid_T.any():
        return values
    flat = values.reshape(len(values), -1)
    times, known = np.arange(len(values)), np.flatnonzero(valid_T)
    columns = [np.interp(times, known, column[known]) for column in flat.T]
    return np.stack(columns, axis=1).reshape(values.shape)


def _taps(frames: float, length: int) -> list[tuple[int, float]]:
    reach = min(int(np.ceil(_REACH * frames)), length - 1)
    if frames <= 0:
        return [(0, 1.0)]
    return [(s, float(np.exp(-0.5 * (s / frames) ** 2))) for s in range(-reach, reach + 1)]


def _overlap(length: int, shift: int) -> tuple[slice, slice]:
    """Rows that have a neighbour ``shift`` frames later, and these neighbours."""
    if shift >= 0:
        return slice(0, length - shift), slice(shift, length)
    return slice(-shift, length), slice(0, length + shift)
