"""BigGAN-deep generators (Brock et al. 2019, appendix B, figure 16): residual blocks, classes.

Latents have one row: z and what the class gives, which every normalisation reads. Spectral norms
are folded into the weights, and the statistics of the normalisations are those of one truncation:
so an import makes them (docs/REFERENCES.md, "StyleGAN1, PGGAN and BigGAN layouts"). K counts
blocks, from 1; the attention before a block runs with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidinv.generators.base import GeneratorNetwork, LatentSpace
from vidinv.generators.chain import ChainSynthesis, LayerInput

REDUCTION = 4  # channels inside a block
NORM_EPS = 1e-4
ATTENTION_PX = 64


@dataclass(frozen=True)
class BigGANConfig:
    """Sizes; the defaults are those of the published network for 256 px.

    Attributes:
        width: channels of the last size.
        multiples: of ``width``, at 4, 8, ... px; the resolution is that of the last one.
        class_dim: numbers that a class gives.
    """

    kind: ClassVar[str] = "biggan"

    width: int = 128
    multiples: tuple[int, ...] = (16, 16, 8, 8, 4, 2, 1)
    z_dim: int = 128
    class_dim: int = 128
    num_classes: int = 1000

    @property
    def resolution(self) -> int:
        return 4 << len(self.multiples) - 1

    @property
    def w_dim(self) -> int:
        return self.z_dim + self.class_dim

    @property
    def num_ws(self) -> int:
        return 1

    @property
    def latent_spaces(self) -> tuple[LatentSpace, ...]:
        """Its one row of latents is z and the class; ``"w"`` names that row."""
        return "z", "w"

    @property
    def style_channels(self) -> Mapping[str, int]:
        return {}

    @property
    def has_partial_passes(self) -> bool:
        return True

    @property
    def num_layers(self) -> int:
        """Two blocks for every doubling."""
        return 2 * (len(self.multiples) - 1)

    def feature_shape(self, layer: int) -> tuple[int, int, int]:
        if not 1 <= layer <= self.num_layers:
            raise ValueError(f"layer must be in 1..{self.num_layers}, got {layer}")
        side = 4 << layer // 2
        return self.width * self.multiples[layer // 2], side, side

    def feature_margin(self, layer: int) -> int:
        return 0

    def layer_after(self, resolution: int) -> int:
        if resolution != self.resolution:
            raise ValueError(f"resolution must be {self.resolution}, got {resolution}")
        return self.num_layers


class ClassMapping(nn.Module):
    """z and the class's numbers in one row; without classes, the mean of all of them."""

    def __init__(self, config: BigGANConfig) -> None:
        super().__init__()
        self.embeddings = nn.Linear(config.num_classes, config.class_dim, bias=False)

    def forward(
        self, z_NZ: Tensor, *, truncation: float = 1.0, classes_N: Tensor | None = None
    ) -> Tensor:
        table = self.embeddings.weight.T  # [classes, class_dim]
        mean = table.mean(dim=0).expand(len(z_NZ), -1)
        return torch.cat([z_NZ * truncation, mean if classes_N is None else table[classes_N]], 1)


class ConditionalNorm(nn.Module):
    """Normalisation by standing statistics, scaled and moved by the latents."""

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int, condition: int) -> None:
        super().__init__()
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))
        self.scale = nn.Linear(condition, channels, bias=False)
        self.offset = nn.Linear(condition, channels, bias=False)

    def forward(self, x: Tensor, latents_ND: Tensor) -> Tensor:
        x = F.batch_norm(x, self.running_mean, self.running_var, eps=NORM_EPS)
        scale, offset = (m(latents_ND)[:, :, None, None] for m in (self.scale, self.offset))
        return torch.addcmul(offset, x, scale + 1)


class BigGANBlock(nn.Module):
    """Four convolutions through a bottleneck; the shortcut drops channels (figure 16b)."""

    def __init__(self, in_channels: int, channels: int, condition: int, *, up: bool) -> None:
        super().__init__()
        self.channels, self.up = channels, up
        middle = in_channels // REDUCTION
        widths = (in_channels, middle, middle, middle, channels)
        for index, size in enumerate((1, 3, 3, 1)):
            self.add_module(f"bn_{index}", ConditionalNorm(widths[index], condition))
            conv = nn.Conv2d(widths[index], widths[index + 1], size, padding=size // 2)
            self.add_module(f"conv_{index}", conv)

    def forward(self, x: Tensor, latents_ND: Tensor) -> Tensor:
        shortcut = x[:, : self.channels]
        for index in range(4):
            x = F.relu(getattr(self, f"bn_{index}")(x, latents_ND))
            if self.up and index == 1:
                x = F.interpolate(x, scale_factor=2, mode="nearest")
            x = getattr(self, f"conv_{index}")(x)
        if self.up:
            shortcut = F.interpolate(shortcut, scale_factor=2, mode="nearest")
        return x + shortcut


class Attention(nn.Module):
    """Self-attention over places, keys and values at half the size (Zhang et al. 2019)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.theta = nn.Conv2d(channels, channels // 8, 1, bias=False)
        self.phi = nn.Conv2d(channels, channels // 8, 1, bias=False)
        self.g = nn.Conv2d(channels, channels // 2, 1, bias=False)
        self.o_conv = nn.Conv2d(channels // 2, channels, 1, bias=False)
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        queries = self.theta(x).flatten(2)  # [N, C/8, H W]
        keys, values = (F.max_pool2d(m(x), 2).flatten(2) for m in (self.phi, self.g))
        weights = torch.softmax(queries.transpose(1, 2) @ keys, dim=2)
        gathered = (values @ weights.transpose(1, 2)).unflatten(2, x.shape[2:])
        return x + self.gamma * self.o_conv(gathered)


class BigGANSynthesis(ChainSynthesis):
    """Latents -> image in [-1, 1], in one pass or in parts."""

    config: BigGANConfig

    def __init__(self, config: BigGANConfig) -> None:
        super().__init__()
        self.config = config
        first = config.width * config.multiples[0]
        self.gen_z = nn.Linear(config.w_dim, 16 * first)
        self.blocks = nn.ModuleList()
        channels = first
        for layer in range(1, config.num_layers + 1):
            width = config.feature_shape(layer)[0]
            self.blocks.append(BigGANBlock(channels, width, config.w_dim, up=layer % 2 == 0))
            channels = width
        self.attention_layer = _attention_layer(config)
        if self.attention_layer:
            self.attention = Attention(config.feature_shape(self.attention_layer - 1)[0])
        self.bn = nn.BatchNorm2d(channels, eps=NORM_EPS)
        self.conv_to_rgb = nn.Conv2d(channels, 3, 3, padding=1)

    def layer_name(self, layer: int) -> str:
        return f"blocks.{layer - 1}"

    def apply_layer(self, layer: int, x: Tensor | None, given: LayerInput) -> Tensor:
        latents_ND = given.latents_NLD[:, 0]
        if x is None:  # as the TensorFlow network orders them: places, then channels
            x = self.gen_z(latents_ND).unflatten(1, (4, 4, -1)).movedim(3, 1)
        if layer == self.attention_layer:
            x = self.attention(x)
        features: Tensor = self.blocks[layer - 1](x, latents_ND)
        return features

    def to_picture(self, x: Tensor) -> Tensor:
        return torch.tanh(self.conv_to_rgb(F.relu(self.bn(x))))


def _attention_layer(config: BigGANConfig) -> int:
    """The block that reads 64 px first, before which attention runs; 0 where none does."""
    for layer in range(2, config.num_layers + 1):
        if config.feature_shape(layer - 1)[1] == ATTENTION_PX:
            return layer
    return 0


class BigGANGenerator(GeneratorNetwork):
    """Class mapping and synthesis."""

    config: BigGANConfig
    mapping: ClassMapping
    synthesis: BigGANSynthesis

    def __init__(self, config: BigGANConfig) -> None:
        super().__init__()
        self.config = config
        self.synthesis = BigGANSynthesis(config)
        self.mapping = ClassMapping(config)
