"""The operators with gradients of any order, made of the operators themselves.

Each takes the ``Kernels`` to compute with, and gives what the reference in ``layers.py`` gives, but
for the order of sums: those stay what counts.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from vidinv.generators.ops.library import Kernels

Pair = tuple[int, int]


def upfirdn(
    kernels: Kernels,
    x: Tensor,
    taps: Tensor,
    *,
    up: Pair,
    down: Pair,
    padding: tuple[Pair, Pair],
    gain: float,
) -> Tensor:
    """Zero insertion, padding, symmetric FIR filter ``[kh, kw]`` and decimation of every channel.

    Args:
        up, down: (vertical, horizontal).
        padding: ((above, below), (left, right)) of what ``up`` made; negative crops.
    """
    size = tuple(
        (length * factor + sum(pads) - count) // step + 1
        for length, factor, pads, count, step in zip(
            x.shape[2:], up, padding, taps.shape, down, strict=True
        )
    )
    before = (padding[0][0], padding[1][0])
    result: Tensor = _UpfirdnFunction.apply(x, taps, kernels, size, up, down, before, gain)
    return result


class _UpfirdnFunction(torch.autograd.Function):
    """Its transpose is itself, with ``up`` and ``down`` exchanged and the filter turned round."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        taps: Tensor,
        kernels: Kernels,
        size: Pair,
        up: Pair,
        down: Pair,
        before: Pair,
        gain: float,
    ) -> Tensor:
        ctx.save_for_backward(taps)
        ctx.transposed = kernels, tuple(x.shape[2:]), down, up
        ctx.before, ctx.gain = before, gain
        return kernels.upfirdn(x, taps, size=size, up=up, down=down, before=before, gain=gain)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (taps,) = ctx.saved_tensors
        # Output o has tap o * down - before + t of position t: from the other side, tap counts - 1
        # - before come before.
        before = tuple(n - 1 - b for n, b in zip(taps.shape, ctx.before, strict=True))
        turned = taps.flip((0, 1))
        gradient = _UpfirdnFunction.apply(gradients[0], turned, *ctx.transposed, before, ctx.gain)
        return (gradient, *[None] * 7)


def scale_lrelu(
    kernels: Kernels,
    x: Tensor,
    scale: Tensor | None,
    offset: Tensor,
    *,
    slope: float,
    gain: float = 1.0,
) -> Tensor:
    """``gain * leaky_relu(scale * x + offset)``; scale and offset broadcast to x."""
    result: Tensor = _ScaleLreluFunction.apply(x, scale, offset, kernels, slope, gain)
    return result


class _ScaleLreluFunction(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        scale: Tensor | None,
        offset: Tensor,
        kernels: Kernels,
        slope: float,
        gain: float,
    ) -> Tensor:
        y = kernels.scale_lrelu(x, scale, offset, slope=slope, gain=gain)
        ctx.save_for_backward(x if ctx.needs_input_grad[1] else None, scale, y)
        ctx.slope, ctx.gain, ctx.offset = slope, gain, offset.shape
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, scale, y = ctx.saved_tensors
        # y has the sign of what the leaky ReLU saw.
        slopes = torch.where(y.detach() < 0, ctx.slope * ctx.gain, ctx.gain).to(y.dtype)
        inner = gradients[0] * slopes
        to_x = to_scale = to_offset = None
        if ctx.needs_input_grad[0]:
            to_x = inner if scale is None else inner * scale
        if scale is not None and ctx.needs_input_grad[1]:
            to_scale = (inner * x).sum_to_size(scale.shape)
        if ctx.needs_input_grad[2]:
            to_offset = inner.sum_to_size(ctx.offset)
        return to_x, to_scale, to_offset, None, None, None


def filtered_lrelu(
    kernels: Kernels,
    x: Tensor,
    up_taps: Tensor,
    down_taps: Tensor,
    *,
    up: int,
    down: int,
    padding: Pair,
    slope: float,
    gain: float,
    clamp: float,
) -> Tensor:
    """StyleGAN3's leaky ReLU at a higher rate (Karras et al. 2021, figure 4b), clamped there.

    Args:
        up_taps: ``[k]``.
        down_taps: ``[k]``, or ``[k, k]`` for one that is not separable.
        padding: (before, after) on both axes, of what ``up`` made.
    """
    result: Tensor = _FilteredLreluFunction.apply(
        x, up_taps, down_taps, kernels, up, down, padding, slope, gain, clamp
    )
    return result


class _FilteredLreluFunction(torch.autograd.Function):
    """Gradients make the signal at the higher rate anew: it is four times as large as x or more."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        up_taps: Tensor,
        down_taps: Tensor,
        kernels: Kernels,
        up: int,
        down: int,
        padding: Pair,
        slope: float,
        gain: float,
        clamp: float,
    ) -> Tensor:
        ctx.save_for_backward(x, up_taps, down_taps)
        ctx.values = kernels, up, down, padding, slope, gain, clamp
        height, width = (
            (side * up + sum(padding) - len(up_taps) + 1 - len(down_taps)) // down + 1
            for side in x.shape[2:]
        )
        y = kernels.filtered_lrelu(
            x,
            up_taps,
            down_taps,
            size=(height, width),
            up=up,
            down=down,
            before=padding[0],
            slope=slope,
            gain=gain,
            clamp=clamp,
        )
        if y is not None:
            return y
        upper = _raise(kernels, x, up_taps, up, padding)
        slopes = _slopes(upper, slope, gain, clamp=math.inf)
        return _lower(kernels, (upper * slopes).clamp(-clamp, clamp), down_taps, down)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, up_taps, down_taps = ctx.saved_tensors
        kernels, up, down, padding, slope, gain, clamp = ctx.values
        differentiable = torch.is_grad_enabled()
        with torch.enable_grad():
            source = x.detach().requires_grad_()
            upper = _raise(kernels, source, up_taps, up, padding)
            slopes = _slopes(upper.detach(), slope, gain, clamp=clamp)
            y = _lower(kernels, upper * slopes, down_taps, down)
        (gradient,) = torch.autograd.grad(y, source, gradients[0], create_graph=differentiable)
        return (gradient, *[None] * 9)


def _raise(kernels: Kernels, x: Tensor, taps: Tensor, up: int, padding: Pair) -> Tensor:
    """To ``up`` times the rate."""
    return _along_both(kernels, x, taps, up=up, padding=padding, gain=float(up))


def _lower(kernels: Kernels, x: Tensor, taps: Tensor, down: int) -> Tensor:
    """To a ``down``-th of the rate."""
    if taps.ndim == 1:
        return _along_both(kernels, x, taps, down=down)
    none = (0, 0)
    return upfirdn(kernels, x, taps, up=(1, 1), down=(down, down), padding=(none, none), gain=1.0)


def _along_both(
    kernels: Kernels,
    x: Tensor,
    taps: Tensor,
    *,
    up: int = 1,
    down: int = 1,
    padding: Pair = (0, 0),
    gain: float = 1.0,
) -> Tensor:
    """A separable filter ``[k]``, along one axis after the other."""
    none = (0, 0)
    x = upfirdn(
        kernels, x, taps[None], up=(1, up), down=(1, down), padding=(none, padding), gain=gain
    )
    return upfirdn(
        kernels, x, taps[:, None], up=(up, 1), down=(down, 1), padding=(padding, none), gain=gain
    )


def _slopes(upper: Tensor, slope: float, gain: float, *, clamp: float) -> Tensor:
    """What the leaky ReLU multiplies by; 0 where its output is clamped."""
    slopes = torch.where(upper < 0, slope * gain, gain).to(upper.dtype)
    return slopes.masked_fill((upper * slopes).abs() > clamp, 0.0)
