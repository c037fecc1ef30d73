"""StyleGAN3 generators, configurations T and R (Karras et al. 2021, section 4, appendix F).

Features are samples of continuous signals: every layer filters around its nonlinearity, sizes have
a margin of ``MARGIN`` on each side, and Fourier features take the place of a learned constant. Its
first row of w moves and turns them; ``synthesis.input.transform`` does so for all pictures.
Parameter names and numerics are NVIDIA's (docs/REFERENCES.md, "StyleGAN3 layout").

K counts convolutions, from 1 (``L0``) to 14; after the last one ToRGB runs too. There is no RGB
skip, so a partial pass has no picture. Shapes as in ``vidinv.generators.base``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from torch import Tensor, nn

from vidinv.generators.base import (
    GeneratorNetwork,
    LatentSpace,
    NoiseMode,
    SynthesisState,
    check_pass,
)
from vidinv.generators.mapping import MappingNetwork
from vidinv.generators.stylegan3_blocks import Band, FilteredLayer, FilteredToRGB, FourierInput

MARGIN = 10
FIRST_CUTOFF, FIRST_STOPBAND = 2.0, 2.0**2.1
OUTPUT_SCALE = 0.25


@dataclass(frozen=True)
class StyleGAN3Config:
    """Sizes; R is ``conv_kernel=1, radial_filters=True`` with twice the channels of T.

    T at 1024 px is ``StyleGAN3Config(1024)``, R ``StyleGAN3Config(1024, channel_base=65536,
    channel_max=1024, conv_kernel=1, radial_filters=True)``.

    Attributes:
        num_convolutions: layers before ToRGB.
        num_critical: layers at the end that are sampled critically.
        last_stopband: stopband of the last layer, as a multiple of its cutoff R / 2.
    """

    kind: ClassVar[str] = "stylegan3"

    resolution: int
    channel_base: int = 32768
    channel_max: int = 512
    z_dim: int = 512
    w_dim: int = 512
    num_mapping_layers: int = 2
    conv_kernel: int = 3
    radial_filters: bool = False
    num_convolutions: int = 14
    num_critical: int = 2
    last_stopband: float = 2.0**0.3

    def __post_init__(self) -> None:
        if self.resolution < 16 or self.resolution & (self.resolution - 1):
            raise ValueError(f"resolution must be a power of two from 16, got {self.resolution}")

    @property
    def bands(self) -> tuple[Band, ...]:
        """What every layer gives, ToRGB included: eq. 7 of appendix F and the sizes."""
        last_cutoff = self.resolution / 2
        last_stopband = last_cutoff * self.last_stopband
        growing = self.num_convolutions - self.num_critical
        shares = np.minimum(np.arange(self.num_convolutions + 1) / growing, 1)
        cutoffs = FIRST_CUTOFF * (last_cutoff / FIRST_CUTOFF) ** shares
        stopbands = FIRST_STOPBAND * (last_stopband / FIRST_STOPBAND) ** shares
        rates = np.exp2(np.ceil(np.log2(np.minimum(stopbands * 2, self.resolution))))
        half_widths = np.maximum(stopbands, rates / 2) - cutoffs
        sizes = rates + 2 * MARGIN
        sizes[-2:] = self.resolution
        channels = np.rint(np.minimum(self.channel_base / 2 / cutoffs, self.channel_max))
        channels[-1] = 3
        return tuple(
            Band(int(c), int(size), float(rate), float(cutoff), float(half))
            for c, size, rate, cutoff, half in zip(
                channels, sizes, rates, cutoffs, half_widths, strict=True
            )
        )

    @property
    def layer_names(self) -> tuple[str, ...]:
        """``L{i}_{size}_{channels}``, ToRGB last."""
        return tuple(f"L{i}_{b.size}_{b.channels}" for i, b in enumerate(self.bands))

    @property
    def num_ws(self) -> int:
        """One row for the input, one for each layer, one for ToRGB."""
        return self.num_convolutions + 2

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
        return self.num_convolutions

    @property
    def style_channels(self) -> dict[str, int]:
        """Input channels of every layer: its affine gives one style for each."""
        bands = self.bands
        inputs = [bands[0], *bands[:-1]]
        return {name: band.channels for name, band in zip(self.layer_names, inputs, strict=True)}

    def feature_shape(self, layer: int) -> tuple[int, int, int]:
        if not 1 <= layer <= self.num_layers:
            raise ValueError(f"layer must be in 1..{self.num_layers}, got {layer}")
        band = self.bands[layer - 1]
        return band.channels, band.size, band.size

    def feature_margin(self, layer: int) -> int:
        band = self.bands[layer - 1]
        return max(0, (band.size - int(band.sampling_rate)) // 2)

    def layer_after(self, resolution: int) -> int:
        if resolution != self.resolution:
            raise ValueError(f"resolution must be {self.resolution}, got {resolution}")
        return self.num_layers


class StyleGAN3Synthesis(nn.Module):
    """w+ -> image, in one pass or in parts; noise is not used."""

    def __init__(self, config: StyleGAN3Config) -> None:
        super().__init__()
        self.config = config
        bands = config.bands
        self.input = FourierInput(config.w_dim, bands[0])
        sources = [bands[0], *bands[:-1]]
        for index, name in enumerate(config.layer_names[:-1]):
            critical = index >= config.num_convolutions - config.num_critical
            layer = FilteredLayer(
                config.w_dim,
                sources[index],
                bands[index],
                kernel_size=config.conv_kernel,
                radial=config.radial_filters and not critical,
            )
            self.add_module(name, layer)
        self.add_module(config.layer_names[-1], FilteredToRGB(sources[-1].channels, config.w_dim))

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
        """Run the layers after ``start`` (or all) up to K = ``stop``, inclusive."""
        residuals, offsets = weight_residuals or {}, style_offsets or {}
        first = 0 if start is None else start.layer
        check_pass(self.config, latents_NLD, first, stop, {*residuals, *offsets})
        names = self.config.layer_names
        x = self.input(latents_NLD[:, 0]) if start is None else start.features_NCHW

        def apply(index: int) -> Tensor:
            name = names[index]
            layer = getattr(self, name)
            return layer(
                x,
                latents_NLD[:, index + 1],
                weight_residual=residuals.get(name),
                style_offset=offsets.get(name),
            )

        for index in range(first, stop):
            x = apply(index)
        image = apply(stop) * OUTPUT_SCALE if stop == self.config.num_layers else None
        return SynthesisState(stop, x, image)

    @property
    def constant_1CHW(self) -> None:
        """It starts from Fourier features."""

    def layer_weights(self) -> dict[str, Tensor]:
        """Raw weight ``[O, I, k, k]`` of every modulated layer, by name."""
        return {name: getattr(self, name).weight for name in self.config.layer_names}


class StyleGAN3Generator(GeneratorNetwork):
    """Mapping and synthesis; ``mapping.*`` and ``synthesis.*`` as in NVIDIA's ``G_ema``."""

    config: StyleGAN3Config
    mapping: MappingNetwork
    synthesis: StyleGAN3Synthesis

    def __init__(self, config: StyleGAN3Config) -> None:
        super().__init__()
        self.config = config
        self.synthesis = StyleGAN3Synthesis(config)
        self.mapping = MappingNetwork(config.z_dim, config.w_dim, config.num_mapping_layers)

    def forward(self, z_NZ: Tensor, *, truncation: float = 1.0) -> Tensor:
        """Image ``[N, 3, R, R]`` from z."""
        w_ND = self.mapping(z_NZ, truncation=truncation)
        return self.synthesis(self.broadcast(w_ND))
