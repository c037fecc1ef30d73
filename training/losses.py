"""Losses and measures that need no network; those that judge pictures are in training.terms."""

from __future__ import annotations

import torch
from torch import Tensor


def gaussian_kl(mean_ND: Tensor, log_sigma_D: Tensor) -> Tensor:
    """KL(N(mean, sigma^2) || N(0, 1)) summed over dimensions, in nats, averaged over the batch."""
    variance = (2 * log_sigma_D).exp()
    return 0.5 * (mean_ND.square() + variance - 2 * log_sigma_D - 1).sum(dim=1).mean()


def masked_mse(prediction_NA: Tensor, target_NA: Tensor) -> Tensor:
    """Mean square over the targets that are known (not NaN)."""
    known = ~torch.isnan(target_NA)
    difference = (prediction_NA - torch.nan_to_num(target_NA)) * known
    return difference.square().sum() / known.sum().clamp(min=1)


def psnr(x: Tensor, y: Tensor) -> Tensor:
    """``[N]`` peak signal-to-noise ratio in dB of images in [-1, 1], clamped to the range."""
    mse = (x.clamp(-1, 1) - y.clamp(-1, 1)).square().mean(dim=(1, 2, 3))
    return 10 * torch.log10(4.0 / mse)


def sharpness(x: Tensor, y: Tensor) -> float:
    """Gradient energy, mean |dx|, of pictures ``x`` relative to that of ``y``."""
    energy_x, energy_y = (z.diff(dim=-1).abs().mean() for z in (x, y))
    return float(energy_x / energy_y)
