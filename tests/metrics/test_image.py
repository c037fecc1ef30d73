"""PSNR, SSIM and MS-SSIM against values that can be worked out by hand."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
import torch

from vidinv.metrics import masked_psnr, ms_ssim_batch, psnr, psnr_batch, ssim_batch
from vidinv.metrics.image import ms_ssim_scales


def test_psnr_of_a_constant_difference():
    image = np.full((8, 8, 3), 100, np.uint8)
    assert psnr(image, image + 10) == pytest.approx(20 * math.log10(25.5))
    assert psnr(image + 10, image) == psnr(image, image + 10)
    assert psnr(image, image) == math.inf


def test_psnr_of_16_bits_agrees_with_8():
    image = np.full((8, 8, 3), 100, np.uint8)
    deep = psnr(image.astype(np.uint16) * 257, (image + 10).astype(np.uint16) * 257, peak=65535)
    assert deep == pytest.approx(psnr(image, image + 10))


def test_psnr_of_different_shapes_fails():
    with pytest.raises(ValueError, match="shape"):
        psnr(np.zeros((8, 8, 3)), np.zeros((8, 9, 3)))


def test_masked_psnr_counts_only_the_inside():
    image = np.zeros((8, 8, 3), np.uint8)
    other = image.copy()
    other[:4] = 255
    mask = np.zeros((8, 8))
    mask[4:] = 1
    assert masked_psnr(image, other, mask) == math.inf
    assert masked_psnr(image, other, 1 - mask) == 0.0


def test_masked_psnr_fails_for_a_mask_that_does_not_fit():
    image = np.zeros((8, 8, 3), np.uint8)
    with pytest.raises(ValueError, match="empty"):
        masked_psnr(image, image, np.zeros((8, 8)))
    with pytest.raises(ValueError, match="mask is"):
        masked_psnr(image, image, np.ones((4, 4)))


def test_psnr_batch_agrees_with_arrays():
    rng = np.random.default_rng(0)
    first, second = rng.uniform(0, 255, (2, 3, 16, 16, 3))
    tensors = [torch.tensor(x / 127.5 - 1).permute(0, 3, 1, 2) for x in (first, second)]
    expected = [psnr(a, b) for a, b in zip(first, second, strict=True)]
    assert psnr_batch(*tensors).numpy() == pytest.approx(expected, abs=1e-3)


def reference_ssim(x, y):
    """The formula of Wang et al. for values 0..255, one window at a time, in float64."""
    axis = np.arange(11) - 5
    window = np.exp(-(axis**2) / (2 * 1.5**2))
    window = np.outer(window, window) / np.outer(window, window).sum()
    views = [np.lib.stride_tricks.sliding_window_view(z, (11, 11)) for z in (x, y)]
    mean_x, mean_y = ((view * window).sum((-2, -1)) for view in views)
    dx, dy = views[0] - mean_x[..., None, None], views[1] - mean_y[..., None, None]
    xx, yy, xy = ((a * b * window).sum((-2, -1)) for a, b in ((dx, dx), (dy, dy), (dx, dy)))
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    return (luminance * (2 * xy + c2) / (xx + yy + c2)).mean()


def test_ssim_agrees_with_the_formula():
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (24, 20))
    y = np.clip(x + rng.normal(0, 0.3, x.shape), -1, 1)
    tensors = [torch.tensor(z, dtype=torch.float32).expand(2, 3, -1, -1) for z in (x, y)]
    values = ssim_batch(*tensors)
    assert values.shape == (2,)
    expected = reference_ssim(*((z + 1) * 127.5 for z in (x, y)))
    assert values.numpy() == pytest.approx(expected, abs=1e-5)


def test_ssim_does_not_mind_a_shift_that_nobody_sees():
    grey = 0.01 * torch.randn(1, 3, 32, 32)
    assert ssim_batch(grey, grey + 3 / 127.5).item() > 0.99


def test_ssim_of_equal_pictures_is_one_and_noise_lowers_it():
    x = torch.rand(1, 3, 32, 32) * 2 - 1
    assert ssim_batch(x, x).item() == pytest.approx(1.0, abs=1e-6)
    assert ssim_batch(x, x + 0.2 * torch.randn(x.shape)).item() < 0.99


@pytest.mark.parametrize("shapes", [((1, 3, 32, 32), (1, 3, 32, 16)), ((1, 3, 8, 8),) * 2])
def test_ssim_fails_for_shapes_it_cannot_compare(shapes):
    with pytest.raises(ValueError, match=r"shape|11 px"):
        ssim_batch(*(torch.zeros(shape) for shape in shapes))


def test_ms_ssim_of_equal_pictures_is_1_and_falls_with_noise():
    random = torch.Generator().manual_seed(0)
    picture = torch.rand(2, 3, 64, 64, generator=random) * 2 - 1
    picture = torch.nn.functional.avg_pool2d(picture, 9, stride=1, padding=4) * 4
    noisy = [picture + sigma * torch.randn(picture.shape, generator=random) for sigma in (0.1, 0.4)]
    one, little, much = (ms_ssim_batch(other, picture) for other in (picture, *noisy))
    torch.testing.assert_close(one, torch.ones(2))
    assert (one > little).all()
    assert (little > much).all()


def test_ms_ssim_is_the_weighted_product_of_its_scales():
    """Contrast and structure at each scale, luminance at the coarsest, exponents of the paper."""
    random = torch.Generator().manual_seed(1)
    first = torch.rand(1, 3, 48, 48, generator=random) * 2 - 1
    second = (first + 0.3 * torch.randn(first.shape, generator=random)).clamp(-1, 1)
    assert ms_ssim_scales(48) == 3
    weights = np.array([0.0448, 0.2856, 0.3001])
    expected, x, y = 1.0, first, second
    for number, weight in enumerate(weights / weights.sum()):
        value = ssim_batch(x, y) if number == 2 else contrast_and_structure(x, y)
        expected *= float(value) ** weight
        x, y = (torch.nn.functional.avg_pool2d(z, 2) for z in (x, y))
    assert float(ms_ssim_batch(first, second)) == pytest.approx(expected, abs=1e-5)


def contrast_and_structure(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """cs of SSIM by OpenCV's Gaussian, the border of 5 px cut off."""
    planes = []
    for a, b in zip(x[0].numpy() / 2 + 0.5, y[0].numpy() / 2 + 0.5, strict=True):

        def mean(z):
            return cv2.GaussianBlur(z, (11, 11), 1.5)[5:-5, 5:-5]

        covariance = mean(a * b) - mean(a) * mean(b)
        spread = mean(a * a) - mean(a) ** 2 + mean(b * b) - mean(b) ** 2
        planes.append((2 * covariance + 0.03**2) / (spread + 0.03**2))
    return torch.tensor(np.mean(planes))


def test_scales_are_those_in_which_the_window_fits():
    sides = (8, 11, 22, 64, 128, 176, 1024)
    assert [ms_ssim_scales(side) for side in sides] == [0, 1, 2, 3, 4, 5, 5]
