"""The perceptual term of methods that search: LPIPS where it is there, else L1 and SSIM."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor

from vidinv.metrics.lpips import BACKBONES, LPIPS, usable_backbone
from vidinv.metrics.structure import pixel_structure_distance

Distance = Callable[[Tensor, Tensor], Tensor]
"""Two batches of pictures ``[N, 3, R, R]`` -> ``[N]``."""

Perceptual = Literal["auto", "structure", "alex", "squeeze", "vgg"]
"""``"structure"``, a backbone of LPIPS, or ``"auto"``: LPIPS where torch's cache has a backbone,
else ``"structure"``.
"""

STRUCTURE = "structure"
STRUCTURE_NAME = "L1 and SSIM at three scales"
LPIPS_BACKBONES = tuple(BACKBONES)


def check_perceptual(wish: str) -> None:
    """ValueError for a term that there is not."""
    if wish not in get_args(Perceptual):
        raise ValueError(f"there is no perceptual term {wish!r}")


def build_distance(wish: Perceptual, resolution: int, device: torch.device) -> Distance:
    """The term that is chosen on this machine; MissingDependencyError where it is absent."""
    term = _chosen(wish, resolution)
    return pixel_structure_distance if term == STRUCTURE else LPIPS(term, device=device)


def describe(wish: Perceptual, resolution: int) -> dict[str, str]:
    """The choice, for ``Inverter.local_choices``."""
    term = _chosen(wish, resolution)
    return {"perceptual term": STRUCTURE_NAME if term == STRUCTURE else f"LPIPS ({term})"}


def _chosen(wish: str, resolution: int) -> str:
    """``"structure"`` or a backbone."""
    return (usable_backbone(resolution) or STRUCTURE) if wish == "auto" else wish
