"""Directions in W found on our own latents, InterFaceGAN style, and calibrated on pictures.

For every attribute: a linear model of the joint change, w = mean + targets . B + conditions . C,
fitted where all labels are known. Row k of B is the change of w per standard deviation of attribute
k *with everything else held fixed*: the conditional manipulation of InterFaceGAN (Shen et al. 2020,
section 2.3), without its orthogonalisation after the fact. What a photograph's light and colour do
to w are conditions as well: people smile more in bright warm pictures, and without them a smile
reddened noses and darkened eyes (docs/LOG.md). The normal of a separator, which InterFaceGAN moves
along, hardly changes a picture here (gain 0.06 at five times the length).

    python -m training directions ...   (see training.build_pack)
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from training.data import ATTRIBUTES, BACKGROUND, FACE, FaceArrays
from training.loop import make_batch
from vidinv.inversion.fse_encoder import FeatureStyleEncoder
from vidinv.metrics.appearance import APPEARANCE, SPREAD, measure_appearance

FACE_WEIGHT = (BACKGROUND + FACE) / 2  # of data.weights: above it a pixel lies in the face


@torch.inference_mode()
def encode_all(encoder: FeatureStyleEncoder, data: FaceArrays, indices: np.ndarray) -> np.ndarray:
    """w of faces by index (in W+ the mean of the rows), ``[M, D]`` float64."""
    rows = []
    for start in range(0, len(indices), 32):
        batch = make_batch(data, indices[start : start + 32])
        rows.append(encoder(batch.images)[0].mean(dim=1).double().numpy())
    return np.concatenate(rows)


def conditional_directions(
    w_MD: np.ndarray, targets_MA: np.ndarray, conditions_MC: np.ndarray
) -> np.ndarray:
    """``[A, D]`` change of w per unit of each attribute, all else held fixed (least squares).

    Unknown targets (NaN) are first completed by their regression on w, so that no face is lost.
    """
    completed = complete_targets(w_MD, targets_MA)
    constant = np.ones((len(completed), 1))
    design = np.concatenate([completed, conditions_MC, constant], axis=1)
    solution, *_ = np.linalg.lstsq(design, w_MD, rcond=None)
    return solution[: targets_MA.shape[1]]


def attribute_directions(w_MD: np.ndarray, data: FaceArrays, indices: np.ndarray) -> np.ndarray:
    """``[A, D]`` directions of all attributes from the latents of faces ``indices``."""
    light = photographic_conditions(data, indices)
    return conditional_directions(w_MD, data.targets_MA[indices], light)


def named_directions(
    w_MD: np.ndarray, data: FaceArrays, indices: np.ndarray
) -> dict[str, np.ndarray]:
    """``[D]`` directions of all attributes and of ``APPEARANCE``, by name."""
    found = [
        attribute_directions(w_MD, data, indices),
        appearance_directions(w_MD, data, indices),
    ]
    return dict(zip((*ATTRIBUTES, *APPEARANCE), np.concatenate(found), strict=True))


def appearance_directions(w_MD: np.ndarray, data: FaceArrays, indices: np.ndarray) -> np.ndarray:
    """``[5, D]`` directions of ``APPEARANCE``, labels, light and contrast held fixed."""
    images = (np.asarray(data.images_M3RR[i]).transpose(1, 2, 0) for i in indices)
    measured, contrast = measure_appearance(images, data.landmarks_M[indices])
    targets = np.clip(_standardised(measured), -SPREAD, SPREAD)
    conditions = [photographic_conditions(data, indices), _standardised(contrast)]
    both = np.concatenate([targets, data.targets_MA[indices]], axis=1)
    found = conditional_directions(w_MD, both, np.concatenate(conditions, axis=1))
    return found[: len(APPEARANCE)]


def photographic_conditions(data: FaceArrays, indices: np.ndarray) -> np.ndarray:
    """``[M, 8]`` standardised: colour of face and background, side and height of the light."""
    parts = np.array_split(indices, max(1, len(indices) // 512))
    rows = np.concatenate([_conditions(data, part) for part in parts])
    return _standardised(rows)


def _standardised(columns_MC: np.ndarray) -> np.ndarray:
    return np.asarray((columns_MC - columns_MC.mean(axis=0)) / columns_MC.std(axis=0))


def _conditions(data: FaceArrays, indices: np.ndarray) -> np.ndarray:
    full = torch.from_numpy(np.asarray(data.images_M3RR[indices])).float()
    inside = torch.from_numpy(np.asarray(data.weights_M[indices]) > FACE_WEIGHT).float()[:, None]
    side = inside.shape[-1]
    small = F.adaptive_avg_pool2d(full, side)
    face, around = _masked_mean(small, inside), _masked_mean(small, 1 - inside)
    gray = small.mean(dim=1, keepdim=True)
    centred = gray - _masked_mean(gray, inside)[..., None, None]
    ramp = torch.linspace(-1, 1, side)
    sides = _masked_mean(centred * ramp, inside)
    heights = _masked_mean(centred * ramp[:, None], inside)
    return torch.cat([face, around, sides, heights], dim=1).double().numpy()


def _masked_mean(image_NCHW: Tensor, mask_N1HW: Tensor) -> Tensor:
    """``[N, C]``."""
    return (image_NCHW * mask_N1HW).sum(dim=(2, 3)) / mask_N1HW.sum(dim=(2, 3)).clamp(min=1)


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
