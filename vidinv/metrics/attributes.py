"""Attributes measured on pictures: geometry of 68 landmarks, and a smile score calibrated on it.

All measures are invariant to position, size and roll: landmarks are first brought to the frame of
the eyes and mouth (the axes of the crop formula).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Float64 = npt.NDArray[np.float64]
LIPS = [(61, 67), (62, 66), (63, 65)]
LIDS = [(37, 41), (38, 40), (43, 47), (44, 46)]
# Points that a smile moves: eyes and mouth (brows and jaw follow head pose more than expression).
SMILE_POINTS = [*range(36, 68)]


def normalised_landmarks(landmarks_M682: npt.NDArray[np.floating]) -> Float64:
    """``[M, 68, 2]`` with the eye mid-point at the origin, eyes level, eye distance 1."""
    points = np.asarray(landmarks_M682, np.float64)
    as_complex = points[..., 0] + 1j * points[..., 1]
    left, right = as_complex[:, 36:42].mean(1), as_complex[:, 42:48].mean(1)
    turned = (as_complex - ((left + right) / 2)[:, None]) / (right - left)[:, None]
    return np.stack([turned.real, turned.imag], axis=-1)


def geometry(landmarks_M682: npt.NDArray[np.floating]) -> dict[str, Float64]:
    """Per face: mouth_open and eyes_open (gaps), yaw (nose to the right), pitch (nose up).

    In units of the eye distance; pitch in units of the eyes' height over the mouth.
    """
    points = normalised_landmarks(landmarks_M682)
    mouth_y = (points[:, 48, 1] + points[:, 54, 1]) / 2
    return {
        "mouth_open": _mean_gap(points, LIPS),
        "eyes_open": _mean_gap(points, LIDS),
        "pitch": -points[:, 30, 1] / mouth_y,
        "yaw": points[:, 30, 0],
    }


def _mean_gap(points: Float64, pairs: list[tuple[int, int]]) -> Float64:
    upper, lower = (list(side) for side in zip(*pairs, strict=True))
    return (points[:, lower, 1] - points[:, upper, 1]).mean(1)


@dataclass(frozen=True, eq=False)
class SmileMeasure:
    """Linear smile score of landmarks, in units of the scores that it was fitted to.

    Those of a pack are standardised: 0 is the mean of the training faces, 1 a standard deviation
    more of smile. ``weights`` ``[64]``: x and y of ``SMILE_POINTS``.
    """

    weights: Float64
    bias: float

    @classmethod
    def fit(
        cls, landmarks_M682: npt.NDArray[np.floating], scores_M: npt.NDArray[np.floating]
    ) -> SmileMeasure:
        """Ridge regression of the scores on eye and mouth points."""
        x = cls._features(landmarks_M682)
        mean, spread = x.mean(0), x.std(0)
        z = (x - mean) / spread
        target = scores_M - scores_M.mean()
        solution = np.linalg.solve(z.T @ z + 10.0 * np.eye(z.shape[1]), z.T @ target)
        weights = solution / spread
        return cls(weights, float(scores_M.mean() - mean @ weights))

    def __call__(self, landmarks_M682: npt.NDArray[np.floating]) -> Float64:
        """``[M]`` scores."""
        return self._features(landmarks_M682) @ self.weights + self.bias

    @staticmethod
    def _features(landmarks_M682: npt.NDArray[np.floating]) -> Float64:
        return normalised_landmarks(landmarks_M682)[:, SMILE_POINTS].reshape(
            len(landmarks_M682), -1
        )
