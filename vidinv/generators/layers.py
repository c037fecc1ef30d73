"""Layers shared by the StyleGAN family: equalised linear, FIR resampling, modulated convolution.

Parameter names and numerics follow the NVIDIA layout (docs/REFERENCES.md, "StyleGAN2 layout"), so
official weights load without renaming. Papers: StyleGAN2, Karras et al. 2020 (section 2, modulation
and demodulation; appendix B, equalised learning rate and FIR kernel [1, 3, 3, 1]).

What a GPU has an operator of its own for (``ops``) is done by that there; the code here is the
reference.

Shapes: x ``[N, C, H, W]``, styles ``[N, I]``, weights ``[O, I, k, k]``; per-sample weight residuals
``[N, O, I, k, k]``.
"""

from __future__ import annotations

import math
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidinv.generators import ops

LRELU_SLOPE = 0.2
LRELU_GAIN = math.sqrt(2.0)  # keeps unit variance through the leaky ReLU
DEMODULATION_EPS = 1e-8


def lrelu(x: Tensor, *, gain: float = LRELU_GAIN) -> Tensor:
    """Leaky ReLU with slope 0.2, scaled by ``gain``."""
    return F.leaky_relu(x, LRELU_SLOPE) * gain


def bias_lrelu(x: Tensor, bias_C: Tensor, *, gain: float = LRELU_GAIN) -> Tensor:
    """``lrelu`` of x and a bias for each channel."""
    offset = bias_C.to(x.dtype)[:, None, None]
    if kernels := ops.kernels_for(x):
        return ops.scale_lrelu(kernels, x, None, offset, slope=LRELU_SLOPE, gain=gain)
    return lrelu(x + offset, gain=gain)


def filtered_lrelu(
    x: Tensor,
    up_taps: Tensor,
    down_taps: Tensor,
    *,
    up: int,
    down: int,
    padding: tuple[int, int],
    clamp: float,
) -> Tensor:
    """``lrelu`` at ``up`` times the rate, clamped there, between two filters (StyleGAN3).

    Args:
        up_taps: ``[k]``.
        down_taps: ``[k]``, or ``[k, k]`` for one that is not separable.
        padding: (before, after) on both axes, of what ``up`` made.
    """
    if kernels := ops.kernels_for(x):
        return ops.filtered_lrelu(
            kernels,
            x,
            up_taps,
            down_taps,
            up=up,
            down=down,
            padding=padding,
            slope=LRELU_SLOPE,
            gain=LRELU_GAIN,
            clamp=clamp,
        )
    x = upfirdn(x, up_taps, up=up, padding=padding, gain=up**2)
    x = lrelu(x, gain=LRELU_GAIN).clamp(-clamp, clamp)
    return upfirdn(x, down_taps, down=down, padding=(0, 0))


def fir_kernel() -> Tensor:
    """The ``[4, 4]`` low-pass kernel outer([1, 3, 3, 1]) / 64 of StyleGAN2."""
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0])
    return torch.outer(taps, taps) / 64.0


def upfirdn(
    x: Tensor,
    kernel: Tensor,
    *,
    up: int = 1,
    down: int = 1,
    padding: tuple[int, int],
    gain: float = 1.0,
) -> Tensor:
    """Zero insertion, padding, symmetric FIR filter and decimation of every channel.

    Args:
        kernel: ``[k, k]``, or ``[k]`` for a separable one.
        padding: (before, after) on both axes, of what ``up`` made; negative crops.
        gain: of the whole.
    """
    if kernel.ndim == 1:
        one_way = partial(_upfirdn, up=up, down=down, padding=padding, gain=math.sqrt(gain))
        x = one_way(x, kernel[None], axes=(False, True))
        return one_way(x, kernel[:, None], axes=(True, False))
    return _upfirdn(x, kernel, axes=(True, True), up=up, down=down, padding=padding, gain=gain)


def _upfirdn(
    x: Tensor,
    kernel: Tensor,
    *,
    axes: tuple[bool, bool],
    up: int,
    down: int,
    padding: tuple[int, int],
    gain: float,
) -> Tensor:
    """``upfirdn`` along the chosen axes (vertical, horizontal)."""
    if kernels := ops.kernels_for(x):
        pads = [padding if axis else (0, 0) for axis in axes]
        return ops.upfirdn(
            kernels,
            x,
            kernel,
            up=_along(axes, up, 1),
            down=_along(axes, down, 1),
            padding=(pads[0], pads[1]),
            gain=gain,
        )
    channels = x.shape[1]
    weight = (kernel * gain).to(x.dtype).expand(channels, 1, *kernel.shape)
    before, after = padding
    if up > 1:  # a transposed convolution has all the padding that the filter can reach
        taps = max(kernel.shape)
        before, after = before - (taps - 1), after - (taps - up)
        inside = -before if before == after and before <= 0 else 0
        before, after = before + inside, after + inside
        x = F.conv_transpose2d(
            x, weight, stride=_along(axes, up, 1), padding=_along(axes, inside, 0), groups=channels
        )
        x = _pad(x, before, after, axes)
        return x[:, :, :: down if axes[0] else 1, :: down if axes[1] else 1]
    if before != after or before < 0:
        x, before = _pad(x, before, after, axes), 0
    stride = _along(axes, down, 1)
    return F.conv2d(x, weight, stride=stride, padding=_along(axes, before, 0), groups=channels)


def _along(axes: tuple[bool, bool], chosen: int, other: int) -> tuple[int, int]:
    return chosen if axes[0] else other, chosen if axes[1] else other


def _pad(x: Tensor, before: int, after: int, axes: tuple[bool, bool]) -> Tensor:
    if before == after == 0:
        return x
    vertical, horizontal = ((before, after) if axis else (0, 0) for axis in axes)
    return F.pad(x, [*horizontal, *vertical])


def upsample_fir(x: Tensor, kernel: Tensor) -> Tensor:
    """Twice the size by zero insertion and FIR filtering (the RGB skip of StyleGAN2)."""
    return upfirdn(x, kernel, up=2, padding=(2, 1), gain=4.0)


class Linear(nn.Module):
    """Fully connected layer with equalised learning rate (weights stored at unit variance)."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        bias_init: float = 0.0,
        lr_multiplier: float = 1.0,
        activate: bool = False,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_features, in_features) / lr_multiplier)
        self.bias = nn.Parameter(torch.full([out_features], bias_init / lr_multiplier))
        self.weight_gain = lr_multiplier / math.sqrt(in_features)
        self.bias_gain = lr_multiplier
        self.activate = activate

    def forward(self, x: Tensor) -> Tensor:
        y = F.linear(x, self.weight * self.weight_gain, self.bias * self.bias_gain)
        return lrelu(y) if self.activate else y


def modulated_styles(affine: Linear, w_ND: Tensor, offset: Tensor | None) -> Tensor:
    """The style of a layer, moved by ``[N, I]`` or ``[I]`` (StyleSpace, Wu et al. 2021)."""
    styles: Tensor = affine(w_ND)
    return styles if offset is None else styles + offset.to(styles)


def modulated_conv2d(
    x: Tensor,
    weight: Tensor,
    styles: Tensor,
    *,
    offset: Tensor,
    gain: float | Tensor = 1.0,
    up_kernel: Tensor | None = None,
    weight_residual: Tensor | None = None,
    padding: int | None = None,
    activate: bool = False,
) -> Tensor:
    """Convolution whose input channels are scaled by ``styles`` (StyleGAN2 eqs. 1 and 3).

    Without residuals the weights are shared by the batch, so the activations are scaled before
    and after one ordinary convolution (same result, much faster than grouped weights). With
    ``weight_residual`` ``[N, O, I, k, k]`` (added to the raw weight, HyperInverter eq. 3) each
    sample has its own weights and the batch runs as one grouped convolution.

    Args:
        offset: added to the output; broadcasts to it.
        gain: of the demodulated output, before ``offset``. Demodulation, gain and offset are one
            pass over the activations: at these sizes passes cost as much as the convolution.
        up_kernel: FIR kernel; when given the output has twice the size.
        padding: of x on all sides; by default what keeps its size.
        activate: with a leaky ReLU, whose gain is to be in ``gain`` and ``offset``: it is linear
            on either side.
    """
    if weight_residual is not None:
        own = weight + weight_residual
        y = _modulated_conv2d_grouped(x, own, styles, up_kernel=up_kernel, padding=padding)
        scale = gain if isinstance(gain, Tensor) else y.new_full((), gain)
        return _scale_offset(y, scale, offset, activate=activate)
    scaled = x * styles.to(x.dtype)[:, :, None, None]
    y = _convolve(scaled, weight.to(x.dtype), up_kernel, groups=1, padding=padding)
    energy = weight.square().sum(dim=(2, 3))  # [O, I]
    scale = torch.rsqrt(F.linear(styles.square(), energy) + DEMODULATION_EPS) * gain  # [N, O]
    return _scale_offset(y, scale[:, :, None, None], offset, activate=activate)


def _scale_offset(y: Tensor, scale: Tensor, offset: Tensor, *, activate: bool) -> Tensor:
    scale, offset = scale.to(y.dtype), offset.to(y.dtype)
    if activate and (kernels := ops.kernels_for(y)):
        return ops.scale_lrelu(kernels, y, scale, offset, slope=LRELU_SLOPE)
    y = torch.addcmul(offset, y, scale)
    return F.leaky_relu(y, LRELU_SLOPE, inplace=True) if activate else y


def spatially_modulated_conv2d(
    x: Tensor,
    weight: Tensor,
    styles_NIHW: Tensor,
    *,
    offset: Tensor,
    gain: float = 1.0,
    up_kernel: Tensor | None = None,
) -> Tensor:
    """``modulated_conv2d`` with a style of its own at every place of x (ReGANIE eq. 7).

    An output is demodulated by the style at its place, as if that held for all that the
    convolution sees: a style that is the same everywhere gives what ``modulated_conv2d`` gives.
    """
    y = _convolve(x * styles_NIHW, weight, up_kernel, groups=1)
    energy = weight.square().sum(dim=(2, 3), keepdim=True)  # [O, I, 1, 1]
    scale = torch.rsqrt(F.conv2d(styles_NIHW.square(), energy) + DEMODULATION_EPS) * gain
    if up_kernel is not None:
        scale = F.interpolate(scale, scale_factor=2, mode="nearest")
    return torch.addcmul(offset, y, scale)


def _modulated_conv2d_grouped(
    x: Tensor,
    weights: Tensor,
    styles: Tensor,
    *,
    up_kernel: Tensor | None,
    padding: int | None,
) -> Tensor:
    batch, out_channels, in_channels, size, _ = weights.shape
    weights = weights * styles[:, None, :, None, None]
    norm = torch.rsqrt(weights.square().sum(dim=(2, 3, 4), keepdim=True) + DEMODULATION_EPS)
    flat = (weights * norm).reshape(batch * out_channels, in_channels, size, size).to(x.dtype)
    joined = x.reshape(1, -1, *x.shape[2:])
    y = _convolve(joined, flat, up_kernel, groups=batch, padding=padding)
    return y.reshape(batch, out_channels, *y.shape[2:])


def _convolve(
    x: Tensor,
    weight: Tensor,
    up_kernel: Tensor | None,
    *,
    groups: int,
    padding: int | None = None,
) -> Tensor:
    """Same-size convolution, or twice-size: transposed convolution followed by the FIR filter."""
    if up_kernel is None:
        padding = weight.shape[-1] // 2 if padding is None else padding
        return F.conv2d(x, weight, padding=padding, groups=groups)
    out_channels, in_channels, size, _ = weight.shape
    if groups == 1:
        transposed = weight.transpose(0, 1)
    else:
        grouped = weight.reshape(groups, out_channels // groups, in_channels, size, size)
        transposed = grouped.transpose(1, 2).reshape(groups * in_channels, -1, size, size)
    y = F.conv_transpose2d(x, transposed, stride=2, groups=groups)
    return upfirdn(y, up_kernel, padding=(1, 1), gain=4.0)
