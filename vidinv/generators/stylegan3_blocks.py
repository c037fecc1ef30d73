"""Layers of the StyleGAN3 synthesis network (Karras et al. 2021, figure 4b, appendices C and F).

Parameter names and numerics are NVIDIA's (docs/REFERENCES.md, "StyleGAN3 layout"). Shapes: x
``[N, C, H, W]``, w ``[N, D]``, per-sample weight residuals ``[N, O, I, k, k]``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidinv.generators.filters import low_pass
from vidinv.generators.layers import (
    Linear,
    filtered_lrelu,
    modulated_conv2d,
    modulated_styles,
)
from vidinv.generators.stylegan2_blocks import ToRGB

TAPS_PER_SAMPLE = 6  # of the filters, at the lower of the two rates
OVERSAMPLING = 2  # of the nonlinearity against the higher of a layer's rates
CLAMP = 256.0  # of the signals, as NVIDIA's networks were trained


@dataclass(frozen=True)
class Band:
    """The signal between two layers.

    Attributes:
        size: side in samples, margins included.
        sampling_rate: samples per side of the picture.
        cutoff: highest frequency that passes; in cycles per side.
        half_width: of the transition band.
    """

    channels: int
    size: int
    sampling_rate: float
    cutoff: float
    half_width: float


class FourierInput(nn.Module):
    """Sine waves of fixed frequencies, moved and turned by w (appendix F, "Fourier features")."""

    freqs: Tensor
    phases: Tensor
    transform: Tensor

    def __init__(self, w_dim: int, band: Band) -> None:
        super().__init__()
        self.band = band
        self.weight = nn.Parameter(torch.randn(band.channels, band.channels))
        self.affine = Linear(w_dim, 4)
        nn.init.zeros_(self.affine.weight)
        self.affine.bias.data.copy_(torch.tensor([1.0, 0.0, 0.0, 0.0]))
        # Uniform inside the circle of the band: a normal vector with its length made uniform.
        direction = torch.randn(band.channels, 2)
        length = direction.norm(dim=1, keepdim=True)
        direction = direction / (length * length.square().exp().pow(0.25))
        self.register_buffer("freqs", direction * band.cutoff)
        self.register_buffer("phases", torch.rand(band.channels) - 0.5)
        self.register_buffer("transform", torch.eye(3))

    def forward(self, w_ND: Tensor) -> Tensor:
        turned_N33 = self._placement(w_ND) @ self.transform
        phases = self.phases + (self.freqs @ turned_N33[:, :2, 2:]).squeeze(2)  # [N, C]
        freqs = self.freqs @ turned_N33[:, :2, :2]  # [N, C, 2]
        # A frequency that was moved beyond the band fades out.
        beyond = (freqs.norm(dim=2) - self.band.cutoff) / (
            self.band.sampling_rate / 2 - self.band.cutoff
        )
        amplitudes = (1 - beyond).clamp(0, 1)
        waves = torch.einsum("hwk,nck->nhwc", self._grid(), freqs) + phases[:, None, None]
        x = torch.sin(waves * (2 * math.pi)) * amplitudes[:, None, None]
        return (x @ (self.weight.T / math.sqrt(self.band.channels))).movedim(3, 1)

    def _placement(self, w_ND: Tensor) -> Tensor:
        """Rotation and translation ``[N, 3, 3]`` that w asks for."""
        values = self.affine(w_ND)
        cos, sin, right, down = (values / values[:, :2].norm(dim=1, keepdim=True)).unbind(1)
        zero, one = torch.zeros_like(cos), torch.ones_like(cos)
        rotation = [cos, -sin, zero, sin, cos, zero, zero, zero, one]
        translation = [one, zero, -right, zero, one, -down, zero, zero, one]
        first, second = (
            torch.stack(m, dim=1).unflatten(1, (3, 3)) for m in (rotation, translation)
        )
        return first @ second

    def _grid(self) -> Tensor:
        """Places ``[H, W, 2]`` of the samples, (right, down), the picture being -0.5..0.5."""
        size, rate = self.band.size, self.band.sampling_rate
        theta = torch.eye(2, 3, device=self.freqs.device) * (0.5 * size / rate)
        return F.affine_grid(theta[None], [1, 1, size, size], align_corners=False)[0]


class FilteredLayer(nn.Module):
    """Modulated convolution and a leaky ReLU between two filters, to the next band."""

    magnitude_ema: Tensor
    up_filter: Tensor | None
    down_filter: Tensor | None

    def __init__(
        self, w_dim: int, source: Band, target: Band, *, kernel_size: int, radial: bool
    ) -> None:
        super().__init__()
        self.affine = Linear(w_dim, source.channels, bias_init=1.0)
        shape = (target.channels, source.channels, kernel_size, kernel_size)
        self.weight = nn.Parameter(torch.randn(shape))
        self.bias = nn.Parameter(torch.zeros(target.channels))
        self.register_buffer("magnitude_ema", torch.ones([]))
        rate = max(source.sampling_rate, target.sampling_rate) * OVERSAMPLING
        self.up, self.down = (round(rate / band.sampling_rate) for band in (source, target))
        taps = [TAPS_PER_SAMPLE * factor if factor > 1 else 1 for factor in (self.up, self.down)]
        for name, count, band, is_radial in (
            ("up_filter", taps[0], source, False),
            ("down_filter", taps[1], target, radial),
        ):
            kernel = low_pass(
                count,
                cutoff=band.cutoff,
                width=band.half_width * 2,
                sampling_rate=rate,
                radial=is_radial,
            )
            self.register_buffer(name, kernel)
        # Such that `target.size` samples come out, with the same place in the middle.
        total = (target.size - 1) * self.down + 1 - (source.size + kernel_size - 1) * self.up
        total += sum(taps) - 2
        before = (total + self.up) // 2
        self.padding = before, total - before

    def forward(
        self,
        x: Tensor,
        w_ND: Tensor,
        *,
        weight_residual: Tensor | None = None,
        style_offset: Tensor | None = None,
    ) -> Tensor:
        x = modulated_conv2d(
            x,
            self.weight,
            modulated_styles(self.affine, w_ND, style_offset),
            offset=self.bias[:, None, None],
            gain=self.magnitude_ema.rsqrt(),
            weight_residual=weight_residual,
            padding=self.weight.shape[-1] - 1,
        )
        assert self.up_filter is not None
        assert self.down_filter is not None
        return filtered_lrelu(
            x,
            self.up_filter,
            self.down_filter,
            up=self.up,
            down=self.down,
            padding=self.padding,
            clamp=CLAMP,
        )


class FilteredToRGB(ToRGB):
    """ToRGB with StyleGAN3's normalisation of its input."""

    magnitude_ema: Tensor

    def __init__(self, in_channels: int, w_dim: int) -> None:
        super().__init__(in_channels, w_dim)
        self.register_buffer("magnitude_ema", torch.ones([]))

    def gain(self) -> Tensor:
        return self.magnitude_ema.rsqrt() * self.weight_gain

    def forward(
        self,
        x: Tensor,
        w_ND: Tensor,
        *,
        weight_residual: Tensor | None = None,
        style_offset: Tensor | None = None,
    ) -> Tensor:
        rgb = super().forward(x, w_ND, weight_residual=weight_residual, style_offset=style_offset)
        return rgb.clamp(-CLAMP, CLAMP)
