"""Encoders into W+ of pSp's kind, for a pack's generator, which stands still.

pSp (Richardson et al. 2021, section 3.2): L2 1, LPIPS 0.8, identity 0.1 and the norm of the codes
0.005; ``judges`` says who serves as each (training.judges). e4e's additions (Tov et al. 2021,
section 4) are flags, for ``psp: {rows: offsets}``: its norm of the offsets (``offset_weight``
0.0002), rows that get their offset one after the other (``first_offset_images``,
``next_offset_images``), and a discriminator that tells codes from w of the mapping
(``latent_weight`` 0.1, with R1 10 every 16 steps). Left out of its code: the pool of 50 earlier
codes. With ``psp.steps`` above 1 every step is learned by itself (ReStyle, Alaluf et al. 2021,
section 3.2). The codes are 0 at first.

    python -m training psp --config configs/faces_psp128.yaml --out runs/psp128
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from training.discriminator import LatentDiscriminator, logistic, non_saturating, r1_penalty
from training.judges import JudgesConfig, Metrics
from training.loop import Batch, GradientAverage
from training.pack_stage import PackStageConfig, PackTask
from vidinv.inversion.psp import PspInverter
from vidinv.inversion.psp_encoder import PspConfig, PspEncoder

PSP_JUDGES = JudgesConfig(
    pixel="l2", perceptual_weight=0.8, identity_weight=0.1, identity_share=1, adversary=None
)
LATENT_R1, LATENT_R1_INTERVAL = 10.0, 16  # e4e's code
LATENT_SAMPLES = 10_000  # of w, for its mean and spread


@dataclass(frozen=True, kw_only=True)
class PspStage(PackStageConfig):
    """Training of an encoder into W+.

    Attributes:
        psp: its sizes; how rows of w+ are given.
        learning_rate: the paper's, for batches of 8 (there with Ranger, here with Adam).
        norm_weight: of the norm of the codes (pSp, section 3.2).
        offset_weight: of the norms of the rows' offsets (e4e, section 4); e4e has 2e-4, and
            ``norm_weight`` 0.
        first_offset_images: images before the second row gets its offset; 0: all do at once.
        next_offset_images: images from one row to the next.
        latent_weight: of the latents' discriminator in the encoder's loss; e4e has 0.1.
        latent_learning_rate: of that discriminator, e4e's.
    """

    psp: PspConfig
    learning_rate: float = 1e-4
    norm_weight: float = 0.005
    offset_weight: float = 0.0
    first_offset_images: int = 0
    next_offset_images: int = 16_000
    latent_weight: float = 0.0
    latent_learning_rate: float = 2e-5
    judges: JudgesConfig = field(default_factory=lambda: PSP_JUDGES)

    def __post_init__(self) -> None:
        """ValueError where flags of e4e meet rows that have no offsets."""
        if self.psp.rows == "own" and (self.offset_weight or self.first_offset_images):
            raise ValueError("offset_weight and first_offset_images need psp: {rows: offsets}")
        if self.next_offset_images < 1:
            raise ValueError("next_offset_images must be at least 1")


class PspTask(PackTask):
    """Trains E; see the file's head."""

    method = "psp"
    averaged: ClassVar[tuple[str, ...]] = ("encoder",)

    def __init__(self, config: PspStage) -> None:
        super().__init__(config)
        self.config = config
        self.encoder = self.compute.place(PspEncoder(config.psp, self.generator.config))
        self.encoder.start_at(self.mean_latents())
        self.modules["encoder"] = self.encoder
        self.optimizers["encoder"] = torch.optim.Adam(
            self.encoder.parameters(), lr=config.learning_rate, fused=True
        )
        if config.latent_weight:
            self._call_latent_discriminator(config.latent_learning_rate)
        self.call_judges(config.judges)
        self.inverter = PspInverter(self.generator, self.encoder)

    def _call_latent_discriminator(self, rate: float) -> None:
        with torch.no_grad():
            z = torch.randn(LATENT_SAMPLES, self.generator.z_dim, device=self.compute.device)
            w = self.generator.mapping(z)
        self.latent_discriminator = LatentDiscriminator(w).to(self.compute.device)
        self.modules["latent_discriminator"] = self.latent_discriminator
        self.optimizers["latent_discriminator"] = torch.optim.Adam(
            self.latent_discriminator.parameters(), lr=rate, fused=True
        )

    def step(self, batch: Batch, number: int, average: GradientAverage) -> Metrics:
        x, offsets = self.encoder.resize(batch.images), self.offsets_at(self._images_seen(number))
        latents, metrics = self.inverter.start(len(x)), Metrics()
        for _ in range(self.config.psp.steps):
            with self.compute.autocast():
                latents = self.inverter.advance(x, latents, offsets=offsets).float()
                picture = self.generator.synthesis(latents)
            loss = self._latent_losses(latents, offsets, metrics)
            metrics |= self._picture_step(
                "encoder",
                picture,
                batch.images,
                weights=batch.weights,
                number=number,
                average=average,
                more=loss,
            )
            latents = latents.detach()
        if self.config.latent_weight:
            self._latent_step(latents, offsets, number, average, metrics)
        return metrics

    def offsets_at(self, images_seen: int) -> int | None:
        """Rows after the first that have their offsets by now; None: all of them."""
        config = self.config
        if not config.first_offset_images:
            return None
        since = images_seen - config.first_offset_images
        return max(0, since // config.next_offset_images + 1)

    def _latent_losses(self, latents_NLD: Tensor, offsets: int | None, metrics: Metrics) -> Tensor:
        config, codes = self.config, latents_NLD - self.encoder.latent_avg
        metrics["norm"] = codes.flatten(1).norm(dim=1).mean()
        loss = config.norm_weight * metrics["norm"]
        if config.offset_weight:
            metrics["offset"] = offset_norms(latents_NLD).mean()
            loss = loss + config.offset_weight * metrics["offset"]
        if config.latent_weight:
            rows = self._judged_rows(latents_NLD, offsets)
            metrics["latent"] = non_saturating(self.latent_discriminator, rows)
            loss = loss + config.latent_weight * metrics["latent"]
        return loss

    def _judged_rows(self, latents_NLD: Tensor, offsets: int | None) -> Tensor:
        """``[M, D]``: those that differ from each other."""
        rows = latents_NLD if offsets is None else latents_NLD[:, : 1 + offsets]
        return rows.flatten(0, 1)

    def _latent_step(
        self,
        latents_NLD: Tensor,
        offsets: int | None,
        number: int,
        average: GradientAverage,
        metrics: Metrics,
    ) -> None:
        """The latents' discriminator learns, on as many w of the mapping as there are codes."""
        fake = self._judged_rows(latents_NLD, offsets)
        z = torch.randn(len(fake), self.generator.z_dim, device=fake.device)
        with torch.no_grad():
            real = self.generator.mapping(z)
        metrics["latent_discriminator"] = logistic(self.latent_discriminator, real, fake)
        self._optimise("latent_discriminator", metrics["latent_discriminator"], average)
        if number % LATENT_R1_INTERVAL == 0:
            real = real.clone().requires_grad_(True)
            # Times the interval, so that what the log has is the mean of all steps.
            metrics["latent_r1"] = (
                r1_penalty(self.latent_discriminator(real), real) * LATENT_R1_INTERVAL
            )
            self._optimise("latent_discriminator", LATENT_R1 / 2 * metrics["latent_r1"], average)

    def _inverter(self, encoder: nn.Module) -> PspInverter:
        assert isinstance(encoder, PspEncoder)
        return PspInverter(self.generator, encoder)

    def pack_entry(self) -> dict[str, Any]:
        return {"config": asdict(self.config.psp)}

    def pack_tensors(self) -> dict[str, Tensor]:
        return self.encoder.state_dict()

    def forward(self, modules: dict[str, nn.Module], batch: Batch) -> None:
        self._inverter(modules["encoder"]).encode(batch.images)

    @torch.no_grad()
    def evaluate(
        self, ema: dict[str, nn.Module], batch: Batch
    ) -> tuple[dict[str, float], list[Tensor]]:
        """Measures of G(w+) and of a smile; ``offset`` is the mean norm of a row's distance from w.

        Sheet rows: source, G(w+), edited.
        """
        inverter, images = self._inverter(ema["encoder"]), batch.images
        latents = inverter.encode(images).latents_NLD
        picture = self.generator.synthesis(latents)
        metrics, rows = self.measure(picture, images), [images, picture]
        metrics["offset"] = float(offset_norms(latents).mean()) / (latents.shape[1] - 1)
        if edit := self.shown_edit(len(images)):
            moved = self.directions.apply(latents, edit).latents_NLD
            rows.append(self.generator.synthesis(moved))
            measured = self.measure(rows[-1], images)
            metrics |= {f"{k}_edit": measured[k] for k in ("identity",) if k in measured}
        return metrics, [row[:16] for row in rows]


def offset_norms(latents_NLD: Tensor) -> Tensor:
    """``[N]``: sum over the rows of their distance from the first (e4e, section 4)."""
    return (latents_NLD[:, 1:] - latents_NLD[:, :1]).norm(dim=2).sum(dim=1)
