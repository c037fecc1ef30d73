"""Adaptive-block encoders (Yu, Wang and Bugiolacchi, "Improving GAN inversion via fine-tuning GAN
encoders"; figure 4, tables 9 and 10): mirrors of StyleGAN1, StyleGAN2, PGGAN and BigGAN.

Each block halves the side, as a block of the generator doubles it; the last one stands at 4 px and
has one convolution. What a block is made of follows the generator: style codes and noise for
StyleGANs, neither for PGGAN, normalisation by the class for BigGAN. What the paper leaves open is
decided in docs/METHODS.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidinv.generators.base import GeneratorConfig
from vidinv.generators.layers import Linear, lrelu
from vidinv.generators.mapping import normalise_rms

CONSTANT = "constant"
"""The code z_c: input of the generator's first layer, ``[N, C, 4, 4]``."""

LAST_PX = 4
RESIDUAL_SHARE = 8 / 9  # of the bypass in a block's output, as in the public code
HE_GAIN = math.sqrt(2.0)
EPS = 1e-8
CLASS_EPS = 1e-5
STYLED = "stylegan1", "stylegan2"
KINDS = *STYLED, "pggan", "biggan"
"""Generators that there are encoders for."""


@dataclass(frozen=True)
class EncoderSizes:
    """Widths of an encoder; the paper's ``width`` is 16 at 1024 px and twice that a halving.

    Attributes:
        width: channels of the first block; every block doubles them.
        max_width: at most.
    """

    width: int
    max_width: int = 512

    def channels(self, block: int) -> int:
        """Into block 0, 1, ..."""
        return min(self.width << block, self.max_width)


class EqualisedConv(nn.Module):
    """Convolution with equalised learning rate, without bias."""

    def __init__(self, in_channels: int, channels: int, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(channels, in_channels, size, size))
        self.gain = HE_GAIN / math.sqrt(in_channels * size**2)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight * self.gain, padding=self.weight.shape[-1] // 2)


class EncoderNoise(nn.Module):
    """z'_n: noise with a learned strength for every channel, 0 at first.

    New in every pass of a network in training, else one fixed picture: frames of a clip must not
    differ by chance.
    """

    noise: Tensor

    def __init__(self, channels: int, side: int) -> None:
        super().__init__()
        self.strength = nn.Parameter(torch.zeros(channels))
        self.register_buffer("noise", torch.randn(1, 1, side, side))

    def forward(self, x: Tensor) -> Tensor:
        noise = torch.randn_like(x[:, :1]) if self.training else self.noise
        return x + noise * self.strength[:, None, None]


class ClassNorm(nn.Module):
    """Batch normalisation scaled and moved by the numbers of a class (CBN)."""

    def __init__(self, channels: int, class_dim: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=False, eps=CLASS_EPS)
        self.scale, self.offset = Linear(class_dim, channels), Linear(class_dim, channels)
        for linear in (self.scale, self.offset):
            nn.init.zeros_(linear.weight)

    def forward(self, x: Tensor, class_ND: Tensor) -> Tensor:
        scale, offset = (m(class_ND)[:, :, None, None] for m in (self.scale, self.offset))
        return torch.addcmul(offset, self.norm(x), scale + 1)


class Convolution(nn.Module):
    """Normalisation, convolution, noise, leaky ReLU; beside them the style of what comes in.

    Args:
        style_dim: width of the style code; 0: there is none, and no noise.
        class_dim: numbers of a class; 0: the normalisation is that of an instance.
    """

    def __init__(
        self, in_channels: int, channels: int, side: int, *, style_dim: int, class_dim: int
    ) -> None:
        super().__init__()
        self.conv = EqualisedConv(in_channels, channels, 3)
        self.bias = nn.Parameter(torch.zeros(channels))
        self.norm = ClassNorm(in_channels, class_dim) if class_dim else None
        self.noise = EncoderNoise(channels, side) if style_dim else nn.Identity()
        self.style = Linear(2 * in_channels, style_dim) if style_dim else None

    def forward(self, x: Tensor, class_ND: Tensor | None) -> tuple[Tensor, Tensor | None]:
        style = None
        if self.norm is None:
            # The style is made of the very moments that the normalisation takes away.
            variance, mean = torch.var_mean(x, dim=(2, 3), correction=0, keepdim=True)
            deviation = torch.sqrt(variance + EPS)
            if self.style is not None:
                style = self.style(torch.cat([mean, deviation], dim=1).flatten(1))
            x = (x - mean) / deviation
        else:
            assert class_ND is not None
            x = self.norm(x, class_ND)
        return lrelu(self.noise(self.conv(x)) + self.bias[:, None, None], gain=1.0), style


class AdaptiveBlock(nn.Module):
    """Two convolutions beside a bypass, to half the side; the last block has one, and halves not.

    Args:
        side: of its input.
        style_dim, class_dim: as ``Convolution``.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        side: int,
        *,
        style_dim: int = 0,
        class_dim: int = 0,
    ) -> None:
        super().__init__()
        self.is_last, middle = side == LAST_PX, in_channels
        if self.is_last:
            middle = channels
        given = {"style_dim": style_dim, "class_dim": class_dim}
        self.first = Convolution(in_channels, middle, side, **given)
        self.second = None if self.is_last else Convolution(middle, channels, side, **given)
        self.bypass = (
            EqualisedConv(in_channels, channels, 1) if in_channels != channels else nn.Identity()
        )
        # The last block has no second convolution, yet a second style.
        self.last_style = Linear(2 * middle, style_dim) if self.is_last and style_dim else None

    def forward(self, x: Tensor, class_ND: Tensor | None) -> tuple[Tensor, list[Tensor]]:
        """Features, and the styles of the inputs of both convolutions."""
        y, style = self.first(x, class_ND)
        styles = [style]
        if self.second is not None:
            y, style = self.second(y, class_ND)
            styles.append(style)
            x, y = F.avg_pool2d(x, 2), F.avg_pool2d(y, 2)
        elif self.last_style is not None:
            styles.append(self.last_style(_moments(y)))
        found = [style for style in styles if style is not None]
        return torch.lerp(y, self.bypass(x).to(y.dtype), RESIDUAL_SHARE), found

    def style_layers(self) -> list[Linear]:
        """What gives the styles, in their order."""
        layers = [self.first.style, self.last_style]
        if self.second is not None:
            layers = [self.first.style, self.second.style]
        return [layer for layer in layers if layer is not None]


class AdaptiveEncoder(nn.Module):
    """A face -> the latents of its generator.

    Args:
        generator: whose mirror it is.

    Raises:
        ValueError: a kind of generator that there is no encoder for.
    """

    def __init__(self, sizes: EncoderSizes, generator: GeneratorConfig) -> None:
        super().__init__()
        if generator.kind not in KINDS:
            known = ", ".join(KINDS)
            raise ValueError(
                f"there is no encoder for generators of kind {generator.kind}: {known}"
            )
        self.config, side = generator, generator.resolution
        styled = generator.kind in STYLED
        given = {"style_dim": generator.w_dim if styled else 0, "class_dim": 0}
        if generator.num_classes:
            given["class_dim"] = generator.w_dim - generator.z_dim
        self.from_rgb = EqualisedConv(3, sizes.width, 1)
        self.from_rgb_bias = nn.Parameter(torch.zeros(sizes.width))
        self.blocks, index = nn.ModuleList(), 0
        while side >= LAST_PX:
            channels = sizes.channels(index + 1)
            if side == LAST_PX and styled:
                channels = generator.feature_shape(1)[0]
            self.blocks.append(AdaptiveBlock(sizes.channels(index), channels, side, **given))
            side, index = side // 2, index + 1
        if styled:
            # From the generator's own constant: what is learned starts as no change of it.
            self.constant_gain = nn.Parameter(torch.zeros(channels, 1, 1))
        else:
            self.to_latents = Linear(channels * LAST_PX**2, generator.w_dim)
        if generator.num_classes:
            self.to_z = Linear(generator.w_dim, generator.z_dim)

    def forward(
        self, faces_N3RR: Tensor, *, class_ND: Tensor | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Latents ``[N, L, D]``; for StyleGANs also how z_c differs from the generator's constant.

        Args:
            class_ND: numbers of the class that the picture is held for, for BigGAN.
        """
        x = lrelu(self.from_rgb(faces_N3RR) + self.from_rgb_bias[:, None, None], gain=1.0)
        rows: list[Tensor] = []
        for block in self.blocks:
            x, styles = block(x, class_ND)
            rows = [*reversed(styles), *rows]  # the deepest block mirrors the first layers
        if rows:
            return torch.stack(rows, dim=1), {CONSTANT: x * self.constant_gain}
        latents = self.to_latents(x.flatten(1))
        if not self.config.num_classes:  # z, which the generator reads at this length alone
            return normalise_rms(latents)[:, None], {}
        z = self.to_z(latents)
        return torch.cat([z, latents[:, z.shape[1] :]], dim=1)[:, None], {}

    @torch.no_grad()
    def start_at(self, latents_LD: Tensor) -> None:
        """Before training: every picture has about these latents."""
        linears: list[Linear] = []
        for block in self.blocks:
            assert isinstance(block, AdaptiveBlock)
            linears = [*reversed(block.style_layers()), *linears]
        if not linears:
            return  # PGGAN and BigGAN have no rows
        for linear, row in zip(linears, latents_LD, strict=True):
            linear.bias.copy_(row)


def _moments(x: Tensor) -> Tensor:
    """Mean and standard deviation of every channel, ``[N, 2C]``."""
    variance, mean = torch.var_mean(x, dim=(2, 3), correction=0)
    return torch.cat([mean, torch.sqrt(variance + EPS)], dim=1)
