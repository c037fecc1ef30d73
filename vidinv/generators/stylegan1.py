"""StyleGAN generators (Karras et al. 2019, figure 1b): constant input, noise, AdaIN.

Parameter names are genforce's; importing (vidinv/checkpoints/genforce.py) flips and scales what it
computes otherwise (docs/REFERENCES.md, "StyleGAN1, PGGAN and BigGAN layouts").

K counts layers, from 1: the modulated constant, then the convolutions. Row K - 1 of w+ is layer
K's. Shapes as in ``vidinv.generators.base``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidinv.generators.base import GeneratorNetwork, LatentSpace, NoiseMode
from vidinv.generators.chain import ChainSynthesis, LayerInput
from vidinv.generators.layers import Linear, bias_lrelu, modulated_styles, upfirdn
from vidinv.generators.mapping import MappingNetwork
from vidinv.generators.pyramids import PyramidConfig

HE_GAIN = math.sqrt(2.0)  # of the weights; the leaky ReLU has none here
NORM_EPS = 1e-8


@dataclass(frozen=True)
class StyleGAN1Config(PyramidConfig):
    """Sizes; channels(r) = min(channel_base / r, channel_max)."""

    kind: ClassVar[str] = "stylegan1"

    resolution: int
    channel_base: int = 16384
    channel_max: int = 512
    z_dim: int = 512
    w_dim: int = 512
    num_mapping_layers: int = 8

    @property
    def num_ws(self) -> int:
        return self.num_layers

    @property
    def latent_spaces(self) -> tuple[LatentSpace, ...]:
        return "z", "w", "w+", "style"

    @property
    def style_channels(self) -> dict[str, int]:
        """Scales and then shifts of every layer's channels."""
        shapes = (self.feature_shape(layer) for layer in range(1, self.num_layers + 1))
        return {f"layer{i}": 2 * channels for i, (channels, _, _) in enumerate(shapes)}


class Noise(nn.Module):
    """One picture of noise, with a strength for every channel."""

    noise: Tensor

    def __init__(self, resolution: int, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(channels))
        self.register_buffer("noise", torch.randn(1, 1, resolution, resolution))

    def forward(self, x: Tensor, mode: NoiseMode) -> Tensor:
        if mode == "none":
            return x
        noise = self.noise
        if mode == "random":
            noise = torch.randn(len(x), *noise.shape[1:], device=x.device)
        return x + noise * self.weight[:, None, None]


class StyleLayer(nn.Module):
    """Convolution (or the constant), noise, leaky ReLU, instance normalisation, style.

    Args:
        in_channels: None builds the constant.
        up: the input is enlarged first, and the output low-passed.
    """

    def __init__(
        self, in_channels: int | None, channels: int, w_dim: int, resolution: int, *, up: bool
    ) -> None:
        super().__init__()
        self.up, self.is_constant = up, in_channels is None
        if in_channels is None:
            self.const = nn.Parameter(torch.ones(1, channels, resolution, resolution))
        else:
            self.weight = nn.Parameter(torch.randn(channels, in_channels, 3, 3))
            self.weight_gain = HE_GAIN / math.sqrt(in_channels * 9)
        self.bias = nn.Parameter(torch.zeros(channels))
        self.apply_noise = Noise(resolution, channels)
        self.style = Linear(w_dim, 2 * channels)

    def forward(self, x: Tensor | None, w_ND: Tensor, given: LayerInput) -> Tensor:
        if self.is_constant:
            if given.residual is not None:
                raise ValueError("layer0 has no weight that a residual could change")
            features = self.const.expand(len(w_ND), -1, -1, -1) if x is None else x
        else:
            assert x is not None
            features = self._convolve(x, given)
        features = bias_lrelu(self.apply_noise(features, given.noise_mode), self.bias, gain=1.0)
        features = F.instance_norm(features, eps=NORM_EPS)
        styles = modulated_styles(self.style, w_ND, given.offset)
        scale, shift = styles[:, :, None, None].chunk(2, dim=1)
        return torch.addcmul(shift, features, scale + 1)

    def _convolve(self, x: Tensor, given: LayerInput) -> Tensor:
        if self.up:
            x = F.interpolate(x, scale_factor=2, mode="nearest")
        if given.residual is None:
            y = F.conv2d(x, self.weight * self.weight_gain, padding=1)
        else:
            weights = (self.weight + given.residual) * self.weight_gain
            joined = x.reshape(1, -1, *x.shape[2:])
            y = F.conv2d(joined, weights.flatten(0, 1), padding=1, groups=len(x))
            y = y.reshape(len(x), -1, *y.shape[2:])
        if not self.up:
            return y
        taps = torch.tensor([0.25, 0.5, 0.25], device=y.device)
        return upfirdn(y, taps, padding=(1, 1))


class StyleGAN1Synthesis(ChainSynthesis):
    """w+ -> image, in one pass or in parts."""

    config: StyleGAN1Config

    def __init__(self, config: StyleGAN1Config) -> None:
        super().__init__()
        self.config = config
        channels = None
        for layer in range(1, config.num_layers + 1):
            width, side, _ = config.feature_shape(layer)
            up = layer % 2 == 1 and layer > 1
            module = StyleLayer(channels, width, config.w_dim, side, up=up)
            self.add_module(self.layer_name(layer), module)
            channels = width
        assert channels is not None
        self.output = nn.Conv2d(channels, 3, 1)
        nn.init.normal_(self.output.weight)

    def layer_name(self, layer: int) -> str:
        return f"layer{layer - 1}"

    def apply_layer(self, layer: int, x: Tensor | None, given: LayerInput) -> Tensor:
        module = getattr(self, self.layer_name(layer))
        features: Tensor = module(x, given.latents_NLD[:, layer - 1], given)
        return features

    def to_picture(self, x: Tensor) -> Tensor:
        weight = self.output.weight / math.sqrt(x.shape[1])
        return F.conv2d(x, weight, self.output.bias)

    @property
    def constant_1CHW(self) -> Tensor:
        """What the first layer starts from."""
        assert isinstance(self.layer0, StyleLayer)
        return self.layer0.const

    def layer_weights(self) -> dict[str, Tensor]:
        names = [self.layer_name(layer) for layer in range(2, self.config.num_layers + 1)]
        return {name: getattr(self, name).weight for name in names}


class StyleGAN1Generator(GeneratorNetwork):
    """Mapping and synthesis."""

    config: StyleGAN1Config
    mapping: MappingNetwork
    synthesis: StyleGAN1Synthesis

    def __init__(self, config: StyleGAN1Config) -> None:
        super().__init__()
        self.config = config
        self.synthesis = StyleGAN1Synthesis(config)
        self.mapping = MappingNetwork(config.z_dim, config.w_dim, config.num_mapping_layers)
