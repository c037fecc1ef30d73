"""StyleGAN2 generator (Karras et al. 2020) with partial passes, sized by configuration.

One class runs our 64 px model and FFHQ-1024 config-f. Parameter names and numerics are NVIDIA's
(docs/REFERENCES.md, "StyleGAN2 layout"). Synthesis can stop after any convolution and resume from
there with changed features, which is what the Feature-Style encoder needs: G^K(w) and G(w, F) share
the passes up to layer K (FSE paper, eq. 1). K counts convolutions: conv1 of 4x4 is 1, conv0 and
conv1 of 8x8 are 2 and 3, ...; the block of resolution r ends at K = 2 log2(r) - 3.

Shapes as in ``vidinv.generators.base``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from vidinv.generators.base import (
    GeneratorNetwork,
    LatentSpace,
    NoiseMode,
    SynthesisState,
    check_pass,
)
from vidinv.generators.layers import upsample_fir
from vidinv.generators.mapping import MappingNetwork
from vidinv.generators.stylegan2_blocks import SynthesisBlock, SynthesisLayer, ToRGB


@dataclass(frozen=True)
class StyleGAN2Config:
    """Sizes of a generator and its discriminator; channels(r) = min(channel_base / r, channel_max).

    config-f at 1024 px is ``StyleGAN2Config(1024, channel_base=32768)``.
    """

    kind: ClassVar[str] = "stylegan2"

    resolution: int
    channel_base: int = 32768
    channel_max: int = 512
    z_dim: int = 512
    w_dim: int = 512
    num_mapping_layers: int = 8

    def __post_init__(self) -> None:
        if self.resolution < 8 or self.resolution & (self.resolution - 1):
            raise ValueError(f"resolution must be a power of two from 8, got {self.resolution}")

    @property
    def resolutions(self) -> tuple[int, ...]:
        return tuple(2**i for i in range(2, int(math.log2(self.resolution)) + 1))

    @property
    def num_ws(self) -> int:
        """Rows L of a w+ code: 2 log2(R) - 2."""
        return 2 * len(self.resolutions)

    @property
    def latent_spaces(self) -> tuple[LatentSpace, ...]:
        return "z", "w", "w+", "style"

    @property
    def num_classes(self) -> int:
        return 0

    @property
    def has_partial_passes(self) -> bool:
        return True

    @property
    def num_layers(self) -> int:
        return 2 * len(self.resolutions) - 1

    @property
    def style_channels(self) -> dict[str, int]:
        """Input channels of every layer: its affine gives one style for each."""
        channels = {"b4.conv1": self.channels(4), "b4.torgb": self.channels(4)}
        for resolution in self.resolutions[1:]:
            name, width = f"b{resolution}", self.channels(resolution)
            channels[f"{name}.conv0"] = self.channels(resolution // 2)
            channels |= {f"{name}.conv1": width, f"{name}.torgb": width}
        return channels

    def channels(self, resolution: int) -> int:
        return min(self.channel_base // resolution, self.channel_max)

    def feature_shape(self, layer: int) -> tuple[int, int, int]:
        if not 1 <= layer <= self.num_layers:
            raise ValueError(f"layer must be in 1..{self.num_layers}, got {layer}")
        side = layer_resolution(layer)
        return self.channels(side), side, side

    def feature_margin(self, layer: int) -> int:
        return 0

    def layer_after(self, resolution: int) -> int:
        if resolution not in self.resolutions:
            raise ValueError(f"resolution must be one of {self.resolutions}, got {resolution}")
        return block_end(resolution)


def layer_resolution(layer: int) -> int:
    """Side of the features after K convolutions."""
    return 4 << layer // 2


def block_end(resolution: int) -> int:
    """K of the last convolution at a resolution: 2 log2(r) - 3."""
    return 2 * (resolution.bit_length() - 1) - 3


class SynthesisNetwork(nn.Module):
    """w+ -> image, in one pass or in parts."""

    def __init__(self, config: StyleGAN2Config) -> None:
        super().__init__()
        self.config = config
        for resolution in config.resolutions:
            lower = None if resolution == 4 else config.channels(resolution // 2)
            block = SynthesisBlock(lower, config.channels(resolution), config.w_dim, resolution)
            self.add_module(f"b{resolution}", block)

    def forward(
        self,
        latents_NLD: Tensor,
        *,
        start: SynthesisState | None = None,
        noise_mode: NoiseMode = "const",
        weight_residuals: Mapping[str, Tensor] | None = None,
        style_offsets: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        """Image ``[N, 3, R, R]``; with ``start``, only the layers after it run."""
        return self.run(
            latents_NLD,
            stop=self.config.num_layers,
            start=start,
            noise_mode=noise_mode,
            weight_residuals=weight_residuals,
            style_offsets=style_offsets,
        ).picture_N3HW

    def run(
        self,
        latents_NLD: Tensor,
        *,
        stop: int,
        start: SynthesisState | None = None,
        noise_mode: NoiseMode = "const",
        weight_residuals: Mapping[str, Tensor] | None = None,
        style_offsets: Mapping[str, Tensor] | None = None,
    ) -> SynthesisState:
        """Run the layers after ``start`` (or all) up to K = ``stop``, inclusive.

        The ToRGB of a block runs with its conv1: it reads what conv1 made, also where the caller
        then replaces that.

        Args:
            weight_residuals: per-sample residuals ``[N, O, I, k, k]`` keyed ``"b8.conv0"`` etc.
            style_offsets: ``[N, C]`` or ``[C]`` keyed alike, added to what the affine gives.
        """
        residuals, offsets = weight_residuals or {}, style_offsets or {}
        first = 0 if start is None else start.layer
        check_pass(self.config, latents_NLD, first, stop, {*residuals, *offsets})
        x = self._constant(len(latents_NLD)) if start is None else start.features_NCHW
        image = None if start is None else start.image_N3HW
        for layer in range(first + 1, stop + 1):
            block = self._block(layer)
            name = f"b{block.resolution}.conv{layer % 2}"
            x = block.conv(layer % 2)(
                x,
                latents_NLD[:, layer - 1],
                noise_mode=noise_mode,
                weight_residual=residuals.get(name),
                style_offset=offsets.get(name),
            )
            if layer % 2:
                name = f"b{block.resolution}.torgb"
                rgb = block.torgb(
                    x,
                    latents_NLD[:, layer],  # the row of the next conv0
                    weight_residual=residuals.get(name),
                    style_offset=offsets.get(name),
                )
                image = rgb if image is None else rgb + upsample_fir(image, block.resample_filter)
        return SynthesisState(stop, x, image)

    @property
    def constant_1CHW(self) -> Tensor:
        """What the first layer starts from."""
        return self._block(1).const[None]

    def layer_weights(self) -> dict[str, Tensor]:
        """Raw weight ``[O, I, k, k]`` of every modulated layer, by name."""
        return {
            name: module.weight
            for name, module in self.named_modules()
            if isinstance(module, (SynthesisLayer, ToRGB))
        }

    @torch.no_grad()
    def silence_above(self, resolution: int) -> None:
        """Blocks above add nothing to the picture yet: it is the lower one, enlarged."""
        for higher in self.config.resolutions:
            if higher > resolution:
                nn.init.zeros_(self._block(block_end(higher)).torgb.weight)

    def _constant(self, batch: int) -> Tensor:
        const = self._block(1).const
        return const.expand(batch, -1, -1, -1).contiguous(memory_format=torch.channels_last)

    def _block(self, layer: int) -> SynthesisBlock:
        block = getattr(self, f"b{layer_resolution(layer)}")
        assert isinstance(block, SynthesisBlock)
        return block


class StyleGAN2Generator(GeneratorNetwork):
    """Mapping and synthesis; ``mapping.*`` and ``synthesis.*`` as in NVIDIA's ``G_ema``."""

    config: StyleGAN2Config
    mapping: MappingNetwork
    synthesis: SynthesisNetwork

    def __init__(self, config: StyleGAN2Config) -> None:
        super().__init__()
        self.config = config
        self.synthesis = SynthesisNetwork(config)
        self.mapping = MappingNetwork(config.z_dim, config.w_dim, config.num_mapping_layers)

    def forward(
        self, z_NZ: Tensor, *, truncation: float = 1.0, noise_mode: NoiseMode = "const"
    ) -> Tensor:
        """Image ``[N, 3, R, R]`` from z."""
        w_ND = self.mapping(z_NZ, truncation=truncation)
        return self.synthesis(self.broadcast(w_ND), noise_mode=noise_mode)
