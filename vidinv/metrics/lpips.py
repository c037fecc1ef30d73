"""LPIPS: the perceptual distance of two pictures, by the ``lpips`` package.

Zhang, Isola, Efros, Shechtman, Wang, "The Unreasonable Effectiveness of Deep Features as a
Perceptual Metric" (CVPR 2018), version 0.1. Its network builds on ImageNet weights in torch's
cache, which are never downloaded: ``lpips_absent`` says beforehand whether, and what, is missing.
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from vidinv.errors import MissingDependencyError, UnknownNameError

# pSp, e4e, HyperInverter and the Feature-Style encoder reduce to 256 px before LPIPS. Smaller
# pictures stay as they are: LPIPS was tuned on patches of 64 px (Zhang et al., section 2), and
# enlarging would compare what is not there.
MAX_PX = 256


@dataclass(frozen=True)
class Backbone:
    """ImageNet weights that LPIPS builds on.

    Attributes:
        file: torchvision's name of it in torch's cache.
        min_px: least side of a picture; below it a pooling of the network has nothing left.
    """

    file: str
    min_px: int


BACKBONES = {
    "alex": Backbone("alexnet-owt-7be5be79.pth", 31),
    "squeeze": Backbone("squeezenet1_1-b8a52dc0.pth", 17),
    "vgg": Backbone("vgg16-397923af.pth", 16),
}


class LPIPS:
    """The distance as a function of two batches; gradients pass through it to the pictures.

    Args:
        backbone: a name of ``BACKBONES``; evaluations of GAN inversion use "alex".
        network: with its weights; by default that of the package on the backbone in torch's cache.

    Raises:
        MissingDependencyError: package or weights are not there.
        UnknownNameError: no such backbone.
    """

    def __init__(
        self,
        backbone: str = "alex",
        *,
        device: torch.device | str = "cpu",
        network: torch.nn.Module | None = None,
    ) -> None:
        self.backbone = _backbone(backbone)
        network = lpips_network(backbone) if network is None else network
        self._network: Any = network.eval().requires_grad_(False).to(device)

    def __call__(self, first_N3HW: torch.Tensor, second_N3HW: torch.Tensor) -> torch.Tensor:
        """``[N]`` distances of pictures in [-1, 1] of at least the backbone's side; 0 is equal."""
        return self.layers(first_N3HW, second_N3HW).sum(dim=0)

    def layers(self, first_N3HW: torch.Tensor, second_N3HW: torch.Tensor) -> torch.Tensor:
        """``[L, N]``: what each layer of the backbone adds to the distance."""
        pair = (_at_most(images, MAX_PX) for images in (first_N3HW, second_N3HW))
        _, layers = self._network(*pair, retPerLayer=True)
        return torch.stack([layer.flatten() for layer in layers])


def lpips_network(backbone: str) -> torch.nn.Module:
    """The package's network; MissingDependencyError where it or its backbone is not there."""
    if reason := lpips_absent(MAX_PX, backbone):
        raise MissingDependencyError(f"LPIPS is absent: {reason}")
    import lpips

    with warnings.catch_warnings():
        # lpips calls torchvision by an argument that it has renamed.
        warnings.simplefilter("ignore", UserWarning)
        network: torch.nn.Module = lpips.LPIPS(net=backbone, verbose=False)
    return network


def lpips_absent(side_px: int, backbone: str = "alex") -> str:
    """Why LPIPS of pictures of that side cannot be computed offline; empty where it can."""
    needed = _backbone(backbone)
    if side_px < needed.min_px:
        return f"its network needs pictures of {needed.min_px} px a side, got {side_px}"
    if importlib.util.find_spec("lpips") is None:
        return "the lpips package is not installed (make setup-dev, or pip install -e '.[train]')"
    if backbone not in cached_backbones():
        return f"its backbone is not in the torch cache ({needed.file})"
    return ""


def usable_backbone(
    side_px: int, *, absent: Callable[[int, str], str] = lpips_absent
) -> str | None:
    """The first of ``BACKBONES`` (alex costs least) that serves for pictures of that side.

    Args:
        absent: why a backbone does not serve; empty where it does.
    """
    return next((name for name in BACKBONES if not absent(side_px, name)), None)


def cached_backbones() -> tuple[str, ...]:
    """Names of the backbones whose weights are in torch's cache."""
    folder = cache_folder()
    return tuple(name for name, one in BACKBONES.items() if (folder / one.file).is_file())


def cache_folder() -> Path:
    """Where torch keeps weights."""
    return Path(torch.hub.get_dir()) / "checkpoints"


def _backbone(name: str) -> Backbone:
    if name not in BACKBONES:
        raise UnknownNameError("LPIPS backbone", name, BACKBONES)
    return BACKBONES[name]


def _at_most(images_N3HW: torch.Tensor, side_px: int) -> torch.Tensor:
    if max(images_N3HW.shape[-2:]) <= side_px:
        return images_N3HW
    return F.interpolate(images_N3HW, (side_px, side_px), mode="area")
