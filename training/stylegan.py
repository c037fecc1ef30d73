"""A StyleGAN from z: pictures of nobody, or the mapping network of a pack that is there already.

Non-saturating loss, lazy R1 and path length regularisation, style mixing, noise inputs and averaged
weights as in StyleGAN2 (Karras et al. 2020); DiffAugment, since photographs are few
(training.augment).
``learns: mapping`` keeps the pack's synthesis as it is, with all that was trained on it, and learns
z -> w alone, from where the pack's own mapping stands. The adversary is a StyleGAN2
discriminator, or heads on features (training.adversary), which know faces from the first step.

    python -m training stylegan --config configs/faces_mapping128.yaml --out runs/mapping128
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from training.adversary import Adversary, AdversaryConfig
from training.augment import Change, augment
from training.discriminator import (
    DiscriminatorConfig,
    LogisticDiscriminator,
    PathLength,
    r1_penalty,
)
from training.judged import JudgedTask
from training.judges import Metrics
from training.loop import Batch, GradientAverage, LoopConfig
from training.samples import draw_samples
from training.terms import View
from training.weights import read_weights, take_generator, take_over
from vidinv.errors import UsageError
from vidinv.generators.base import GeneratorConfig, GeneratorNetwork
from vidinv.generators.registry import build_generator
from vidinv.metrics import efficientnet
from vidinv.metrics.distribution import crowd_features, kernel_distance
from vidinv.metrics.efficientnet import STRIDES
from vidinv.packs import load_pack

BETAS = (0.0, 0.99)  # of Adam (StyleGAN, appendix C)
MEAN_SAMPLES = 10_000  # that w_avg is the mean of (StyleGAN2's projector, appendix D)
SHOWN_TRUNCATION = 0.7


@dataclass(frozen=True, kw_only=True)
class StyleGanStage:
    """One stage; durations of lazy regularisation are in steps (StyleGAN2, appendix B).

    Attributes:
        generator: its sizes, where it is no pack's.
        pack: whose generator it starts from.
        init: weights to go on from: a run's folder or a file (training.weights).
        learns: ``"mapping"``: the synthesis stands still.
        adversary: ``"discriminator"``, or ``"projected"``: the adversary of the other stages, whose
            spectral norm stands for R1.
        learning_rate: StyleGAN2's; of the mapping a hundredth of it (StyleGAN, appendix C).
        r1_weight: gamma (StyleGAN2: 10 at 1024 px; ADA: 0.0002 R^2 / batch); 0 leaves it out.
        path_weight: ``training.discriminator.PathLength``; 0 leaves it out.
        start_images: the adversary learns from the start, and acts on the generator from here on:
            one that knows nothing yet moves a mapping away from faces (docs/LOG.md).
        style_mixing: share of pictures of two w (StyleGAN, section 3.1).
        augment: what DiffAugment changes; empty: nothing.
    """

    loop: LoopConfig
    generator: GeneratorConfig | None = None
    pack: str = ""
    init: str = ""
    learns: Literal["all", "mapping"] = "all"
    adversary: Literal["discriminator", "projected"] = "discriminator"
    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)
    learning_rate: float = 2e-3
    adversary_learning_rate: float = 2e-3
    r1_weight: float = 10.0
    r1_interval: int = 16
    path_weight: float = 2.0
    path_interval: int = 4
    start_images: int = 0
    style_mixing: float = 0.9
    augment: tuple[Change, ...] = ("colour", "translation", "cutout")

    def __post_init__(self) -> None:
        """ValueError where the fields do not go together."""
        if (self.generator is None) == (not self.pack):
            raise ValueError("name either the sizes of a generator or a pack")
        if self.learns == "mapping" and not (self.pack or self.init):
            raise ValueError("learns: mapping needs a synthesis that is trained: pack or init")
        if not 0 <= self.style_mixing <= 1:
            raise ValueError(f"style_mixing must be a share, got {self.style_mixing}")
        if min(self.r1_interval, self.path_interval) < 1:
            raise ValueError("r1_interval and path_interval must be at least 1")


class StyleGanTask(JudgedTask):
    """Trains a generator from z, or its mapping; see the file's head."""

    averaged: ClassVar[tuple[str, ...]] = ("generator",)
    adversary: LogisticDiscriminator | Adversary

    def __init__(self, config: StyleGanStage) -> None:
        self.config = config
        self.generator = _generator(config)
        super().__init__(config.loop, self.generator.resolution)
        if self.generator.num_classes:
            raise UsageError("this trainer has no labels: a class-conditional generator needs them")
        self.start = config.pack or self.start
        self.generator.to(self.compute.device)
        self.path_length = PathLength().to(self.compute.device)
        self.modules |= {"generator": self.generator, "path_length": self.path_length}
        mapping, synthesis = self.generator.mapping, self.generator.synthesis
        assert isinstance(mapping, nn.Module)
        assert isinstance(synthesis, nn.Module)
        self.generator.requires_grad_(True)
        if config.learns == "mapping":
            synthesis.requires_grad_(False)
        learning = [p for p in self.generator.parameters() if p.requires_grad]
        if not learning:
            raise UsageError(f"a generator of kind {self.generator.kind!r} has no mapping to learn")
        self.optimizers["generator"] = _adam(
            learning, config.learning_rate, config.path_interval if config.path_weight else 0
        )
        self._call_adversary(config)

    def _call_adversary(self, config: StyleGanStage) -> None:
        rate = config.adversary_learning_rate
        self.has_r1 = config.adversary == "discriminator" and config.r1_weight > 0
        if config.adversary == "projected":
            adversary = AdversaryConfig(learning_rate=rate)
            self.adversary = Adversary(adversary, self.resolution, self.compute)
        else:
            sizes = config.discriminator
            self.adversary = LogisticDiscriminator(sizes, self.resolution, self.compute)
        self.modules["adversary"] = self.adversary.to(self.compute.device)
        self.optimizers["adversary"] = _adam(
            list(self.adversary.parameters()), rate, config.r1_interval if self.has_r1 else 0
        )
        self.networks = {"adversary": self.adversary.name}
        self._measures_features = self.resolution % STRIDES[-1] == 0 and not efficientnet.absent()
        if self._measures_features:
            self.networks["kid"] = efficientnet.NAME

    def initialise(self, path: Path) -> None:
        """Take over the generator, and an adversary that fits; ``start`` says what began anew.

        Raises:
            UsageError: there is no generator of these sizes, or none of the pack whose mapping
                learns.
        """
        found = read_weights(path).modules
        if "generator" not in found:
            raise UsageError(f"{path} has no weights of the generator")
        if self.config.learns == "mapping" and self.config.pack:
            self._check_synthesis(found["generator"], path)
        take_generator(self.generator, found["generator"], path)
        anew = [
            name
            for name in ("adversary", "path_length")
            if not take_over(self.modules[name], found.get(name, {}))
        ]
        self.start = f"{path}; begun anew: {', '.join(anew) or 'nothing'}"

    def _check_synthesis(self, found: Mapping[str, Tensor], path: Path) -> None:
        """A mapping belongs to one synthesis: with another's, the pack would show other people."""
        for key, own in self.generator.state_dict().items():
            if key.startswith("synthesis.") and not (
                key in found and torch.equal(own.cpu().float(), found[key].float())
            ):
                raise UsageError(
                    f"{path}: its synthesis is not that of {self.config.pack}, whose mapping learns"
                )

    def step(self, batch: Batch, number: int, average: GradientAverage) -> Metrics:
        config, real = self.config, batch.images
        metrics: Metrics = {}
        acts = self._images_seen(number) >= config.start_images
        with torch.set_grad_enabled(acts), self.compute.autocast():
            fake = self._pictures(self._draw_latents(len(real), real.device))
        if acts:
            metrics["generator"] = self.adversary.generator_loss(self._view(fake))
            self._optimise("generator", metrics["generator"], average)
            if config.path_weight and number % config.path_interval == 0:
                self._path_step(real, average, metrics)
        # The pictures that the generator learned from serve again: a third less work.
        pair = self._view(real), self._view(fake.detach())
        metrics["discriminator"] = self.adversary.discriminator_loss(*pair)
        self._optimise("adversary", metrics["discriminator"], average)
        if self.has_r1 and number % config.r1_interval == 0:
            self._r1_step(real, average, metrics)
        return metrics

    def _path_step(self, real_N3RR: Tensor, average: GradientAverage, metrics: Metrics) -> None:
        """On half of a batch, as in StyleGAN2, appendix B; second derivatives are float32."""
        config = self.config
        latents = self._draw_latents(max(1, len(real_N3RR) // 2), real_N3RR.device)
        penalty = self.path_length(self._pictures(latents), latents)
        # Times the interval here and below, so that what the log has is the mean of all steps.
        metrics["path"] = penalty * config.path_interval
        self._optimise("generator", config.path_weight * metrics["path"], average)

    def _r1_step(self, real_N3RR: Tensor, average: GradientAverage, metrics: Metrics) -> None:
        assert isinstance(self.adversary, LogisticDiscriminator)
        config, images = self.config, real_N3RR.detach().requires_grad_(True)
        penalty = r1_penalty(self.adversary(augment(images, config.augment)), images)
        metrics["r1"] = penalty * config.r1_interval
        self._optimise("adversary", config.r1_weight / 2 * metrics["r1"], average)

    def _draw_latents(self, count: int, device: torch.device) -> Tensor:
        """``[N, L, D]`` from z; in ``style_mixing`` of them, the rows from one on are another's."""
        latents = self._latents_of_z(count, device)
        share, rows = self.config.style_mixing, self.generator.num_ws
        if not share or rows == 1:
            return latents
        first = torch.randint(1, rows, [count, 1], device=device)
        first[torch.rand(count, 1, device=device) >= share] = rows
        swapped = torch.arange(rows, device=device) >= first
        return torch.where(swapped[:, :, None], self._latents_of_z(count, device), latents)

    def _latents_of_z(self, count: int, device: torch.device) -> Tensor:
        z = torch.randn(count, self.generator.z_dim, device=device)
        return self.generator.broadcast(self.generator.mapping(z))

    def _pictures(self, latents_NLD: Tensor) -> Tensor:
        return self.generator.synthesis(latents_NLD, noise_mode="random")

    def _view(self, images_N3RR: Tensor) -> View:
        return View(augment(images_N3RR, self.config.augment))

    def forward(self, modules: dict[str, nn.Module], batch: Batch) -> None:
        """Nothing: there is no batch norm in it."""

    @torch.no_grad()
    def evaluate(
        self, ema: dict[str, nn.Module], batch: Batch
    ) -> tuple[dict[str, float], list[Tensor]]:
        """KID of as many samples as there are faces, the same z each time; sets ``w_avg``.

        Sheet rows: faces, samples at truncation 0.7, samples.
        """
        generator = ema["generator"]
        assert isinstance(generator, GeneratorNetwork)
        set_mean_w(generator)
        count, rows = len(batch.images), [batch.images]
        for truncation in (SHOWN_TRUNCATION, 1.0):
            drawn = draw_samples(generator, count, truncation=truncation)
            rows.append(torch.cat(list(drawn)))
        metrics = {}
        if self._measures_features:
            pair = rows[-1].cpu(), batch.images.cpu()
            ours, theirs = (crowd_features([images]) for images in pair)
            metrics["kid"] = kernel_distance(ours, theirs)
        return metrics, [row[:16] for row in rows]


@torch.no_grad()
def set_mean_w(generator: GeneratorNetwork) -> None:
    """``w_avg``, which truncation moves w to, is the mean of what the mapping gives; if it has one.

    Moving averages of weights need it anew.
    """
    mapping = generator.mapping
    assert isinstance(mapping, nn.Module)
    mean_w = dict(mapping.named_buffers()).get("w_avg")
    if mean_w is not None:
        random = torch.Generator().manual_seed(0)
        z = torch.randn(MEAN_SAMPLES, generator.z_dim, generator=random)
        mean_w.copy_(generator.mapping(z.to(mean_w)).mean(dim=0))


def _generator(config: StyleGanStage) -> GeneratorNetwork:
    own = config.generator
    network = load_pack(config.pack).generator if own is None else build_generator(own)
    assert isinstance(network, GeneratorNetwork)
    return network


def _adam(parameters: list[nn.Parameter], rate: float, interval: int) -> torch.optim.Optimizer:
    """Adam for a loss that is regularised every ``interval`` steps; 0: that never is.

    It then steps more often, and rate and betas are those of c = k / (k + 1) (StyleGAN2, appendix
    B, "Lazy regularization").
    """
    c = interval / (interval + 1) if interval else 1.0
    betas = (BETAS[0] ** c, BETAS[1] ** c)
    return torch.optim.Adam(parameters, lr=rate * c, betas=betas, fused=True)
