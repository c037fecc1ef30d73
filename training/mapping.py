"""The mapping network of an autoencoded generator: z -> w with the distribution of encoded faces.

An autoencoder needs no mapping, a StyleGAN has one (samples, truncation, ``make demo``). It is fitted
to the encoder's latents of the training faces by sliced Wasserstein distance: sorted random
projections of both clouds are drawn together (Bonneel et al. 2015).
"""

from __future__ import annotations

import torch
from torch import Tensor

from vidinv.models.stylegan2 import MappingNetwork

NUM_PROJECTIONS = 128


def sliced_wasserstein(x_ND: Tensor, y_ND: Tensor, projections_DP: Tensor) -> Tensor:
    """Mean absolute distance of sorted projections of two clouds of equal size."""
    x, _ = (x_ND @ projections_DP).sort(dim=0)
    y, _ = (y_ND @ projections_DP).sort(dim=0)
    return (x - y).abs().mean()


def fit_mapping(
    mapping: MappingNetwork, w_MD: Tensor, *, steps: int = 600, batch: int = 1024, seed: int = 0
) -> float:
    """Fit ``mapping`` in place and set its ``w_avg``; returns the last mean distance.

    Args:
        w_MD: encoded training faces.
    """
    generator = torch.Generator().manual_seed(seed)
    z_dim = mapping.fc0.weight.shape[1]  # type: ignore[union-attr]
    optimizer = torch.optim.Adam(mapping.parameters(), lr=1e-1, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    recent = []
    for _ in range(steps):
        chosen = torch.randint(len(w_MD), [batch], generator=generator)
        z = torch.randn(batch, z_dim, generator=generator)
        directions = torch.randn(w_MD.shape[1], NUM_PROJECTIONS, generator=generator)
        directions = directions / directions.norm(dim=0)
        loss = sliced_wasserstein(mapping(z), w_MD[chosen], directions)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
        recent = [*recent[-49:], float(loss.detach())]
    mapping.w_avg.copy_(w_MD.mean(dim=0))
    return sum(recent) / len(recent)
