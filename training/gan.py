"""The generator of a pack: an autoencoding StyleGAN first, the adversary after it.

Small data and a CPU ask for semantics first: an encoder and the synthesis network learn together as
an autoencoder with a KL term on w (docs/TRAINING.md). A linear head on w predicts attributes and
landmarks where labels are known, so that expression and pose are laid out linearly. With
``adversarial_weight`` > 0 a discriminator joins (non-saturating loss, lazy R1, Karras et al. 2020),
and its features act as perceptual loss. The generator, of the family that ``generator.kind`` names,
grows resolution by resolution: ``train_resolution`` stops the synthesis at a lower one.

    python -m training gan --config configs/faces_ae64.yaml --out runs/ae64
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.data import ATTRIBUTES
from training.loop import Batch, GradientAverage, LoopConfig
from training.losses import (
    feature_matching,
    gaussian_kl,
    masked_mse,
    pixel_structure_loss,
    psnr,
)
from vidinv.errors import UsageError
from vidinv.generators.base import (
    Discriminator,
    Generator,
    GeneratorConfig,
    GeneratorNetwork,
    GrowingSynthesis,
)
from vidinv.generators.registry import build_generator, find_family
from vidinv.inversion.fse_encoder import FeatureStyleConfig, FeatureStyleEncoder

NUM_LANDMARK_TARGETS = 136
R1_INTERVAL = 16  # steps between R1 penalties (StyleGAN2, appendix B)


@dataclass(frozen=True)
class GanConfig:
    """One stage of training a generator.

    Attributes:
        train_resolution: side of the pictures in this stage; at most the generator's resolution.
        init: ``latest.pt`` of the stage before; its averaged weights are taken over.
        init_resolution: side of its pictures where it was lower: blocks above start silent; 0 else.
        kl_weight: per nat of KL, against a reconstruction loss of order 0.3 at the start.
        supervision_weight: of the linear attribute and landmark head.
        adversarial_weight: 0 trains the autoencoder alone.
        discriminator: its sizes where they are not the generator's.
    """

    generator: GeneratorConfig
    encoder: FeatureStyleConfig
    loop: LoopConfig
    train_resolution: int
    init: str = ""
    init_resolution: int = 0
    learning_rate: float = 2e-3
    encoder_learning_rate: float = 1e-3
    kl_weight: float = 4e-5
    supervision_weight: float = 0.02
    adversarial_weight: float = 0.0
    feature_matching_weight: float = 1.0
    r1_gamma: float = 1.0
    discriminator: GeneratorConfig | None = None

    def __post_init__(self) -> None:
        """ValueError where the sizes do not go together."""
        for name in ("train_resolution", "init_resolution"):
            if resolution := getattr(self, name):
                with _naming(name):
                    self.generator.layer_after(resolution)
        if self.encoder.feature_width:
            with _naming("encoder.feature_layer"):
                self.generator.feature_shape(self.encoder.feature_layer)


@contextmanager
def _naming(field: str) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{field}: {error}") from None


class LatentProbe(nn.Module):
    """log sigma of the latent noise, and the linear head from w to attributes and landmarks."""

    def __init__(self, w_dim: int) -> None:
        super().__init__()
        self.log_sigma = nn.Parameter(torch.full([w_dim], -1.0))
        self.head = nn.Linear(w_dim, len(ATTRIBUTES) + NUM_LANDMARK_TARGETS)

    def loss(self, w_ND: Tensor, batch: Batch) -> Tensor:
        """Attributes (unit variance) plus landmarks (in units of a tenth of the half side)."""
        attributes, landmarks = self.head(w_ND).split(
            [len(ATTRIBUTES), NUM_LANDMARK_TARGETS], dim=1
        )
        target = batch.landmarks.flatten(1) * 10.0
        return masked_mse(attributes, batch.targets) + F.mse_loss(landmarks, target)


class GanTask:
    """Autoencoder, and adversary when asked for; see the file's head."""

    averaged: ClassVar[tuple[str, ...]] = ("generator", "encoder")

    def __init__(self, config: GanConfig) -> None:
        self.config = config
        self.generator = build_generator(config.generator)
        self.top_layer = config.generator.layer_after(config.train_resolution)
        self.encoder = FeatureStyleEncoder(config.encoder, config.generator)
        self.probe = LatentProbe(config.generator.w_dim)
        self.modules: dict[str, nn.Module] = {
            "generator": self.generator,
            "encoder": self.encoder,
            "probe": self.probe,
        }
        self.optimizers = {"autoencoder": self._autoencoder_optimizer()}
        self.discriminator: Discriminator | None = None
        if config.adversarial_weight > 0:
            self._add_discriminator()

    def _autoencoder_optimizer(self) -> torch.optim.Optimizer:
        encoder = [*self.encoder.parameters(), *self.probe.parameters()]
        synthesis = self.generator.synthesis
        assert isinstance(synthesis, nn.Module)
        groups = [
            {"params": list(synthesis.parameters()), "lr": self.config.learning_rate},
            {"params": encoder, "lr": self.config.encoder_learning_rate},
        ]
        return torch.optim.Adam(groups, betas=(0.9, 0.99), fused=True)

    def _add_discriminator(self) -> None:
        sizes = self.config.discriminator or self.config.generator
        build = find_family(sizes.kind).discriminator
        if build is None:
            raise UsageError(f"there is no discriminator for generators of kind {sizes.kind!r}")
        self.discriminator = build(sizes)
        self.modules["discriminator"] = self.discriminator
        self.optimizers["discriminator"] = torch.optim.Adam(
            self.discriminator.parameters(),
            lr=self.config.learning_rate,
            betas=(0.0, 0.99),
            fused=True,
        )

    def initialise(self, path: Path) -> None:
        """Take over the averaged modules (and probe) of an earlier stage."""
        state = torch.load(path, weights_only=True, map_location="cpu")
        self._load_generator(state["ema"]["generator"], path)
        missing, unexpected = self.encoder.load_state_dict(state["ema"]["encoder"], strict=False)
        other = [key for key in [*missing, *unexpected] if not key.startswith("feature_head")]
        if other:
            raise ValueError(f"{path}: encoder does not fit: {', '.join(other[:3])}")
        self.probe.load_state_dict(state["modules"]["probe"])
        if "discriminator" in state["modules"] and self.discriminator is not None:
            self.discriminator.load_state_dict(state["modules"]["discriminator"])

    def _load_generator(self, state: dict[str, Tensor], path: Path) -> None:
        """Layers that one of the two does not have (a stage of another resolution) are left out."""
        missing, unexpected = self.generator.load_state_dict(state, strict=False)
        wrong = [key for key in [*missing, *unexpected] if not key.startswith("synthesis.")]
        if wrong:
            raise ValueError(f"{path}: generator does not fit: {', '.join(wrong[:3])}")

    def grow_from(self, resolution: int) -> None:
        """Layers above ``resolution`` start silent: the picture is the up-scaled lower one."""
        synthesis = self.generator.synthesis
        if not isinstance(synthesis, GrowingSynthesis):
            raise UsageError(f"a generator of kind {self.config.generator.kind!r} does not grow")
        synthesis.silence_above(resolution)

    def step(self, batch: Batch, number: int, average: GradientAverage) -> dict[str, Tensor]:
        mean = self.encoder(batch.images)[0][:, 0]
        noisy = mean + torch.randn_like(mean) * self.probe.log_sigma.exp()
        fake = self.synthesise(self.generator.broadcast(noisy))
        metrics = {
            "reconstruction": pixel_structure_loss(fake, batch.images, batch.weights),
            "kl": gaussian_kl(mean, self.probe.log_sigma),
            "supervision": self.probe.loss(mean, batch),
        }
        config = self.config
        loss = (
            metrics["reconstruction"]
            + config.kl_weight * metrics["kl"]
            + config.supervision_weight * metrics["supervision"]
        )
        if self.discriminator is not None:
            loss = loss + self._adversarial(self.discriminator, fake, batch.images, metrics)
        self._optimise("autoencoder", loss, average)
        if self.discriminator is not None:
            metrics |= self._discriminator_step(
                self.discriminator, fake, batch.images, number, average
            )
        return metrics

    def synthesise(self, latents_NLD: Tensor, generator: Generator | None = None) -> Tensor:
        """Picture at the stage's resolution; noise is off while an autoencoder trains."""
        network = (generator or self.generator).synthesis
        return network.run(latents_NLD, stop=self.top_layer, noise_mode="none").picture_N3HW

    def _adversarial(
        self, discriminator: Discriminator, fake: Tensor, real: Tensor, metrics: dict[str, Tensor]
    ) -> Tensor:
        discriminator.requires_grad_(False)
        features = discriminator.features(fake)
        with torch.no_grad():
            real_features = discriminator.features(real)
        metrics["adversarial"] = F.softplus(-discriminator.logits(features)).mean()
        metrics["feature_matching"] = feature_matching(features[:-1], real_features[:-1])
        discriminator.requires_grad_(True)
        config = self.config
        return (
            config.adversarial_weight * metrics["adversarial"]
            + config.feature_matching_weight * metrics["feature_matching"]
        )

    def _discriminator_step(
        self,
        discriminator: Discriminator,
        fake: Tensor,
        real: Tensor,
        number: int,
        average: GradientAverage,
    ) -> dict[str, Tensor]:
        lazy = number % R1_INTERVAL == 0
        real = real.detach().requires_grad_(lazy)
        real_logits = discriminator(real)
        loss = F.softplus(discriminator(fake.detach())).mean() + F.softplus(-real_logits).mean()
        metrics = {"discriminator": loss, "real_logit": real_logits.mean()}
        if lazy:
            (gradient,) = torch.autograd.grad(real_logits.sum(), real, create_graph=True)
            penalty = gradient.square().sum(dim=(1, 2, 3)).mean()
            loss = loss + penalty * (self.config.r1_gamma / 2 * R1_INTERVAL)
        self._optimise("discriminator", loss, average)
        return metrics

    def _optimise(self, name: str, loss: Tensor, average: GradientAverage) -> None:
        optimizer = self.optimizers[name]
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        average(p for group in optimizer.param_groups for p in group["params"])
        optimizer.step()

    def forward(self, modules: dict[str, nn.Module], batch: Batch) -> None:
        modules["encoder"](batch.images)

    @torch.no_grad()
    def evaluate(
        self, ema: dict[str, nn.Module], batch: Batch
    ) -> tuple[dict[str, float], list[Tensor]]:
        """PSNR of G(w), R^2 of the probe; sheet rows: source, G(w), samples of a Gaussian."""
        generator, encoder = ema["generator"], ema["encoder"]
        assert isinstance(generator, GeneratorNetwork)
        latents = encoder(batch.images)[0]
        picture = self.synthesise(latents, generator)
        predicted = self.probe.head(latents[:, 0])[:, : len(ATTRIBUTES)]
        metrics = {"psnr_w": float(psnr(picture, batch.images).mean())}
        for index, name in enumerate(ATTRIBUTES):
            target = batch.targets[:, index]
            known = ~torch.isnan(target)
            residual = (predicted[known, index] - target[known]).square().mean()
            metrics[f"r2_{name}"] = float(1 - residual / target[known].var())
        w = latents[:, 0]
        mix = torch.randn(16, len(w), generator=torch.Generator().manual_seed(0)) / len(w) ** 0.5
        drawn = w.mean(dim=0) + mix @ (w - w.mean(dim=0))
        samples = self.synthesise(generator.broadcast(drawn), generator)
        return metrics, [batch.images[:16], picture[:16], samples]
