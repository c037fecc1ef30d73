"""A made-up face-parsing network: what is green is a hand, all else is skin."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from tests.packs.tiny import write_tiny_pack

KIND = "green"


class GreenParser(nn.Module):
    """Logits of skin, hand and hair, at the picture's own size."""

    classes = ("skin", "hand", "hair")
    input_px = 64

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)

    def normalise(self, pictures: torch.Tensor) -> torch.Tensor:
        return pictures

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x)

    @classmethod
    def made(cls) -> GreenParser:
        """With the weights that do it."""
        network = cls().eval().requires_grad_(False)
        network.conv.weight.zero_()
        network.conv.weight[1, :, 0, 0] = torch.tensor([-20.0, 40.0, -20.0])
        network.conv.bias.copy_(torch.tensor([0.0, -20.0, -60.0]))
        return network


def write_parsing_pack(folder: Path) -> Path:
    """The tiny pack with this network; whoever loads it registers ``KIND``."""
    weights = GreenParser.made().state_dict()
    return write_tiny_pack(folder, networks={"parsing": (KIND, weights)})
