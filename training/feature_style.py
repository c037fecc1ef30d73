"""Feature-Style stage: the feature head joins, and the generator grows to the pack's resolution.

Two inversions are learned side by side, G(w) and G(w, F) (FSE paper, figure 3). Losses: eq. 2 and
eq. 3 with a multi-scale L1 + SSIM in the place of LPIPS, whose backbone is not to be had offline
(discriminator features where a discriminator is trained); eq. 4 on the head's prediction. Eqs. 6-7
need networks trained elsewhere and are left out. The generator learns along at a lower rate: it was
made as this encoder's decoder, so there is no synthetic half of the batch.

An F that reconstructs everything pins the picture: eq. 1 then edits nothing (at 27.5 dB, a smile
had a third of its effect in G(w); docs/LOG.md). So part of every batch is edited along the
attributes, and the change of G(w, F) must be that of G(w), at half size, where G(w) is sharp.

    python -m training encoder --config configs/faces_fse128.yaml --out runs/fse128
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from training.data import ATTRIBUTES
from training.gan import GanConfig, GanTask
from training.loop import Batch, GradientAverage
from training.losses import gaussian_kl, pixel_structure_loss, psnr
from vidinv.generators.base import GeneratorNetwork
from vidinv.inversion.fse import FeatureStyleInverter
from vidinv.inversion.fse_encoder import FeatureStyleEncoder
from vidinv.metrics.structure import ssim_map

FULL_SIZE_INTERVAL = 2  # G(w) is judged at full size every other step, at half size else (cost)


@dataclass(frozen=True)
class EncoderConfig(GanConfig):
    """A Feature-Style stage.

    Attributes:
        feature_penalty: weight of eq. 4, the mean square of F - G^K(w); it trades reconstruction
            for the attribute gain of edits.
        edit_weight: of the edit's loss: mean absolute difference between the change of G(w, F)
            and that of G(w).
    """

    feature_penalty: float = 0.01
    edit_weight: float = 0.0


EDITED_SHARE = 4  # one face in four is edited in a step
MAX_EDIT = 2.5  # standard deviations of the attribute


class EditDirections(nn.Module):
    """Running regression of w on the attributes: what an attribute changes, the rest held fixed."""

    moments_AA: Tensor
    cross_AD: Tensor

    def __init__(self, num_attributes: int, w_dim: int) -> None:
        super().__init__()
        self.register_buffer("moments_AA", torch.eye(num_attributes))
        self.register_buffer("cross_AD", torch.zeros(num_attributes, w_dim))

    @torch.no_grad()
    def update(self, targets_NA: Tensor, w_ND: Tensor) -> None:
        """Take in a batch; unknown targets (NaN) count as average."""
        targets = torch.nan_to_num(targets_NA)
        self.moments_AA.lerp_(targets.T @ targets / len(targets), 0.02)
        self.cross_AD.lerp_(targets.T @ (w_ND - w_ND.mean(dim=0)) / len(targets), 0.02)

    @torch.no_grad()
    def draw(self, count: int) -> Tensor:
        """``[count, D]`` edits, each along one attribute by up to ``MAX_EDIT``."""
        directions = torch.linalg.solve(self.moments_AA, self.cross_AD)
        chosen = directions[torch.randint(len(directions), [count])]
        return chosen * (torch.rand(count, 1) * 2 - 1) * MAX_EDIT


class FeatureStyleTask(GanTask):
    """Trains latent head, feature head and generator together; see the file's head."""

    config: EncoderConfig

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__(config)
        self.edits = EditDirections(len(ATTRIBUTES), config.generator.w_dim)
        self.modules["edits"] = self.edits

    def step(self, batch: Batch, number: int, average: GradientAverage) -> dict[str, Tensor]:
        latents, stage = self.encoder(batch.images)
        stop = self.encoder.config.feature_layer
        synthesis = self.generator.synthesis
        lower = synthesis.run(latents, stop=stop, noise_mode="none")
        residual = self.encoder.feature_residual(stage, lower.features_NCHW)
        assert residual is not None
        featured = lower.replace_features(lower.features_NCHW + residual)
        with_features = synthesis.run(
            latents, start=featured, stop=self.top_layer, noise_mode="none"
        ).picture_N3HW
        side = self.config.train_resolution // (1 if number % FULL_SIZE_INTERVAL == 0 else 2)
        layer = self.config.generator.layer_after(side)
        without = synthesis.run(latents, start=lower, stop=layer, noise_mode="none").picture_N3HW
        target = nn.functional.adaptive_avg_pool2d(batch.images, side)
        metrics = {
            "reconstruction_w": pixel_structure_loss(without, target, batch.weights),
            "reconstruction": pixel_structure_loss(with_features, batch.images, batch.weights),
            "feature": residual.square().mean(),
            "kl": gaussian_kl(latents[:, 0], self.probe.log_sigma.detach()),
            "supervision": self.probe.loss(latents[:, 0], batch),
        }
        loss = (
            metrics["reconstruction_w"]
            + metrics["reconstruction"]
            + self.config.feature_penalty * metrics["feature"]
            + self.config.kl_weight * metrics["kl"]
            + self.config.supervision_weight * metrics["supervision"]
        )
        if self.config.edit_weight > 0:
            metrics["edit"] = self._edit_loss(latents, residual, with_features, batch)
            loss = loss + self.config.edit_weight * metrics["edit"]
        if self.discriminator is not None:
            loss = loss + self._adversarial(
                self.discriminator, with_features, batch.images, metrics
            )
        self._optimise("autoencoder", loss, average)
        if self.discriminator is not None:
            metrics |= self._discriminator_step(
                self.discriminator, with_features, batch.images, number, average
            )
        return metrics

    def _edit_loss(
        self, latents: Tensor, residual: Tensor, with_features: Tensor, batch: Batch
    ) -> Tensor:
        self.edits.update(batch.targets, latents[:, 0].detach())
        part = max(1, len(latents) // EDITED_SHARE)
        synthesis = self.generator.synthesis
        edited = latents[:part] + self.edits.draw(part)[:, None]
        lower = synthesis.run(edited, stop=self.encoder.config.feature_layer, noise_mode="none")
        featured = lower.replace_features(lower.features_NCHW + residual[:part])
        changed = synthesis.run(
            edited, start=featured, stop=self.top_layer, noise_mode="none"
        ).picture_N3HW
        with torch.no_grad():
            wanted = self._half_size(edited) - self._half_size(latents[:part])
        change = nn.functional.avg_pool2d(changed - with_features[:part], 2)
        return (change - wanted).abs().mean()

    def _half_size(self, latents: Tensor) -> Tensor:
        """G(w) at half the stage's size."""
        return nn.functional.avg_pool2d(self.synthesise(latents), 2)

    def forward(self, modules: dict[str, nn.Module], batch: Batch) -> None:
        generator, encoder = modules["generator"], modules["encoder"]
        assert isinstance(generator, GeneratorNetwork)
        assert isinstance(encoder, FeatureStyleEncoder)
        FeatureStyleInverter(generator, encoder).encode(batch.images)

    @torch.no_grad()
    def evaluate(
        self, ema: dict[str, nn.Module], batch: Batch
    ) -> tuple[dict[str, float], list[Tensor]]:
        """PSNR and SSIM of G(w) and G(w, F); sheet rows: source, G(w), G(w, F)."""
        generator, encoder = ema["generator"], ema["encoder"]
        assert isinstance(generator, GeneratorNetwork)
        assert isinstance(encoder, FeatureStyleEncoder)
        inverter = FeatureStyleInverter(generator, encoder)
        inversion = inverter.encode(batch.images)
        picture = generator.synthesis(inversion.latents_NLD)
        featured = inverter.render(inversion, inversion.unedited)
        metrics = {
            "psnr_w": float(psnr(picture, batch.images).mean()),
            "psnr": float(psnr(featured, batch.images).mean()),
            "ssim": float(ssim_map(featured, batch.images).mean()),
        }
        return metrics, [batch.images[:16], picture[:16], featured[:16]]
