"""Losses over images in [-1, 1]: batch means, none needing a network trained elsewhere."""

from __future__ import annotations

import torch
from torch import Tensor

from vidinv.metrics.structure import pixel_structure_distance


def pixel_structure_loss(x: Tensor, y: Tensor, weight_N1HW: Tensor | None = None) -> Tensor:
    """``vidinv.metrics.structure.pixel_structure_distance``, averaged over the batch."""
    return pixel_structure_distance(x, y, weight_N1HW).mean()


def gaussian_kl(mean_ND: Tensor, log_sigma_D: Tensor) -> Tensor:
    """KL(N(mean, sigma^2) || N(0, 1)) summed over dimensions, in nats, averaged over the batch."""
    variance = (2 * log_sigma_D).exp()
    return 0.5 * (mean_ND.square() + variance - 2 * log_sigma_D - 1).sum(dim=1).mean()


def masked_mse(prediction_NA: Tensor, target_NA: Tensor) -> Tensor:
    """Mean square over the targets that are known (not NaN)."""
    known = ~torch.isnan(target_NA)
    difference = (prediction_NA - torch.nan_to_num(target_NA)) * known
    return difference.square().sum() / known.sum().clamp(min=1)


def feature_matching(fake: list[Tensor], real: list[Tensor]) -> Tensor:
    """Mean L1 between discriminator features (Wang et al. 2018, eq. 2), levels averaged."""
    pairs = zip(fake, real, strict=True)
    return torch.stack([(f - r.detach()).abs().mean() for f, r in pairs]).mean()


def psnr(x: Tensor, y: Tensor) -> Tensor:
    """``[N]`` peak signal-to-noise ratio in dB of images in [-1, 1], clamped to the range."""
    mse = (x.clamp(-1, 1) - y.clamp(-1, 1)).square().mean(dim=(1, 2, 3))
    return 10 * torch.log10(4.0 / mse)
