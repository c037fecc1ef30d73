"""The generator of a pack (w stage): an autoencoding StyleGAN that is judged as people would.

Small data and a CPU ask for semantics first: an encoder and the synthesis network learn together as
an autoencoder with a KL term on w (docs/TRAINING.md). A linear head on w predicts attributes and
landmarks where labels are known, so that expression and pose are laid out linearly. Pictures are
judged by pixels, a perceptual network, a recognition network and an adversary (training.judges),
each but the first optional. The generator, of the family that ``generator.kind`` names, grows
resolution by resolution: ``train_resolution`` stops the synthesis at a lower one.

    python -m training gan --config configs/faces_w128.yaml --out runs/w128
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.data import ATTRIBUTES
from training.judged import JudgedTask
from training.judges import JudgesConfig, Metrics, leaf, through
from training.loop import Batch, GradientAverage, LoopConfig
from training.losses import gaussian_kl, masked_mse
from training.terms import View
from training.weights import read_weights, take_encoder, take_generator, take_over
from vidinv.errors import UsageError
from vidinv.generators.base import Generator, GeneratorConfig, GeneratorNetwork, GrowingSynthesis
from vidinv.generators.registry import build_generator
from vidinv.inversion.fse_encoder import FeatureStyleConfig, FeatureStyleEncoder

NUM_LANDMARK_TARGETS = 136


@dataclass(frozen=True)
class GanConfig:
    """One stage of training a generator.

    Attributes:
        train_resolution: side of the pictures in this stage; at most the generator's resolution.
        init: weights to start from: the folder of a run or a pack, or a file (training.weights).
        init_resolution: side of its pictures where it was lower: blocks above start silent; 0 else.
        kl_weight: per nat of KL, against a pixel term of order 0.3 at the start.
        supervision_weight: of the linear attribute and landmark head.
        row_weight: in W+, of the squared distance of the rows of a face from their mean.
        synthetic: share of a batch that are the generator's own pictures, 0..1 (FSE, section 4.1:
            a half). They are judged by G(w) alone (eq. 2), and teach no attribute.
        learning_rate: of the generator; 0 keeps it as it is, and the encoder learns by itself.
        latent_noise: G(w) is learned from latents with noise, which keeps a generator smooth; one
            that stands still needs none, nor one that is only trained on.
    """

    generator: GeneratorConfig
    encoder: FeatureStyleConfig
    loop: LoopConfig
    train_resolution: int
    init: str = ""
    init_resolution: int = 0
    learning_rate: float = 2e-3
    latent_noise: bool = True
    encoder_learning_rate: float = 1e-3
    kl_weight: float = 4e-5
    supervision_weight: float = 0.02
    row_weight: float = 1e-5
    synthetic: float = 0.0
    judges: JudgesConfig = field(default_factory=JudgesConfig)

    def __post_init__(self) -> None:
        """ValueError where the sizes do not go together."""
        if not 0 <= self.synthetic < 1:
            raise ValueError(f"synthetic must be a share below 1, got {self.synthetic}")
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

    def noisy(self, latents_NLD: Tensor) -> Tensor:
        """Latents with the learned noise of w, the same in all rows."""
        return latents_NLD + torch.randn_like(latents_NLD[:, :1]) * self.log_sigma.exp()

    def loss(self, w_ND: Tensor, batch: Batch) -> Tensor:
        """Attributes (unit variance) plus landmarks (in units of a tenth of the half side)."""
        attributes, landmarks = self.head(w_ND).split(
            [len(ATTRIBUTES), NUM_LANDMARK_TARGETS], dim=1
        )
        target = batch.landmarks.flatten(1) * 10.0
        return masked_mse(attributes, batch.targets) + F.mse_loss(landmarks, target)


class GanTask(JudgedTask):
    """Autoencoder, and who judges its pictures; see the file's head."""

    method: ClassVar[str] = "fse"  # that the encoder is of, in a pack
    averaged: ClassVar[tuple[str, ...]] = ("generator", "encoder")

    def __init__(self, config: GanConfig) -> None:
        super().__init__(config.loop, config.train_resolution)
        self.config = config
        device = self.compute.device
        self.generator = build_generator(config.generator).to(device)
        self.generator.requires_grad_(config.learning_rate > 0)
        mapping = self.generator.mapping
        assert isinstance(mapping, nn.Module)
        self.mean_w = dict(mapping.named_buffers()).get("w_avg", torch.zeros(())).to(device)
        self.top_layer = config.generator.layer_after(config.train_resolution)
        self.encoder = FeatureStyleEncoder(config.encoder, config.generator).to(device)
        self.probe = LatentProbe(config.generator.w_dim).to(device)
        self.modules |= {
            "generator": self.generator,
            "encoder": self.encoder,
            "probe": self.probe,
        }
        self.optimizers["autoencoder"] = self._autoencoder_optimizer()
        self.call_judges(config.judges)

    def _autoencoder_optimizer(self) -> torch.optim.Optimizer:
        encoder = [*self.encoder.parameters(), *self.probe.parameters()]
        synthesis = self.generator.synthesis
        assert isinstance(synthesis, nn.Module)
        groups = [{"params": encoder, "lr": self.config.encoder_learning_rate}]
        if self.config.learning_rate:
            parameters = list(synthesis.parameters())
            groups.insert(0, {"params": parameters, "lr": self.config.learning_rate})
        return torch.optim.Adam(groups, betas=(0.9, 0.99), fused=True)

    def initialise(self, path: Path) -> None:
        """Take over weights (training.weights); ``start`` then says what of them began anew.

        Generator and encoder must fit, but for layers of another resolution and for the feature
        head and editor; the other modules begin anew where they are missing or of another size.
        """
        modules = read_weights(path).modules
        for required in ("generator", "encoder"):
            if required not in modules:
                raise UsageError(f"{path} has no weights of the {required}")
        take_generator(self.generator, modules["generator"], path)
        anew = take_encoder(self.encoder, modules["encoder"], path)
        for name in self.modules.keys() - {"generator", "encoder"}:
            if not take_over(self.modules[name], modules.get(name, {})):
                anew.append(name)
        if self.judges.adversary is not None:
            self.judges.adversary.forget_balance()  # it was another stage's
        self.start = f"{path}; begun anew: {', '.join(sorted(anew)) or 'nothing'}"

    def pack_entry(self) -> dict[str, Any]:
        """What pack.json says of the encoder, but for the file of its weights."""
        return {"config": asdict(self.config.encoder)}

    def pack_tensors(self) -> dict[str, Tensor]:
        """The encoder's weights, as its file in a pack has them."""
        return self.encoder.state_dict()

    def grow_from(self, resolution: int) -> None:
        """Layers above ``resolution`` start silent: the picture is the up-scaled lower one."""
        synthesis = self.generator.synthesis
        if not isinstance(synthesis, GrowingSynthesis):
            raise UsageError(f"a generator of kind {self.config.generator.kind!r} does not grow")
        synthesis.silence_above(resolution)

    def step(self, batch: Batch, number: int, average: GradientAverage) -> Metrics:
        batch, count = self._photographs(batch)
        with self.compute.autocast():
            latents = self.encoder(batch.images)[0].float()
            picture = self.synthesise(self.noisy(latents))
        metrics: Metrics = {}
        own = self._latent_losses(latents, self.probe.log_sigma, batch, metrics)
        own = own + self._synthetic_loss(latents, count, metrics)
        return metrics | self._picture_step(
            "autoencoder",
            picture,
            batch.images,
            weights=batch.weights,
            number=number,
            average=average,
            more=own,
        )

    def _photographs(self, batch: Batch) -> tuple[Batch, int]:
        """The part of a batch that stays, and how many pictures of the generator's own join it."""
        count = int(self.config.synthetic * len(batch.images))
        return batch_part(batch, slice(0, len(batch.images) - count)), count

    def _synthetic_loss(self, latents_NLD: Tensor, count: int, metrics: Metrics) -> Tensor | float:
        """Of G(E(x)) against x = G(w), w of the Gaussian that the batch's latents have.

        Both have the same noise: none.
        """
        if not count:
            return 0.0
        z = torch.randn(count, len(latents_NLD), device=latents_NLD.device)
        w = drawn_like(latents_NLD.mean(dim=1).detach(), z)
        with torch.no_grad(), self.compute.autocast():
            images = self.synthesise(self.generator.broadcast(w)).float()
        with self.compute.autocast():
            picture = self.synthesise(self.encoder(images)[0].float())
        view, weights = leaf(picture), images.new_ones(count, 1, 1, 1)
        loss = self.judges.reconstruction(
            view, View(images), weights, metrics, suffix="_synthetic", identity=False
        )
        return through([picture], [view], loss)

    def _latent_losses(
        self, latents_NLD: Tensor, log_sigma_D: Tensor, batch: Batch, metrics: Metrics
    ) -> Tensor:
        w = self.mean_row(latents_NLD)
        metrics["kl"] = gaussian_kl(w, log_sigma_D)
        metrics["supervision"] = self.probe.loss(w, batch)
        config = self.config
        loss = config.kl_weight * metrics["kl"] + config.supervision_weight * metrics["supervision"]
        if config.encoder.latent_space == "w+":
            mean = latents_NLD.mean(dim=1, keepdim=True)
            metrics["rows"] = (latents_NLD - mean).square().sum(dim=(1, 2)).mean()
            loss = loss + config.row_weight * metrics["rows"]
        return loss

    def mean_row(self, latents_NLD: Tensor) -> Tensor:
        """``[N, D]``: mean of a face's rows, from the mean w of the generator's mapping.

        That is 0 until a pack is made, and far from it in a pack (training.mapping).
        """
        return latents_NLD.mean(dim=1) - self.mean_w

    def noisy(self, latents_NLD: Tensor) -> Tensor:
        """Latents with noise where a generator that learns is to have it."""
        wanted = self.config.learning_rate and self.config.latent_noise
        return self.probe.noisy(latents_NLD) if wanted else latents_NLD

    def synthesise(self, latents_NLD: Tensor, generator: Generator | None = None) -> Tensor:
        """Picture at the stage's resolution; noise is off while an autoencoder trains."""
        network = (generator or self.generator).synthesis
        return network.run(latents_NLD, stop=self.top_layer, noise_mode="none").picture_N3HW

    def forward(self, modules: dict[str, nn.Module], batch: Batch) -> None:
        modules["encoder"](batch.images)

    @torch.no_grad()
    def evaluate(
        self, ema: dict[str, nn.Module], batch: Batch
    ) -> tuple[dict[str, float], list[Tensor]]:
        """Measures of G(w), R^2 of the probe; sheet rows: source, G(w), samples of a Gaussian."""
        generator, encoder = ema["generator"], ema["encoder"]
        assert isinstance(generator, GeneratorNetwork)
        latents = encoder(batch.images)[0]
        picture = self.synthesise(latents, generator)
        metrics = self.measure(picture, batch.images, "_w")
        w = latents.mean(dim=1)
        predicted = self.probe.head(self.mean_row(latents))[:, : len(ATTRIBUTES)]
        for index, name in enumerate(ATTRIBUTES):
            target = batch.targets[:, index]
            known = ~torch.isnan(target)
            if known.sum() < 2:  # video has no labels of age or gender
                continue
            residual = (predicted[known, index] - target[known]).square().mean()
            metrics[f"r2_{name}"] = float(1 - residual / target[known].var())
        z = torch.randn(16, len(w), generator=torch.Generator().manual_seed(0))
        samples = self.synthesise(generator.broadcast(drawn_like(w, z)), generator)
        return metrics, [batch.images[:16], picture[:16], samples]


def batch_part(batch: Batch, part: slice) -> Batch:
    """Some faces of a batch."""
    return Batch(
        batch.images[part], batch.weights[part], batch.targets[part], batch.landmarks[part]
    )


def drawn_like(w_ND: Tensor, z_MN: Tensor) -> Tensor:
    """``[M, D]`` from normal numbers: the Gaussian of the mean and covariance of ``w``."""
    mean = w_ND.mean(dim=0)
    return mean + z_MN.to(w_ND) / len(w_ND) ** 0.5 @ (w_ND - mean)
