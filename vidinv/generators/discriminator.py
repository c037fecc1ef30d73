"""StyleGAN2 residual discriminator (Karras et al. 2020, figure 7) and its features.

Parameter names and numerics are NVIDIA's (docs/REFERENCES.md, "StyleGAN2 layout"). The features of
its blocks serve as a perceptual loss where no network trained elsewhere may be used.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidinv.generators.base import Discriminator
from vidinv.generators.layers import LRELU_GAIN, Linear, bias_lrelu, fir_kernel, lrelu, upfirdn
from vidinv.generators.stylegan2 import StyleGAN2Config


class Conv(nn.Module):
    """Equalised convolution; ``down`` low-passes the input and halves the size."""

    resample_filter: Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        down: bool = False,
        bias: bool = True,
        activate: bool = True,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, kernel_size, kernel_size))
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        self.register_buffer("resample_filter", fir_kernel())
        self.weight_gain = 1.0 / math.sqrt(in_channels * kernel_size**2)
        self.down, self.activate = down, activate

    def forward(self, x: Tensor, *, gain: float = 1.0) -> Tensor:
        weight = (self.weight * self.weight_gain).to(x.dtype)
        size = weight.shape[-1]
        if self.down and size == 1:
            x = upfirdn(x, self.resample_filter, down=2, padding=(1, 1))
            y = F.conv2d(x, weight)
        elif self.down:
            y = F.conv2d(upfirdn(x, self.resample_filter, padding=(2, 2)), weight, stride=2)
        else:
            y = F.conv2d(x, weight, padding=size // 2)
        if self.bias is None:
            return (lrelu(y) if self.activate else y) * gain
        if self.activate:
            return bias_lrelu(y, self.bias, gain=LRELU_GAIN * gain)
        return (y + self.bias.to(y.dtype)[:, None, None]) * gain


class DownBlock(nn.Module):
    """Residual block to half the size."""

    def __init__(self, channels: int, lower: int) -> None:
        super().__init__()
        self.conv0 = Conv(channels, channels, 3)
        self.conv1 = Conv(channels, lower, 3, down=True)
        self.skip = Conv(channels, lower, 1, down=True, bias=False, activate=False)

    def forward(self, x: Tensor) -> Tensor:
        gain = math.sqrt(0.5)
        return self.skip(x, gain=gain) + self.conv1(self.conv0(x), gain=gain)


class DiscriminatorBlock(DownBlock):
    """A block of the discriminator; the highest one reads the image."""

    def __init__(self, config: StyleGAN2Config, resolution: int) -> None:
        super().__init__(config.channels(resolution), config.channels(resolution // 2))
        self.fromrgb: Conv | None = None
        if resolution == config.resolution:
            self.fromrgb = Conv(3, config.channels(resolution), 1)
        self.register_buffer("resample_filter", fir_kernel())

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x if self.fromrgb is None else self.fromrgb(x))


class DiscriminatorEpilogue(nn.Module):
    """Minibatch standard deviation, convolution and two linear layers at 4x4."""

    def __init__(self, channels: int, *, group_size: int = 4) -> None:
        super().__init__()
        self.group_size = group_size
        self.conv = Conv(channels + 1, channels, 3)
        self.fc = Linear(channels * 16, channels, activate=True)
        self.out = Linear(channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(torch.cat([x, minibatch_std(x, self.group_size)], dim=1))
        return self.out(self.fc(x.flatten(1)))


class StyleGAN2Discriminator(Discriminator):
    """Image ``[N, 3, R, R]`` in [-1, 1] -> logits ``[N, 1]``; high for real."""

    def __init__(self, config: StyleGAN2Config) -> None:
        super().__init__()
        self.config = config
        for resolution in reversed(config.resolutions[1:]):
            self.add_module(f"b{resolution}", DiscriminatorBlock(config, resolution))
        self.b4 = DiscriminatorEpilogue(config.channels(4))

    def features(self, image_N3RR: Tensor) -> list[Tensor]:
        """Outputs of the blocks, from the highest resolution (R/2) down to 4x4."""
        x, outputs = image_N3RR, []
        for resolution in reversed(self.config.resolutions[1:]):
            x = getattr(self, f"b{resolution}")(x)
            outputs.append(x)
        return outputs

    def logits(self, features: list[Tensor]) -> Tensor:
        """``[N, 1]`` from what ``features`` gave."""
        return self.b4(features[-1])


def minibatch_std(x: Tensor, group_size: int) -> Tensor:
    """One channel: mean standard deviation within groups (Karras et al. 2018, section 3)."""
    batch, _, height, width = x.shape
    group = min(group_size, batch)
    if batch % group:
        group = math.gcd(batch, group)
    y = x.reshape(group, -1, *x.shape[1:])
    deviation = (y.var(dim=0, unbiased=False) + 1e-8).sqrt().mean(dim=(1, 2, 3))
    return deviation.repeat(group)[:, None, None, None].expand(-1, 1, height, width)
