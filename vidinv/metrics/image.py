"""Picture quality against a reference: PSNR, PSNR inside a mask, SSIM.

Two forms: arrays ``[H, W, 3]`` in 0..255 (``psnr``, ``masked_psnr``) and batches of tensors
``[N, 3, H, W]`` in [-1, 1] (``psnr_batch``, ``ssim_batch``).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

# Wang, Bovik, Sheikh, Simoncelli, "Image quality assessment" (TIP 2004), section III-C.
SSIM_WINDOW = 11
SSIM_SIGMA = 1.5
SSIM_K1, SSIM_K2 = 0.01, 0.03

RealArray = npt.NDArray[np.floating] | npt.NDArray[np.integer]


def psnr(image: RealArray, reference: RealArray, *, peak: float = 255.0) -> float:
    """Peak signal-to-noise ratio in dB; infinity for equal pictures.

    Args:
        image, reference: the same shape, values 0..``peak``.
        peak: largest value (65535 for uint16 pictures).
    """
    _check_shapes(image.shape, reference.shape)
    difference = image.astype(np.float64) - reference.astype(np.float64)
    return _decibel(float(np.mean(difference**2)), peak)


def masked_psnr(
    image: RealArray, reference: RealArray, mask: npt.NDArray[np.generic], *, peak: float = 255.0
) -> float:
    """PSNR over the pixels where the mask is non-zero.

    Args:
        image, reference: ``[H, W, 3]``, values 0..``peak``.
        mask: ``[H, W]``, non-zero inside.

    Raises:
        ValueError: shapes that differ, or an empty mask.
    """
    _check_shapes(image.shape, reference.shape)
    inside = mask != 0
    if inside.shape != image.shape[:2]:
        raise ValueError(f"mask is {inside.shape}, expected {image.shape[:2]}")
    if not inside.any():
        raise ValueError("mask is empty: there is nothing to compare")
    return psnr(image[inside], reference[inside], peak=peak)


def psnr_batch(images_N3HW: torch.Tensor, references_N3HW: torch.Tensor) -> torch.Tensor:
    """``[N]`` PSNR in dB of tensors in [-1, 1] (peak-to-peak 2)."""
    _check_shapes(images_N3HW.shape, references_N3HW.shape)
    error_N = (images_N3HW.float() - references_N3HW.float()).square().mean((1, 2, 3))
    return 10.0 * torch.log10(4.0 / error_N)


def ssim_batch(images_N3HW: torch.Tensor, references_N3HW: torch.Tensor) -> torch.Tensor:
    """``[N]`` structural similarity of tensors in [-1, 1], mean over positions and channels.

    Gaussian window 11, sigma 1.5, only positions where the window fits; K1 = 0.01, K2 = 0.03. As
    published, for intensities from 0 up: the luminance term of signed values is another measure.

    Raises:
        ValueError: shapes that differ, or a side under 11 px.
    """
    _check_shapes(images_N3HW.shape, references_N3HW.shape)
    if min(images_N3HW.shape[-2:]) < SSIM_WINDOW:
        raise ValueError(
            f"SSIM needs at least {SSIM_WINDOW} px a side, got {tuple(images_N3HW.shape)}"
        )
    x, y = ((values.float() + 1) / 2 for values in (images_N3HW, references_N3HW))
    moments = _window_mean(torch.cat([x, y, x * x, y * y, x * y]))
    mean_x, mean_y, xx, yy, xy = moments.chunk(5)
    c1, c2 = SSIM_K1**2, SSIM_K2**2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    spread = (xx - mean_x**2) + (yy - mean_y**2)
    structure = (2 * (xy - mean_x * mean_y) + c2) / (spread + c2)
    return (luminance * structure).mean((1, 2, 3))


def _window_mean(images: torch.Tensor) -> torch.Tensor:
    """Gaussian mean at every position where the window fits, separably."""
    offset = torch.arange(SSIM_WINDOW, dtype=images.dtype, device=images.device)
    kernel = torch.exp(-((offset - SSIM_WINDOW // 2) ** 2) / (2 * SSIM_SIGMA**2))
    kernel = kernel / kernel.sum()
    channels = images.shape[1]
    row = kernel.view(1, 1, 1, -1).expand(channels, 1, 1, -1)
    column = kernel.view(1, 1, -1, 1).expand(channels, 1, -1, 1)
    return F.conv2d(F.conv2d(images, row, groups=channels), column, groups=channels)


def _decibel(error: float, peak: float) -> float:
    return float("inf") if error == 0 else 10.0 * float(np.log10(peak**2 / error))


def _check_shapes(first: tuple[int, ...], second: tuple[int, ...]) -> None:
    if tuple(first) != tuple(second):
        raise ValueError(f"pictures differ in shape: {tuple(first)} and {tuple(second)}")
