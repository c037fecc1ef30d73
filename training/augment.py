"""DiffAugment: changes to all that a discriminator sees, real or not (Zhao et al. 2020).

Real and generated pictures are changed at random, each in its own way, and gradients go through, so
that a discriminator cannot learn few photographs by heart and the generator does not learn the
changes. Ranges are those of section 4 of the paper.

Shapes: x ``[N, 3, R, R]`` in [-1, 1].
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Change = Literal["colour", "translation", "cutout"]
BRIGHTNESS = 0.5  # in [-0.5, 0.5], of a range of 2
SATURATION = (0.0, 2.0)
CONTRAST = (0.5, 1.5)
TRANSLATION = 1 / 8  # of the side, each way; what comes in is 0
CUTOUT = 1 / 2  # side of the square that is masked


def augment(x: Tensor, changes: tuple[Change, ...]) -> Tensor:
    """Every picture changed by all of ``changes``, as drawn from torch's random numbers."""
    for change in changes:
        x = _CHANGES[change](x)
    return x


def colour(x: Tensor) -> Tensor:
    """Brightness, saturation (distance from grey) and contrast (distance from the mean)."""
    x = x + _uniform(x, -BRIGHTNESS, BRIGHTNESS)
    grey = x.mean(dim=1, keepdim=True)
    x = grey + (x - grey) * _uniform(x, *SATURATION)
    mean = x.mean(dim=(1, 2, 3), keepdim=True)
    return mean + (x - mean) * _uniform(x, *CONTRAST)


def translation(x: Tensor) -> Tensor:
    """Whole pixels along both axes."""
    count, _, height, width = x.shape
    rows, in_rows = _moved(count, height, x.device)
    columns, in_columns = _moved(count, width, x.device)
    at = torch.arange(count, device=x.device)[:, None, None]
    moved_NHWC = x.movedim(1, -1)[at, rows[:, :, None], columns[:, None, :]]
    inside = in_rows[:, None, :, None] * in_columns[:, None, None, :]
    return moved_NHWC.movedim(-1, 1) * inside.to(x.dtype)


def cutout(x: Tensor) -> Tensor:
    """A square of half the side, anywhere with its centre inside, becomes 0."""
    count, _, height, width = x.shape
    in_rows, in_columns = (_covered(count, side, x.device) for side in (height, width))
    return x * ~(in_rows[:, None, :, None] & in_columns[:, None, None, :])


def _uniform(x: Tensor, low: float, high: float) -> Tensor:
    return torch.rand(len(x), 1, 1, 1, device=x.device, dtype=x.dtype) * (high - low) + low


def _moved(count: int, side: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Where each place of an axis comes from, ``[N, S]``, and whether that is inside."""
    most = round(side * TRANSLATION)
    shift = torch.randint(-most, most + 1, [count, 1], device=device)
    source = torch.arange(side, device=device) - shift
    return source.clamp(0, side - 1), (source >= 0) & (source < side)


def _covered(count: int, side: int, device: torch.device) -> Tensor:
    size = round(side * CUTOUT)
    first = torch.randint(0, side, [count, 1], device=device) - size // 2
    place = torch.arange(side, device=device)
    return (place >= first) & (place < first + size)


_CHANGES = {"colour": colour, "translation": translation, "cutout": cutout}
