"""FID and KID on made-up features whose distance is known."""

from __future__ import annotations

import pytest
import torch

from vidinv.metrics.distribution import crowd_features, frechet_distance, kernel_distance


def crowd(count: int, *, shift: float = 0.0, scale: float = 1.0, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 6, generator=generator, dtype=torch.float64) * scale + shift


def test_fid_is_that_of_gaussians():
    """|m|^2 + sum (s1 - s2)^2 for diagonal covariances."""
    first, second = crowd(40_000), crowd(40_000, shift=0.5, scale=2.0, seed=1)
    assert frechet_distance(first, second) == pytest.approx(6 * (0.25 + 1.0), rel=0.02)
    assert frechet_distance(first, first) == pytest.approx(0, abs=1e-8)


def test_fid_minds_correlation_and_is_symmetric():
    first = crowd(4000)
    mixing = torch.eye(6, dtype=torch.float64)
    mixing[0, 1] = 0.9
    second = crowd(4000, seed=2) @ mixing
    assert frechet_distance(first, second) > 0.1
    assert frechet_distance(first, second) == pytest.approx(frechet_distance(second, first))


def test_kid_is_unbiased_and_grows_with_the_distance():
    same = [kernel_distance(crowd(50, seed=2 * i), crowd(50, seed=2 * i + 1)) for i in range(40)]
    assert abs(sum(same) / 40) < 0.05
    assert min(same) < 0 < max(same)
    far = [kernel_distance(crowd(50), crowd(50, shift=s, seed=1)) for s in (0.5, 1.0)]
    assert 0.5 < far[0] < far[1]


def test_kid_of_many_rows_is_that_of_all_pairs_at_once():
    x, y = crowd(1500), crowd(1100, shift=0.3, seed=1)

    def kernel(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return (a @ b.T / 6 + 1) ** 3

    def others(a: torch.Tensor) -> torch.Tensor:
        return kernel(a, a)[~torch.eye(len(a), dtype=torch.bool)].mean()

    expected = others(x) + others(y) - 2 * kernel(x, y).mean()
    assert kernel_distance(x, y) == pytest.approx(float(expected), rel=1e-9)


def test_features_are_those_of_the_last_level(features):
    images = torch.rand(5, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    rows = crowd_features([images[:2], images[2:]])
    assert rows.shape == (5, 320)
    with torch.no_grad():
        expected = features(images)[-1].mean(dim=(2, 3)).double()
    torch.testing.assert_close(rows, expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(
        crowd_features([images * 9]), crowd_features([(images * 9).clamp(-1, 1)])
    )
