"""Distances for gradients: L1 and a cheap SSIM over scales, of images in [-1, 1].

They need no network, and serve as losses. Figures for people are in ``vidinv.metrics.image``.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

# SSIM constants (Wang et al. 2004) for a range of 2.
SSIM_C1, SSIM_C2 = (0.01 * 2) ** 2, (0.03 * 2) ** 2
# Box windows at every second pixel: a tenth of the cost of dense Gaussian ones; for losses only.
SSIM_WINDOW, SSIM_STRIDE = 7, 2


def ssim_map(x: Tensor, y: Tensor) -> Tensor:
    """Structural similarity in -1..1 over 7x7 boxes, ``[N, 3, h, w]`` with half the density.

    A loss, not the published measure (``vidinv.metrics.ssim_batch``): signed values make it mind
    small shifts of tone near mid-grey, and its figures are lower.
    """

    window = min(SSIM_WINDOW, x.shape[-1])

    def mean(z: Tensor) -> Tensor:
        return F.avg_pool2d(z, window, stride=SSIM_STRIDE)

    mean_x, mean_y = mean(x), mean(y)
    var_x = mean(x * x) - mean_x * mean_x
    var_y = mean(y * y) - mean_y * mean_y
    covariance = mean(x * y) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + SSIM_C1) / (mean_x**2 + mean_y**2 + SSIM_C1)
    return luminance * (2 * covariance + SSIM_C2) / (var_x + var_y + SSIM_C2)


def pixel_structure_distance(
    x: Tensor,
    y: Tensor,
    weight_N1HW: Tensor | None = None,
    *,
    scales: int = 3,
    structure: float = 0.5,
) -> Tensor:
    """``[N]``: weighted L1 plus ``structure`` x (1 - SSIM), averaged over ``scales`` halvings."""
    total = x.new_zeros(len(x))
    for scale in range(scales):
        if scale:
            x, y = F.avg_pool2d(x, 2), F.avg_pool2d(y, 2)
        difference = (x - y).abs()
        if weight_N1HW is not None:
            difference = difference * F.adaptive_avg_pool2d(weight_N1HW, x.shape[-1])
        axes = (1, 2, 3)
        total = total + difference.mean(axes) + structure * (1 - ssim_map(x, y)).mean(axes)
    return total / scales
