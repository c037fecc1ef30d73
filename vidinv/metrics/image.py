"""Picture quality against a reference: PSNR, PSNR inside a mask, SSIM, MS-SSIM.

Two forms: arrays ``[H, W, 3]`` in 0..255 (``psnr``, ``masked_psnr``) and batches of tensors
``[N, 3, H, W]`` in [-1, 1] (``psnr_batch``, ``ssim_batch``, ``ms_ssim_batch``).
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
# Wang, Simoncelli, Bovik, "Multi-scale structural similarity" (Asilomar 2003), section 3.2.
MS_SSIM_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)

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
    _check_ssim_shapes(images_N3HW, references_N3HW)
    luminance, structure = _ssim_parts(*_from_zero(images_N3HW, references_N3HW))
    return (luminance * structure).mean((1, 2, 3))


def ms_ssim_batch(images_N3HW: torch.Tensor, references_N3HW: torch.Tensor) -> torch.Tensor:
    """``[N]`` multi-scale structural similarity of tensors in [-1, 1]; parts below 0 count as 0.

    Five scales from 176 px; smaller pictures have those in which the window fits
    (``ms_ssim_scales``), with the weights of these, which then sum to 1 again.

    Raises:
        ValueError: shapes that differ, or a side under 11 px.
    """
    _check_ssim_shapes(images_N3HW, references_N3HW)
    weights = MS_SSIM_WEIGHTS[: ms_ssim_scales(min(images_N3HW.shape[-2:]))]
    x, y = _from_zero(images_N3HW, references_N3HW)
    product = torch.ones(len(x), device=x.device)
    for number, weight in enumerate(weights, start=1):
        luminance, structure = _ssim_parts(x, y)
        if number == len(weights):  # luminance counts at the coarsest scale alone
            structure = luminance * structure
        value = structure.mean((1, 2, 3)).clamp_min(0)
        product = product * value ** (weight / sum(weights))
        x, y = F.avg_pool2d(x, 2), F.avg_pool2d(y, 2)
    return product


def ms_ssim_scales(side_px: int) -> int:
    """Scales of MS-SSIM in which the window fits."""
    scales = range(1, len(MS_SSIM_WEIGHTS) + 1)
    return max((n for n in scales if side_px >> (n - 1) >= SSIM_WINDOW), default=0)


def _from_zero(*batches: torch.Tensor) -> list[torch.Tensor]:
    """From [-1, 1] to [0, 1]."""
    return [(values.float() + 1) / 2 for values in batches]


def _ssim_parts(x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Luminance, and contrast with structure, at every position; of values in [0, 1]."""
    moments = _window_mean(torch.cat([x, y, x * x, y * y, x * y]))
    mean_x, mean_y, xx, yy, xy = moments.chunk(5)
    c1, c2 = SSIM_K1**2, SSIM_K2**2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    spread = (xx - mean_x**2) + (yy - mean_y**2)
    return luminance, (2 * (xy - mean_x * mean_y) + c2) / (spread + c2)


def _window_mean(images: torch.Tensor) -> torch.Tensor:
    """Gaussian mean at every position where the window fits, separably."""
    images = images.contiguous(memory_format=torch.channels_last)  # depthwise: 8 times faster
    offset = torch.arange(SSIM_WINDOW, dtype=images.dtype, device=images.device)
    kernel = torch.exp(-((offset - SSIM_WINDOW // 2) ** 2) / (2 * SSIM_SIGMA**2))
    kernel = kernel / kernel.sum()
    channels = images.shape[1]
    row = kernel.view(1, 1, 1, -1).expand(channels, 1, 1, -1)
    column = kernel.view(1, 1, -1, 1).expand(channels, 1, -1, 1)
    return F.conv2d(F.conv2d(images, row, groups=channels), column, groups=channels)


def _decibel(error: float, peak: float) -> float:
    return float("inf") if error == 0 else 10.0 * float(np.log10(peak**2 / error))


def _check_ssim_shapes(images_N3HW: torch.Tensor, references_N3HW: torch.Tensor) -> None:
    _check_shapes(images_N3HW.shape, references_N3HW.shape)
    if min(images_N3HW.shape[-2:]) < SSIM_WINDOW:
        raise ValueError(
            f"SSIM needs at least {SSIM_WINDOW} px a side, got {tuple(images_N3HW.shape)}"
        )


def _check_shapes(first: tuple[int, ...], second: tuple[int, ...]) -> None:
    if tuple(first) != tuple(second):
        raise ValueError(f"pictures differ in shape: {tuple(first)} and {tuple(second)}")
