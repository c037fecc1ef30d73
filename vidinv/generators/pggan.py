"""PGGAN generators (Karras et al. 2018, table 2): plain convolutions from z, pixel normalisation.

Latents have one row, z itself at a root mean square of 1. Parameter names are genforce's
(docs/REFERENCES.md, "StyleGAN1, PGGAN and BigGAN layouts"). K counts convolutions, from 1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidinv.generators.base import GeneratorNetwork, LatentSpace
from vidinv.generators.chain import ChainSynthesis, LayerInput
from vidinv.generators.layers import lrelu
from vidinv.generators.mapping import normalise_rms
from vidinv.generators.pyramids import PyramidConfig

HE_GAIN = math.sqrt(2.0)


@dataclass(frozen=True)
class PGGANConfig(PyramidConfig):
    """Sizes; channels(r) = min(channel_base / r, channel_max)."""

    kind: ClassVar[str] = "pggan"

    resolution: int
    channel_base: int = 16384
    channel_max: int = 512
    z_dim: int = 512

    @property
    def w_dim(self) -> int:
        return self.z_dim

    @property
    def num_ws(self) -> int:
        return 1

    @property
    def latent_spaces(self) -> tuple[LatentSpace, ...]:
        """Its one row of latents is z; ``"w"`` names that row."""
        return "z", "w"

    @property
    def style_channels(self) -> Mapping[str, int]:
        return {}


class NormalisedMapping(nn.Module):
    """z at a root mean square of 1."""

    def forward(
        self, z_NZ: Tensor, *, truncation: float = 1.0, classes_N: Tensor | None = None
    ) -> Tensor:
        if classes_N is not None:
            raise ValueError("this generator is not class-conditional")
        return normalise_rms(z_NZ) * truncation


class ConvLayer(nn.Module):
    """Pixel normalisation, enlargement where asked for, equalised convolution, leaky ReLU."""

    def __init__(
        self, in_channels: int, channels: int, size: int, *, padding: int, up: bool = False
    ) -> None:
        super().__init__()
        self.padding, self.up = padding, up
        self.weight = nn.Parameter(torch.randn(channels, in_channels, size, size))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.scale = 1 / math.sqrt(in_channels * size**2)

    def forward(self, x: Tensor, *, gain: float = HE_GAIN) -> Tensor:
        x = normalise_rms(x)
        if self.up:
            x = F.interpolate(x, scale_factor=2, mode="nearest")
        return F.conv2d(x, self.weight * (self.scale * gain), self.bias, padding=self.padding)


class PGGANSynthesis(ChainSynthesis):
    """z -> image, in one pass or in parts."""

    config: PGGANConfig

    def __init__(self, config: PGGANConfig) -> None:
        super().__init__()
        self.config = config
        channels = config.z_dim
        for layer in range(1, config.num_layers + 1):
            width = config.feature_shape(layer)[0]
            if layer == 1:
                module = ConvLayer(channels, width, 4, padding=3)
            else:
                module = ConvLayer(channels, width, 3, padding=1, up=layer % 2 == 1)
            self.add_module(self.layer_name(layer), module)
            channels = width
        self.output = ConvLayer(channels, 3, 1, padding=0)

    def layer_name(self, layer: int) -> str:
        return f"layer{layer - 1}"

    def apply_layer(self, layer: int, x: Tensor | None, given: LayerInput) -> Tensor:
        x = given.latents_NLD[:, 0, :, None, None] if x is None else x
        return lrelu(getattr(self, self.layer_name(layer))(x), gain=1.0)

    def to_picture(self, x: Tensor) -> Tensor:
        picture: Tensor = self.output(x, gain=1.0)
        return picture


class PGGANGenerator(GeneratorNetwork):
    """Its mapping only normalises."""

    config: PGGANConfig
    mapping: NormalisedMapping
    synthesis: PGGANSynthesis

    def __init__(self, config: PGGANConfig) -> None:
        super().__init__()
        self.config = config
        self.synthesis = PGGANSynthesis(config)
        self.mapping = NormalisedMapping()
