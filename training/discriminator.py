"""Discriminators of pictures from z and of latents, and the regularisers of StyleGAN2.

Logistic losses (Goodfellow et al. 2014, the non-saturating form) and R1 (Mescheder et al. 2018);
path lengths of the generator (Karras et al. 2020, section 3.2).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.compute import Compute
from training.group import mean_over_workers
from training.terms import View
from vidinv.generators.discriminator import StyleGAN2Discriminator
from vidinv.generators.layers import Linear
from vidinv.generators.stylegan2 import StyleGAN2Config

LATENT_LAYERS = 4
PATH_DECAY = 0.01  # of the running mean a (StyleGAN2, appendix B: 0.99 of it is kept)


@dataclass(frozen=True)
class DiscriminatorConfig:
    """Sizes: channels(r) = min(channel_base / r, channel_max), as of the generator."""

    channel_base: int = 4096
    channel_max: int = 128


class LogisticDiscriminator(nn.Module):
    """The StyleGAN2 discriminator (residual, minibatch standard deviation) with its losses."""

    network = None  # it reads pixels: training.judges shares no features with it
    name = "StyleGAN2 discriminator"

    def __init__(
        self, config: DiscriminatorConfig, resolution: int, compute: Compute | None = None
    ) -> None:
        super().__init__()
        self.compute = compute or Compute()
        sizes = StyleGAN2Config(
            resolution, channel_base=config.channel_base, channel_max=config.channel_max
        )
        self.net = StyleGAN2Discriminator(sizes)

    def generator_loss(self, view: View) -> Tensor:
        """-log sigmoid(D(x)); its own parameters get no gradient."""
        with self.compute.autocast():
            return non_saturating(self, view.images)

    def discriminator_loss(self, real: View, fake: View) -> Tensor:
        with self.compute.autocast():
            return logistic(self, real.images, fake.images)

    def forward(self, images_N3RR: Tensor) -> Tensor:
        scores_N1: Tensor = self.net(images_N3RR)
        return scores_N1.float()


class LatentDiscriminator(nn.Module):
    """w ``[M, D]`` -> logits ``[M, 1]``, high for w of the mapping: e4e's, of four linear layers.

    Numbers of w are standardised first: those of our packs lie far from 0 (training.mapping).

    Args:
        w_MD: of the mapping.
    """

    mean: Tensor
    spread: Tensor

    def __init__(self, w_MD: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", w_MD.mean(dim=0))
        self.register_buffer("spread", w_MD.std(dim=0).clamp(min=1e-6))
        width = w_MD.shape[1]
        hidden = [Linear(width, width, activate=True) for _ in range(LATENT_LAYERS - 1)]
        self.net = nn.Sequential(*hidden, Linear(width, 1))

    def forward(self, w_MD: Tensor) -> Tensor:
        scores_M1: Tensor = self.net((w_MD - self.mean) / self.spread)
        return scores_M1


def non_saturating(discriminator: nn.Module, fake: Tensor) -> Tensor:
    """-log sigmoid(D(fake)); the discriminator's own parameters get no gradient."""
    discriminator.requires_grad_(False)
    loss = F.softplus(-discriminator(fake)).mean()
    discriminator.requires_grad_(True)
    return loss


def logistic(discriminator: nn.Module, real: Tensor, fake: Tensor) -> Tensor:
    """-log(1 - sigmoid(D(fake))) - log sigmoid(D(real))."""
    scores_fake, scores_real = discriminator(fake), discriminator(real)
    return F.softplus(scores_fake).mean() + F.softplus(-scores_real).mean()


def r1_penalty(scores_N1: Tensor, real: Tensor) -> Tensor:
    """E |grad D(x)|^2 of what is real (Mescheder et al. 2018, eq. 9), with its own gradient."""
    (gradient,) = torch.autograd.grad(scores_N1.sum(), real, create_graph=True)
    return gradient.flatten(1).square().sum(dim=1).mean()


class PathLength(nn.Module):
    """E (|J_w^T y|_2 - a)^2 (StyleGAN2, eq. 4); ``mean``, a, is kept for a resume.

    y is scaled by 1/R and the square is the mean over the rows of w+, as in the public code: with a
    weight of 2 that is appendix B's ln 2 / (R^2 (ln R - ln 2)).
    """

    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros([]))

    def forward(self, pictures_N3RR: Tensor, latents_NLD: Tensor) -> Tensor:
        """The penalty, with gradients; ``mean`` goes on."""
        side = pictures_N3RR.shape[-1]
        noisy = pictures_N3RR * (torch.randn_like(pictures_N3RR) / side)
        (slopes,) = torch.autograd.grad(noisy.sum(), latents_NLD, create_graph=True)
        lengths = slopes.square().sum(dim=2).mean(dim=1).sqrt()
        with torch.no_grad():
            self.mean.lerp_(mean_over_workers(lengths.mean()), PATH_DECAY)
        return (lengths - self.mean).square().mean()
