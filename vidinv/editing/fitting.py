"""Directions found in a generator: InterFaceGAN, SeFa, GANSpace; arrays in, vectors out.

InterFaceGAN (Shen et al. 2020): the normal of a linear SVM between the latents of pictures that
have an attribute and of those that lack it, made orthogonal to the normals of others to hold these
(section 2.3, conditional manipulation). SeFa (Shen & Zhou 2021, eq. 6): the eigenvectors of A^T A
for the matrix A by which layers read their latents. GANSpace (Harkonen et al. 2020): the principal
components of w.

Vectors are of unit length; ``spread_along`` says what a step of one deviation of w along them is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Float64 = npt.NDArray[np.float64]

SVM_C = 1.0  # of InterFaceGAN's code, which takes scikit-learn's default
MAX_NEWTON_STEPS = 100
HELD_OUT_SHARE = 0.3  # as in InterFaceGAN's code


@dataclass(frozen=True)
class Separator:
    """A hyperplane between samples that have an attribute and samples that lack it.

    Attributes:
        normal: ``[D]``, unit, towards those that have it.
        accuracy: share of held-out samples on the right side.
    """

    normal: Float64
    accuracy: float


def separate(w_MD: Float64, scores_M: Float64, *, share: float, seed: int = 0) -> Separator:
    """InterFaceGAN's boundary between the samples of highest and of lowest score.

    Args:
        w_MD: latents.
        scores_M: how much of the attribute each has; NaN: unknown.
        share: of the known samples that counts as having it, and as lacking it, 0..0.5.
        seed: of the choice of those that are held out for ``accuracy``.

    Raises:
        ValueError: fewer than ten samples on a side, or a share out of range.
    """
    if not 0 < share <= 0.5:
        raise ValueError(f"share must be above 0 and 0.5 at most, got {share}")
    known = np.flatnonzero(~np.isnan(scores_M))
    count = int(len(known) * share)
    if count < 10:
        raise ValueError(f"needs 10 samples a side, has {count}: take more samples")
    order = known[np.argsort(scores_M[known], kind="stable")]
    random = np.random.default_rng(seed)
    low, high = random.permutation(order[:count]), random.permutation(order[-count:])
    held = max(1, int(count * HELD_OUT_SHARE))
    train = np.concatenate([low[held:], high[held:]])
    normal, bias = linear_svm(w_MD[train], np.repeat([-1.0, 1.0], count - held))
    test = np.concatenate([low[:held], high[:held]])
    right = (w_MD[test] @ normal + bias) * np.repeat([-1.0, 1.0], held) > 0
    return Separator(normal / np.linalg.norm(normal), float(right.mean()))


def linear_svm(x_MD: Float64, labels_M: Float64, *, c: float = SVM_C) -> tuple[Float64, float]:
    """Normal ``[D]`` and bias of the linear SVM with squared hinge loss.

    Newton's method in the primal (Chapelle 2007, section 3): the samples inside the margin are
    solved for by least squares until they no longer change.

    Args:
        labels_M: -1 or 1.
    """
    center = x_MD.mean(axis=0)
    design = np.concatenate([x_MD - center, np.ones((len(x_MD), 1))], axis=1)
    ridge = np.eye(design.shape[1]) / (2 * c)
    ridge[-1, -1] = 1e-9  # the bias is free
    solution = np.zeros(design.shape[1])
    inside = np.ones(len(x_MD), bool)
    for _ in range(MAX_NEWTON_STEPS):
        active = design[inside]
        solution = np.linalg.solve(active.T @ active + ridge, active.T @ labels_M[inside])
        now = labels_M * (design @ solution) < 1
        if np.array_equal(now, inside):
            break
        inside = now
    normal = solution[:-1]
    return normal, float(solution[-1] - center @ normal)


def orthogonal_to(normal_D: Float64, others: Sequence[Float64]) -> Float64:
    """The unit vector nearest to ``normal`` along which the others' attributes stay.

    Raises:
        ValueError: it lies in their span, so that nothing is left of it.
    """
    if not others:
        return normal_D
    basis, _ = np.linalg.qr(np.stack(others).T)
    left = normal_D - basis @ (basis.T @ normal_D)
    length = np.linalg.norm(left)
    if length < 1e-6:
        raise ValueError("nothing is left of it when the others are held")
    return np.asarray(left / length)


def closed_form(weights: Sequence[Float64], *, count: int) -> Float64:
    """SeFa: ``[count, D]`` directions that change the styles most, strongest first.

    Args:
        weights: ``[C, D]`` by which each layer makes its style of w; rows are taken at unit length,
            as in the official code.
    """
    stacked = np.concatenate(weights)
    unit = stacked / np.linalg.norm(stacked, axis=1, keepdims=True).clip(1e-12)
    _, vectors = np.linalg.eigh(unit.T @ unit)
    return signed(vectors.T[::-1][:count])


def principal(w_MD: Float64, *, count: int) -> Float64:
    """GANSpace: ``[count, D]`` principal components of w, the widest first."""
    _, _, components = np.linalg.svd(w_MD - w_MD.mean(axis=0), full_matrices=False)
    return signed(components[:count])


def signed(vectors_KD: Float64) -> Float64:
    """The largest number of each vector positive: solvers leave the sign open."""
    rows = np.arange(len(vectors_KD))
    largest = vectors_KD[rows, np.abs(vectors_KD).argmax(axis=1)]
    return np.asarray(vectors_KD * np.where(largest < 0, -1.0, 1.0)[:, None])


def spread_along(w_MD: Float64, vectors_KD: Float64) -> Float64:
    """``[K]`` standard deviation of w along unit vectors."""
    return np.asarray((w_MD @ vectors_KD.T).std(axis=0))
