"""The adversary of the sharp stages: projected discriminator and PatchGAN, balanced by gradients.

Heads on fixed random projections of EfficientNet-lite0's features, as in "Projected GANs Converge
Faster" (Sauer et al., NeurIPS 2021) without its mixing across scales, and a small PatchGAN on
pixels (Isola et al., CVPR 2017). Spectral norm and the hinge loss (Miyato et al. 2018) keep it tame
without R1. Its weight in the generator's loss follows the gradients at the picture, as in VQGAN
(Esser et al., CVPR 2021, eq. 7): their norm is to be ``share`` of the reconstruction's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from training.compute import Compute
from training.group import mean_over_workers
from training.terms import FeatureNetwork, View, frozen_features
from vidinv.metrics.efficientnet import CHANNELS, NAME, STRIDES

PROJECTED_CHANNELS, HEAD_CHANNELS = 64, 128
PATCH_CHANNELS = (48, 96, 128)
SLOPE = 0.2
BALANCE_INTERVAL, BALANCE_KEPT = 16, 0.9  # steps between measurements, and their smoothing
MAX_WEIGHT = 2.0  # where the adversary's gradient is near 0


@dataclass(frozen=True)
class AdversaryConfig:
    """The adversary of a stage.

    Attributes:
        share: norm of its gradient at the picture, in norms of the reconstruction's gradient.
        start_images: it learns from the start, and acts on the generator from here on.
        projected: heads on features of EfficientNet-lite0; without, the PatchGAN is alone.
    """

    share: float = 0.4
    start_images: int = 0
    learning_rate: float = 4e-4
    projected: bool = True


class Head(nn.Module):
    """Features of one level ``[N, C, S, S]`` -> logits ``[N, 1, s, s]``, s = min(S, 4)."""

    proj: Tensor

    def __init__(self, in_channels: int, side: int) -> None:
        super().__init__()
        projection = torch.randn(PROJECTED_CHANNELS, in_channels, 1, 1) / math.sqrt(in_channels)
        self.register_buffer("proj", projection)
        channels, layers = PROJECTED_CHANNELS, list[nn.Module]()
        while side > 4:
            layers += _conv(channels, HEAD_CHANNELS, 4, stride=2)
            channels, side = HEAD_CHANNELS, side // 2
        layers += _conv(channels, HEAD_CHANNELS, 3)
        layers += _conv(HEAD_CHANNELS, 1, 3)[:1]
        self.net = nn.Sequential(*layers)

    def forward(self, features_NCHW: Tensor) -> Tensor:
        return self.net(F.conv2d(features_NCHW, self.proj))


class PatchDiscriminator(nn.Module):
    """Pictures -> logits of overlapping patches of 46 px."""

    def __init__(self) -> None:
        super().__init__()
        layers, before = list[nn.Module](), 3
        for channels in PATCH_CHANNELS:
            layers += _conv(before, channels, 4, stride=2)
            before = channels
        layers += _conv(before, 1, 4)[:1]
        self.net = nn.Sequential(*layers)

    def forward(self, images_N3RR: Tensor) -> Tensor:
        return self.net(images_N3RR)


class Adversary(nn.Module):
    """Judges views; ``balance`` is what its loss counts in the generator's, kept for a resume.

    Args:
        resolution: side of the pictures.
    """

    balance: Tensor

    def __init__(
        self, config: AdversaryConfig, resolution: int, compute: Compute | None = None
    ) -> None:
        super().__init__()
        self.config, self.compute = config, compute or Compute()
        self.heads = nn.ModuleList()
        if config.projected:
            levels = zip(CHANNELS, STRIDES, strict=True)
            self.heads.extend(Head(channels, resolution // s) for channels, s in levels)
        self.patch = PatchDiscriminator()
        self.register_buffer("balance", torch.tensor(math.nan))  # not measured yet
        self._is_measured = False

    @property
    def network(self) -> FeatureNetwork | None:
        """What the heads stand on; no part of this module, since it is never saved."""
        return frozen_features(self.compute.device) if self.config.projected else None

    @property
    def name(self) -> str:
        patch = "PatchGAN on pixels"
        return f"projected discriminator on {NAME}, {patch}" if self.heads else patch

    def logits(self, view: View) -> list[Tensor]:
        """One map of logits for each judge, high for real."""
        network = self.network
        levels = () if network is None else view.features(network)
        with self.compute.autocast():
            heads = [head(level) for head, level in zip(self.heads, levels, strict=True)]
            logits = [*heads, self.patch(view.images)]
        return [one.float() for one in logits]

    def generator_loss(self, view: View) -> Tensor:
        """Mean of -logits, judges averaged; the adversary's own parameters get no gradient."""
        self.requires_grad_(False)
        loss = -torch.stack([logits.mean() for logits in self.logits(view)]).mean()
        self.requires_grad_(True)
        return loss

    def discriminator_loss(self, real: View, fake: View) -> Tensor:
        """Hinge loss, judges averaged; ``fake`` must be detached."""
        pairs = zip(self.logits(real), self.logits(fake), strict=True)
        losses = [F.relu(1 - r).mean() + F.relu(1 + f).mean() for r, f in pairs]
        return torch.stack(losses).mean()

    @property
    def is_measured(self) -> bool:
        """``balance`` is known; where it is, a GPU is not asked again."""
        if not self._is_measured:
            self._is_measured = not bool(self.balance.isnan())
        return self._is_measured

    def forget_balance(self) -> None:
        """The next time it acts, ``balance`` is measured from nothing."""
        self.balance.fill_(math.nan)
        self._is_measured = False

    def measure_balance(self, reconstruction: Tensor, adversarial: Tensor, images: Tensor) -> None:
        """Measure ``balance`` anew, smoothed, from the gradients of two losses at ``images``."""
        with torch.no_grad():
            norms = [
                torch.autograd.grad(loss, images, retain_graph=True)[0].norm()
                for loss in (reconstruction, adversarial)
            ]
            wanted = self.config.share * norms[0] / (norms[1] + 1e-8)
            smoothed = torch.lerp(wanted, self.balance, BALANCE_KEPT)
            wanted = torch.where(self.balance.isnan(), wanted, smoothed)
            # Nothing after the average needs memory, or workers could end with different balances.
            self.balance.copy_(mean_over_workers(wanted).clamp_(max=MAX_WEIGHT))
            self._is_measured = True


def _conv(in_channels: int, channels: int, kernel: int, *, stride: int = 1) -> list[nn.Module]:
    conv = nn.Conv2d(in_channels, channels, kernel, stride=stride, padding=1)
    return [spectral_norm(conv), nn.LeakyReLU(SLOPE)]
