"""Layers of the StyleGAN2 synthesis network (Karras et al. 2020, figure 2).

Parameter names and numerics are NVIDIA's (docs/REFERENCES.md, "StyleGAN2 layout"). Shapes: x
``[N, C, H, W]``, w ``[N, D]``, a layer's style ``[N, I]``, per-sample weight residuals
``[N, O, I, k, k]``.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from vidinv.generators.base import NoiseMode
from vidinv.generators.layers import (
    LRELU_GAIN,
    Linear,
    fir_kernel,
    modulated_conv2d,
    modulated_styles,
)


class SynthesisLayer(nn.Module):
    """Modulated 3x3 convolution, optionally to twice the size, with noise, bias and leaky ReLU."""

    noise_const: Tensor
    resample_filter: Tensor

    def __init__(
        self, in_channels: int, out_channels: int, w_dim: int, resolution: int, *, up: bool
    ):
        super().__init__()
        self.up = up
        self.resolution = resolution
        self.affine = Linear(w_dim, in_channels, bias_init=1.0)
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, 3, 3))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.noise_strength = nn.Parameter(torch.zeros([]))
        self.register_buffer("noise_const", torch.randn(resolution, resolution))
        self.register_buffer("resample_filter", fir_kernel())

    def forward(
        self,
        x: Tensor,
        w_ND: Tensor,
        *,
        noise_mode: NoiseMode,
        weight_residual: Tensor | None = None,
        style_offset: Tensor | None = None,
    ) -> Tensor:
        return modulated_conv2d(
            x,
            self.weight,
            modulated_styles(self.affine, w_ND, style_offset),
            offset=self._offset(len(x), noise_mode),
            gain=LRELU_GAIN,
            up_kernel=self.resample_filter if self.up else None,
            weight_residual=weight_residual,
            activate=True,
        )

    def _offset(self, batch: int, noise_mode: NoiseMode) -> Tensor:
        """Noise and bias times the gain of the leaky ReLU, which is linear on either side."""
        bias = self.bias * LRELU_GAIN
        if noise_mode == "none":
            return bias[:, None, None]
        noise = self.noise_const
        if noise_mode == "random":
            noise = torch.randn(batch, *noise.shape, device=noise.device)
        # Channels last, as the activations are.
        return (noise[..., None] * (self.noise_strength * LRELU_GAIN) + bias).movedim(-1, -3)


class ToRGB(nn.Module):
    """Modulated 1x1 convolution to RGB, without demodulation."""

    def __init__(self, in_channels: int, w_dim: int) -> None:
        super().__init__()
        self.affine = Linear(w_dim, in_channels, bias_init=1.0)
        self.weight = nn.Parameter(torch.randn(3, in_channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(3))
        self.weight_gain = 1.0 / math.sqrt(in_channels)

    def gain(self) -> float | Tensor:
        """Of the styles: the equalised learning rate's."""
        return self.weight_gain

    def forward(
        self,
        x: Tensor,
        w_ND: Tensor,
        *,
        weight_residual: Tensor | None = None,
        style_offset: Tensor | None = None,
    ) -> Tensor:
        weight = self.weight if weight_residual is None else self.weight + weight_residual
        styles = modulated_styles(self.affine, w_ND, style_offset) * self.gain()
        # Three channels are so few that weights of each sample's own beat scaling the input.
        weights_N3I = (weight.flatten(-3) * styles[:, None]).to(x.dtype)
        y = torch.baddbmm(self.bias.to(x.dtype)[:, None], weights_N3I, x.flatten(2))
        return y.unflatten(2, x.shape[2:])


class SynthesisBlock(nn.Module):
    """The layers of one resolution: conv0 (up), conv1, ToRGB; 4x4 has a constant for conv0.

    Args:
        lower_channels: of the block below; None builds the 4x4 block.
    """

    resample_filter: Tensor

    def __init__(
        self, lower_channels: int | None, channels: int, w_dim: int, resolution: int
    ) -> None:
        super().__init__()
        self.resolution = resolution
        if lower_channels is None:
            self.const = nn.Parameter(torch.randn(channels, resolution, resolution))
        else:
            self.conv0 = SynthesisLayer(lower_channels, channels, w_dim, resolution, up=True)
        self.conv1 = SynthesisLayer(channels, channels, w_dim, resolution, up=False)
        self.torgb = ToRGB(channels, w_dim)
        self.register_buffer("resample_filter", fir_kernel())

    def conv(self, number: int) -> SynthesisLayer:
        """conv0 or conv1."""
        return self.conv1 if number else self.conv0
