"""Where an adaptive-block encoder looks a second and a third time (Yu et al., section 3.2).

Aligned pictures: AT1 is the middle three quarters of the columns, AT2 the middle 69 % of rows and
columns. Others: AT1 is the picture weighed by the Grad-CAM map of the class that VGG16 finds most
likely, AT2 the box where that map is at least half. Both are brought to the size of the picture.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from vidinv.metrics.lpips import cache_folder
from vidinv.networks.vgg16 import cached_vgg16

Attention = Literal["crops", "grad-cam", "none"]
Pair = tuple[Tensor, Tensor]
Attend = Callable[[Tensor, Tensor], list[Pair]]
"""Source and picture ``[N, 3, R, R]`` -> what AT1 and AT2 show of both, the same size."""

CLEAR_HEAT = 0.5


class Classifier(Protocol):
    """What Grad-CAM asks of a network (``vidinv.networks.vgg16.VGG16``)."""

    def maps(self, images_N3HW: Tensor) -> Tensor: ...
    def scores(self, maps_NCHW: Tensor) -> Tensor: ...


def build_attention(name: Attention, device: torch.device) -> Attend:
    """By its name; MissingDependencyError where Grad-CAM's network is absent."""
    if name == "none":
        return lambda source, picture: []
    if name == "crops":
        return crops
    network = cached_vgg16(cache_folder()).to(device)
    return lambda source, picture: grad_cam_views(network, source, picture)


def crops(source_N3RR: Tensor, picture_N3RR: Tensor) -> list[Pair]:
    """AT1 and AT2 of aligned faces (figure 5)."""
    side = source_N3RR.shape[-1]
    narrow, tight = side // 8, side // 8 + side // 32

    def one(rows: slice, columns: slice) -> Pair:
        first, second = (_to_side(x[..., rows, columns], side) for x in (source_N3RR, picture_N3RR))
        return first, second

    middle = slice(tight, side - tight)
    return [one(slice(None), slice(narrow, side - narrow)), one(middle, middle)]


def grad_cam_views(network: Classifier, source_N3RR: Tensor, picture_N3RR: Tensor) -> list[Pair]:
    """AT1 and AT2 of pictures that are not aligned (figure 6), where the *source* draws attention.

    The paper compares the maps of source and picture; those send no gradient back in its code.
    """
    side = source_N3RR.shape[-1]
    heat = heat_map(network, source_N3RR)
    weighed = source_N3RR * heat, picture_N3RR * heat
    boxes = [_box(one[0] >= CLEAR_HEAT) for one in heat]
    first, second = (
        torch.cat([_to_side(x[n : n + 1, :, r, c], side) for n, (r, c) in enumerate(boxes)])
        for x in (source_N3RR, picture_N3RR)
    )
    return [weighed, (first, second)]


def heat_map(network: Classifier, images_N3RR: Tensor) -> Tensor:
    """``[N, 1, R, R]``, 0..1: Grad-CAM of the likeliest class (Selvaraju et al. 2017, eq. 2)."""
    with torch.inference_mode(False), torch.enable_grad():
        maps = network.maps(images_N3RR.detach().clone()).detach().requires_grad_()
        best = network.scores(maps).amax(dim=1).sum()
        (gradient,) = torch.autograd.grad(best, maps)
    weights = gradient.mean(dim=(2, 3), keepdim=True)
    heat = F.relu((weights * maps.detach()).sum(dim=1, keepdim=True))
    low, high = heat.amin(dim=(2, 3), keepdim=True), heat.amax(dim=(2, 3), keepdim=True)
    heat = (heat - low) / (high - low).clamp_min(1e-8)
    return _to_side(heat, images_N3RR.shape[-1])


def _box(clear_HW: Tensor) -> tuple[slice, slice]:
    """Rows and columns from the first to the last that is clear; all where none is."""
    found = []
    for axis in (1, 0):
        (places,) = torch.nonzero(clear_HW.any(dim=axis), as_tuple=True)
        found.append(slice(int(places[0]), int(places[-1]) + 1) if len(places) else slice(None))
    return found[0], found[1]


def _to_side(x: Tensor, side: int) -> Tensor:
    return F.interpolate(x, (side, side), mode="bilinear", align_corners=False)
