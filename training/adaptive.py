"""Adaptive-block encoders (Yu et al., sections 3.1 and 3.2): the mirror of a pack's generator.

The generator stands still.
A batch is part generated pictures x = G(w), whose latents are known, part photographs y. The loss
is eq. 3 over the whole picture and its crops AT1 and AT2 (eq. 2), with mu_1 and mu_2 of strategy
S1 (1 and 1) or S2 (5 and 9), and for generated pictures epsilon times eqs. 4 and 5 against the true
latents and the generator's own constant. The paper trains on generated pictures alone, and makes up
for photographs by tuning to each for half an hour; ``synthetic`` is their share.

    python -m training adaptive --config configs/faces_adaptive128.yaml --out runs/adaptive128
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from training.judges import Metrics
from training.loop import Batch, GradientAverage
from training.pack_stage import PackStageConfig, PackTask
from training.terms import View
from vidinv.inversion.adaptive import ADAM_BETAS, AdaptiveConfig, AdaptiveInverter
from vidinv.inversion.adaptive_loss import STRATEGIES, ImageLoss, latent_loss
from vidinv.inversion.adaptive_networks import CONSTANT, AdaptiveEncoder
from vidinv.inversion.attention import build_attention
from vidinv.inversion.perceptual import STRUCTURE_NAME
from vidinv.metrics.structure import pixel_structure_distance


@dataclass(frozen=True, kw_only=True)
class AdaptiveStage(PackStageConfig):
    """Training of an encoder.

    Attributes:
        adaptive: its sizes, the kind of attention; how the pack's method is to tune it.
        learning_rate: the paper's, for batches of 2 to 8.
        strategy: weights of the crops: ``"s1"`` or ``"s2"``; ``"none"`` leaves them out.
        image_gradients: the losses of pictures reach the encoder. Without, epsilon times the
            latents' loss trains it alone, as the public code of S1 does.
        latent_weight: epsilon.
        synthetic: share of generated pictures in a batch, 0..1.
        sampler: method of the pack whose latents of photographs the generated pictures are made
            from; "" draws them from z, as the paper does.
    """

    adaptive: AdaptiveConfig
    learning_rate: float = 1.5e-3
    strategy: Literal["s1", "s2", "none"] = "s2"
    image_gradients: bool = True
    latent_weight: float = 0.01
    synthetic: float = 1.0
    sampler: str = ""

    def __post_init__(self) -> None:
        if not 0 <= self.synthetic <= 1:
            raise ValueError(f"synthetic must be a share, got {self.synthetic}")
        if not self.image_gradients and self.synthetic < 1:
            raise ValueError("without image_gradients nothing is learned of photographs")


class AdaptiveTask(PackTask):
    """Trains E; see the file's head."""

    method = "adaptive"
    averaged: ClassVar[tuple[str, ...]] = ("encoder",)

    def __init__(self, config: AdaptiveStage) -> None:
        super().__init__(config)
        self.config = config
        self.encoder = self.compute.place(
            AdaptiveEncoder(config.adaptive.sizes, self.generator.config)
        )
        self.encoder.start_at(self.mean_latents())
        self.modules["encoder"] = self.encoder
        self.optimizers["encoder"] = torch.optim.Adam(
            self.encoder.parameters(), lr=config.learning_rate, betas=ADAM_BETAS, fused=True
        )
        self.sampler = self.first_inverter(config.sampler) if config.sampler else None
        self.call_judges(config.judges)
        if self.judges.perceptual is None:
            self.networks["perceptual"] = STRUCTURE_NAME
        weights = STRATEGIES.get(config.strategy, (0.0, 0.0))
        attention = config.adaptive.attention if config.strategy != "none" else "none"
        self.loss = ImageLoss(
            self._distance,
            build_attention(attention, self.compute.device),
            weights,
            config.adaptive.structure,
        )
        self.inverter = self._inverter(self.encoder)

    def step(self, batch: Batch, number: int, average: GradientAverage) -> Metrics:
        with self.compute.autocast():
            source, true_latents = self._sources(batch.images)
            latents, codes = self.inverter.run(source)
            picture = None
            if self.config.image_gradients:
                picture = self.inverter.picture(latents, codes).float()
        latents, codes = latents.float(), {name: code.float() for name, code in codes.items()}
        metrics: Metrics = {}
        loss = latents.new_zeros(())
        if picture is not None:
            loss = self.loss(picture, source).mean()
            metrics["image"] = loss.detach()
        count = len(true_latents)
        if count:
            constant = self.generator.synthesis.constant_1CHW
            mine = {name: code[:count] for name, code in codes.items()}
            true = {} if constant is None else {CONSTANT: constant.expand_as(mine[CONSTANT])}
            apart = latent_loss(latents[:count], true_latents, mine, true).mean()
            metrics["latent"] = apart.detach()
            loss = loss + self.config.latent_weight * apart
        self._optimise("encoder", loss, average)
        return metrics

    def _sources(self, images_N3RR: Tensor) -> tuple[Tensor, Tensor]:
        """Generated pictures, then photographs; and the latents of the first."""
        count = round(self.config.synthetic * len(images_N3RR))
        generator = self.generator
        with torch.no_grad():
            if self.sampler is None:
                z = torch.randn(count, generator.z_dim, device=images_N3RR.device)
                w = generator.mapping(z)
                latents = generator.broadcast(w).contiguous()
            else:
                latents = self.sampler.encode_latents(images_N3RR[:count]).clone()
            latents, pictures = latents.float(), generator.synthesis(latents).float()
        source = torch.cat([pictures, images_N3RR[count:]])
        return source.contiguous(memory_format=torch.channels_last), latents

    def _distance(self, picture_N3RR: Tensor, source_N3RR: Tensor) -> Tensor:
        """In the place of LPIPS."""
        if self.judges.perceptual is None:
            return pixel_structure_distance(picture_N3RR, source_N3RR)
        return self.judges.perceptual.distance(View(picture_N3RR), View(source_N3RR))

    def _inverter(self, encoder: nn.Module) -> AdaptiveInverter:
        """The method without tuning."""
        assert isinstance(encoder, AdaptiveEncoder)
        return AdaptiveInverter(self.generator, encoder, self.config.adaptive, loss=self.loss)

    def pack_entry(self) -> dict[str, Any]:
        return {"config": asdict(self.config.adaptive)}

    def pack_tensors(self) -> dict[str, Tensor]:
        return self.encoder.state_dict()

    def forward(self, modules: dict[str, nn.Module], batch: Batch) -> None:
        self._inverter(modules["encoder"]).run(batch.images)

    @torch.no_grad()
    def evaluate(
        self, ema: dict[str, nn.Module], batch: Batch
    ) -> tuple[dict[str, float], list[Tensor]]:
        """Measures of G(w', z_c') before any tuning, of G(w'), and of a smile.

        ``kept``: share of the edit's change of G(w') that z_c' leaves. Sheet rows: source, G(w'),
        G(w', z_c'), then the two edited.
        """
        inverter, images = self._inverter(ema["encoder"]), batch.images
        latents, codes = inverter.run(images)
        plain, full = self.generator.synthesis(latents), inverter.picture(latents, codes)
        metrics = self.measure(plain, images, "_w") | self.measure(full, images)
        rows = [images, plain, full]
        if edit := self.shown_edit(len(images)):
            moved = self.directions.apply(latents, edit).latents_NLD
            plain_edited = self.generator.synthesis(moved)
            edited = inverter.picture(moved, codes)
            rows += [plain_edited, edited]
            metrics |= self.measure_edit(edited, full, batch, plain=plain_edited - plain)
        return metrics, [row[:16] for row in rows]
