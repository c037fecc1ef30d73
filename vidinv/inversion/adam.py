"""Adam (Kingma and Ba 2015, algorithm 1) for methods that search while a clip is processed.

``torch.optim`` imports the compiler at its first step, which takes longer than a search.
"""

from __future__ import annotations

import torch
from torch import Tensor

EPS = 1e-8


class Adam:
    """Its memory of one tensor.

    Args:
        betas: of the running means of the gradient and of its square.
    """

    def __init__(self, like: Tensor, *, betas: tuple[float, float]) -> None:
        self._betas, self._count = betas, 0
        self._mean, self._square = torch.zeros_like(like), torch.zeros_like(like)

    def change(self, gradient: Tensor, rate: float) -> Tensor:
        """What to add to the tensor."""
        first, second = self._betas
        self._count += 1
        self._mean.lerp_(gradient, 1 - first)
        self._square.lerp_(gradient.square(), 1 - second)
        mean = self._mean / (1 - first**self._count)
        square = self._square / (1 - second**self._count)
        return -rate * mean / (square.sqrt() + EPS)
