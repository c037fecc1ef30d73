"""The mapping network z -> w that the StyleGAN family shares (Karras et al. 2019, section 2)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vidinv.generators.layers import Linear

LR_MULTIPLIER = 0.01  # of the equalised learning rate


def normalise_rms(x: Tensor, *, eps: float = 1e-8) -> Tensor:
    """To a root mean square of 1 over axis 1."""
    return x * torch.rsqrt(x.square().mean(dim=1, keepdim=True) + eps)


class MappingNetwork(nn.Module):
    """z -> w: equalised linear layers at a learning rate of 0.01 after normalising z."""

    w_avg: Tensor

    def __init__(self, z_dim: int, w_dim: int, num_layers: int) -> None:
        super().__init__()
        self.num_layers = num_layers
        for index in range(num_layers):
            width = z_dim if index == 0 else w_dim
            layer = Linear(width, w_dim, lr_multiplier=LR_MULTIPLIER, activate=True)
            self.add_module(f"fc{index}", layer)
        self.register_buffer("w_avg", torch.zeros(w_dim))

    def forward(
        self, z_NZ: Tensor, *, truncation: float = 1.0, classes_N: Tensor | None = None
    ) -> Tensor:
        """w ``[N, D]``; ``truncation`` 1 leaves it, 0 gives the mean (StyleGAN, appendix B)."""
        if classes_N is not None:
            raise ValueError("this generator is not class-conditional")
        x = normalise_rms(z_NZ)
        for index in range(self.num_layers):
            x = getattr(self, f"fc{index}")(x)
        return x if truncation == 1.0 else self.w_avg.lerp(x, truncation)
