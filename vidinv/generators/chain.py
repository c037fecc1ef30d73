"""Synthesis as a chain of layers and one ToRGB at the end: StyleGAN1, PGGAN, BigGAN.

A family gives its layers; passes in parts, residuals' and offsets' checks and the picture are here.
Noise and modulation are the layers' own. There is no RGB skip, so a partial pass has no picture.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from vidinv.generators.base import GeneratorConfig, NoiseMode, SynthesisState, check_pass


@dataclass(frozen=True)
class LayerInput:
    """What a layer is told besides the features.

    Attributes:
        latents_NLD: of all layers.
        residual, offset: of this layer's weight and style.
    """

    latents_NLD: Tensor
    noise_mode: NoiseMode = "const"
    residual: Tensor | None = None
    offset: Tensor | None = None


class ChainSynthesis(nn.Module):
    """Latents -> image, in one pass or in parts."""

    config: GeneratorConfig

    @abstractmethod
    def layer_name(self, layer: int) -> str:
        """Of layer K."""

    @abstractmethod
    def apply_layer(self, layer: int, x: Tensor | None, given: LayerInput) -> Tensor:
        """Features after layer K from those before it; None before the first."""

    @abstractmethod
    def to_picture(self, x: Tensor) -> Tensor:
        """The picture from the last layer's features."""

    @property
    def constant_1CHW(self) -> Tensor | None:
        """What the first layer starts from where that is learned."""
        return None

    def layer_weights(self) -> dict[str, Tensor]:
        """Raw weight ``[O, I, k, k]`` of every modulated layer, by name."""
        return {}

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
        x = None if start is None else start.features_NCHW
        for layer in range(first + 1, stop + 1):
            name = self.layer_name(layer)
            given = LayerInput(latents_NLD, noise_mode, residuals.get(name), offsets.get(name))
            x = self.apply_layer(layer, x, given)
        assert x is not None
        image = self.to_picture(x) if stop == self.config.num_layers else None
        return SynthesisState(stop, x, image)
