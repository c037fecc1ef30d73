"""VGG16 as it classifies (Simonyan and Zisserman 2015, configuration D), for Grad-CAM.

The weights are torchvision's of ImageNet, taken from torch's cache and never downloaded. Parameter
names are torchvision's.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidinv.errors import MissingDependencyError

FILE = "vgg16-397923af.pth"
INPUT_PX = 224
CONVOLUTIONS = 2, 2, 3, 3, 3  # of each block, before its pooling
WIDTHS = 64, 128, 256, 512, 512
POOLED = 7
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class VGG16(nn.Module):
    """Pictures ``[N, 3, h, w]`` in [-1, 1] -> maps of the last convolution, and class scores.

    Args:
        widths, hidden, classes: the published ones by default.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        widths: tuple[int, ...] = WIDTHS,
        *,
        hidden: int = 4096,
        classes: int = 1000,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for width, count in zip(widths, CONVOLUTIONS, strict=True):
            for _ in range(count):
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
                channels = width
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(
            nn.Linear(channels * POOLED**2, hidden),
            nn.ReLU(),
            nn.Dropout(),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Dropout(),
            nn.Linear(hidden, classes),
        )
        for name, values in (("mean", MEAN), ("std", STD)):
            picture = torch.tensor(values)[:, None, None]
            self.register_buffer(name, picture, persistent=False)

    def maps(self, images_N3HW: Tensor) -> Tensor:
        """``[N, C, h, w]``: the last convolution's features, rectified."""
        x = ((images_N3HW + 1) / 2 - self.mean) / self.std
        x = F.interpolate(x, (INPUT_PX, INPUT_PX), mode="bilinear", align_corners=False)
        maps: Tensor = self.features[:-1](x)
        return maps

    def scores(self, maps_NCHW: Tensor) -> Tensor:
        """``[N, classes]`` from ``maps``."""
        x = F.adaptive_avg_pool2d(self.features[-1](maps_NCHW), POOLED)
        scores: Tensor = self.classifier(x.flatten(1))
        return scores


def cached_vgg16(folder: Path, network: VGG16 | None = None) -> VGG16:
    """With the weights in torch's cache.

    Args:
        folder: the cache.
        network: to fill; by default one of the published sizes.

    Raises:
        MissingDependencyError: they are not there.
    """
    path = folder / FILE
    if not path.is_file():
        raise MissingDependencyError(f"Grad-CAM needs VGG16's weights: {path} is not there")
    network = network or VGG16()
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return network.eval().requires_grad_(False)
