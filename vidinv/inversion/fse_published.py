"""The Feature-Style encoder as published (Yao et al. 2022, section 3, figure 2), for its weights.

InsightFace's iresnet50 at 256 px; a linear head of its own for each row of w+, on the four stages
pooled to 3x3; F from the penultimate stage. Parameter names are the public code's
(docs/REFERENCES.md, "Feature-Style details"), ``latent_avg`` goes with the weights.

Shapes: x ``[N, 3, R, R]`` in [-1, 1], latents ``[N, L, D]``, features as the generator's own after
layer K.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidinv.generators.base import GeneratorConfig
from vidinv.inversion.fse_encoder import POOL_SIZE, FeatureEditor, without_margin
from vidinv.networks.iresnet import BLOCKS, WIDTHS, iresnet_stage

STAGES = range(1, 5)


@dataclass(frozen=True)
class PublishedConfig:
    """Sizes of the encoder; the defaults are the published ones.

    Attributes:
        trunk: says in pack.json that the encoder is this one.
        input_resolution: that pictures are halved to, again and again.
        widths, blocks: channels and residual blocks of the four stages.
        feature_layer: K, convolutions of the generator that run before F comes in.
        feature_stride: of the feature head's second convolution: 2 for F at 16 px (K of 4 and 5),
            1 at 32 px (6 and 7).
    """

    trunk: Literal["iresnet"] = "iresnet"
    input_resolution: int = 256
    widths: tuple[int, int, int, int] = WIDTHS
    blocks: tuple[int, int, int, int] = BLOCKS
    feature_layer: int = 5
    feature_stride: int = 2

    def __post_init__(self) -> None:
        if self.trunk != "iresnet":
            raise ValueError(f'trunk must be "iresnet", got {self.trunk!r}')
        if self.feature_stride not in (1, 2):
            raise ValueError(f"feature_stride must be 1 or 2, got {self.feature_stride}")


class PublishedEncoder(nn.Module):
    """x -> latents and F; the interface is that of ``FeatureStyleEncoder``."""

    latent_avg: Tensor
    feature_editor: FeatureEditor | None = None

    def __init__(self, config: PublishedConfig, generator: GeneratorConfig) -> None:
        super().__init__()
        self.config = config
        widths, before = config.widths, config.widths[0]
        stem = nn.Conv2d(3, before, 3, padding=1, bias=False)
        self.conv = nn.Sequential(stem, nn.BatchNorm2d(before), nn.PReLU(before))
        for number, width, depth in zip(STAGES, widths, config.blocks, strict=True):
            self.add_module(f"block_{number}", iresnet_stage(before, width, depth))
            before = width
        channels, side, _ = generator.feature_shape(config.feature_layer)
        self.margin = generator.feature_margin(config.feature_layer)
        self._check_side(side - 2 * self.margin)
        self.content_layer = nn.Sequential(
            nn.BatchNorm2d(widths[2]),
            nn.Conv2d(widths[2], channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.PReLU(channels),
            nn.Conv2d(channels, channels, 3, config.feature_stride, padding=1, bias=False),
            nn.BatchNorm2d(channels),
        )
        pooled = sum(widths) * POOL_SIZE**2
        self.styles = nn.ModuleList(
            nn.Linear(pooled, generator.w_dim) for _ in range(generator.num_ws)
        )
        self.register_buffer("latent_avg", torch.zeros(generator.num_ws, generator.w_dim))

    @property
    def feature_head(self) -> nn.Module:
        """It always has one."""
        return self.content_layer

    def forward(self, x_N3RR: Tensor) -> tuple[Tensor, Tensor]:
        """Latents ``[N, L, D]``, and F without the margin that some generators have."""
        x, pooled = self.conv(self._resize(x_N3RR)), []
        for number in STAGES:
            x = getattr(self, f"block_{number}")(x)
            pooled.append(F.adaptive_avg_pool2d(x, POOL_SIZE))
            if number == STAGES[-2]:
                features = self.content_layer(x)
        pooled_NP = torch.cat(pooled, dim=1).flatten(1)
        rows = torch.stack([head(pooled_NP) for head in self.styles], dim=1)
        return rows + self.latent_avg, features

    def feature_residual(self, features_NCHW: Tensor, generated_NCHW: Tensor) -> Tensor:
        """F - G^K(w) of the shape of ``generated_NCHW`` = G^K(w), 0 beyond the picture."""
        residual = features_NCHW - without_margin(generated_NCHW, self.margin)
        return F.pad(residual, [self.margin] * 4) if self.margin else residual

    def _resize(self, x: Tensor) -> Tensor:
        """Bilinear by 0.5 until it fits, as the public code does."""
        side = self.config.input_resolution
        while x.shape[-1] > side:
            x = F.interpolate(x, scale_factor=0.5, mode="bilinear", align_corners=False)
        if x.shape[-1] != side:
            raise ValueError(
                f"faces must be {side} px or that times a power of two, got {x.shape[-1]}"
            )
        return x

    def _check_side(self, visible: int) -> None:
        given = self.config.input_resolution // 8 // self.config.feature_stride
        if visible != given:
            raise ValueError(
                f"F after layer {self.config.feature_layer} is {visible} px, and the encoder's "
                f"{given}: choose another feature_layer or feature_stride"
            )
