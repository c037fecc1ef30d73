"""Networks that a pack may carry beside generator and methods: by what they do, kind -> builder."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from vidinv.networks.bisenet import BiSeNet
from vidinv.networks.iresnet import IResNet
from vidinv.networks.irse import ArcFace

NETWORKS: dict[str, dict[str, Callable[[], nn.Module]]] = {
    "recognition": {"ir_se50": ArcFace, "iresnet50": IResNet},
    "parsing": {"bisenet": BiSeNet},
}
