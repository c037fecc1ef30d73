"""FID and KID on features of EfficientNet-lite0: how far pictures are from photographs as a crowd.

The published measures read InceptionV3, which is not to be had offline: these figures carry their
network's name and compare with each other alone, and only for the same number of pictures. Features
are the mean over the last level (320 numbers).
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from vidinv.metrics.efficientnet import feature_network

BLOCK_ROWS = 1024


@torch.inference_mode()
def crowd_features(batches_N3RR: Iterable[Tensor]) -> Tensor:
    """``[N, 320]`` float64 of pictures in [-1, 1], clamped to the range, R a multiple of 32."""
    network = feature_network()
    rows = [network(batch.clamp(-1, 1))[-1].mean(dim=(2, 3)) for batch in batches_N3RR]
    return torch.cat(rows).double()


def frechet_distance(first_NC: Tensor, second_MC: Tensor) -> float:
    """FID (Heusel et al. 2017, eq. 6) of two sets of features; biased up for few rows."""
    shift = first_NC.mean(dim=0) - second_MC.mean(dim=0)
    first, second = torch.cov(first_NC.T), torch.cov(second_MC.T)
    values, axes = torch.linalg.eigh(first)
    root = axes * values.clamp(min=0).sqrt() @ axes.T
    # tr((AB)^1/2) by the symmetric A^1/2 B A^1/2, which has the same eigenvalues.
    common = torch.linalg.eigvalsh(root @ second @ root).clamp(min=0).sqrt().sum()
    return float(shift.square().sum() + first.trace() + second.trace() - 2 * common)


def kernel_distance(first_NC: Tensor, second_MC: Tensor) -> float:
    """KID: unbiased squared MMD under (x.y / C + 1)^3 (Binkowski et al. 2018, section 4)."""
    across = _kernel_sum(first_NC, second_MC) / (len(first_NC) * len(second_MC))
    return _within(first_NC) + _within(second_MC) - 2 * across


def _within(x_NC: Tensor) -> float:
    """Mean of the kernel over pairs of different rows."""
    own = float(_kernel(x_NC.square().sum(dim=1), x_NC.shape[1]).sum())
    return (_kernel_sum(x_NC, x_NC) - own) / (len(x_NC) * (len(x_NC) - 1))


def _kernel_sum(x_NC: Tensor, y_MC: Tensor) -> float:
    """Over all pairs of rows, in blocks: a matrix of all pairs would be gigabytes."""
    blocks = (_kernel(block @ y_MC.T, x_NC.shape[1]).sum() for block in x_NC.split(BLOCK_ROWS))
    return float(sum(blocks))


def _kernel(products: Tensor, channels: int) -> Tensor:
    return (products / channels + 1) ** 3
