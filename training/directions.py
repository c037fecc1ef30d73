"""Directions in W found on our own latents, InterFaceGAN style, and calibrated on pictures.

For every attribute: a ridge-regularised linear model of the joint change, w = mean + targets . B,
fitted where all labels are known. Row k of B is the change of w per standard deviation of attribute
k *with the other attributes held fixed*: the conditional manipulation of InterFaceGAN (Shen et al.
2020, section 2.3), without its orthogonalisation after the fact. The separator's normal, which
InterFaceGAN moves along, is fitted as well (``separator_normals``) and the better of the two by
measured gain and leakage goes into the pack (docs/LOG.md).

    python -m training directions ...   (see training.pack)
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from training.data import ATTRIBUTES, FaceArrays
from training.loop import make_batch
from vidinv.models.feature_style import FeatureStyleEncoder


@torch.inference_mode()
def encode_all(encoder: FeatureStyleEncoder, data: FaceArrays, indices: np.ndarray) -> np.ndarray:
    """w of the first layer for faces by index, ``[M, D]`` float64."""
    rows = []
    for start in range(0, len(indices), 32):
        batch = make_batch(data, indices[start : start + 32])
        rows.append(encoder(batch.images)[0][:, 0].double().numpy())
    return np.concatenate(rows)


def conditional_directions(w_MD: np.ndarray, targets_MA: np.ndarray) -> np.ndarray:
    """``[A, D]`` change of w per unit of each attribute, the others held fixed (least squares).

    Unknown targets (NaN) are first completed by their regression on w, so that no face is lost.
    """
    completed = complete_targets(w_MD, targets_MA)
    design = np.concatenate([completed, np.ones((len(completed), 1))], axis=1)
    solution, *_ = np.linalg.lstsq(design, w_MD, rcond=None)
    return solution[: targets_MA.shape[1]]


def separator_normals(
    w_MD: np.ndarray, targets_MA: np.ndarray, *, ridge: float = 1.0
) -> np.ndarray:
    """``[A, D]`` normals of linear separators at the median, each conditioned on the others.

    A normal is projected to be orthogonal to all other normals (InterFaceGAN eq. 7, extended to
    several conditions), then scaled so that one unit moves its own prediction by one.
    """
    normals = ridge_weights(w_MD, targets_MA, ridge=ridge)
    conditioned = np.empty_like(normals)
    for index in range(len(normals)):
        others = np.delete(normals, index, axis=0)
        basis, _ = np.linalg.qr(others.T)
        projected = normals[index] - basis @ (basis.T @ normals[index])
        conditioned[index] = projected / (projected @ normals[index])
    return conditioned


def ridge_weights(w_MD: np.ndarray, targets_MA: np.ndarray, *, ridge: float = 1.0) -> np.ndarray:
    """``[A, D]`` ridge regression of each attribute on centred w, over its known rows."""
    centred = w_MD - w_MD.mean(axis=0)
    weights = []
    for column in targets_MA.T:
        known = ~np.isnan(column)
        x, y = centred[known], column[known] - column[known].mean()
        weights.append(np.linalg.solve(x.T @ x + ridge * np.eye(x.shape[1]), x.T @ y))
    return np.stack(weights)


def complete_targets(w_MD: np.ndarray, targets_MA: np.ndarray) -> np.ndarray:
    """Targets with unknown entries replaced by their ridge prediction from w."""
    predicted = (w_MD - w_MD.mean(axis=0)) @ ridge_weights(w_MD, targets_MA).T
    return np.where(np.isnan(targets_MA), predicted, targets_MA)


def as_tensors(directions_AD: np.ndarray) -> dict[str, Tensor]:
    """Name -> direction ``[D]`` float32."""
    return {
        name: torch.from_numpy(row.astype(np.float32))
        for name, row in zip(ATTRIBUTES, directions_AD, strict=True)
    }
