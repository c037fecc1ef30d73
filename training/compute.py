"""Where the networks of a run work, and how precisely.

bfloat16 is for the generator and networks that learn, and for nothing else: their convolutions and
matrix products, by autocast, with parameters that stay float32. Pictures, latents and features are
made float32 where they leave such a network, before anything is measured: SSIM takes a variance as
the difference of two nearly equal means, and bfloat16 keeps eight bits of each. Frozen networks
that judge are float32 (docs/LOG.md).
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Literal, TypeVar

import torch
from torch import nn

from vidinv.errors import UsageError

DeviceWish = Literal["auto", "cpu", "cuda"]
Precision = Literal["float32", "bfloat16"]
Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True)
class Compute:
    """A device, and the precision of networks on it.

    Attributes:
        device: of every tensor of a step, but for numbers that decide what a step does.
        precision: of convolutions and matrix products.
    """

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    precision: Precision = "float32"

    def place(self, network: Network) -> Network:
        """A network on the device, channels last."""
        network.to(self.device)
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return network

    def autocast(self) -> AbstractContextManager[object]:
        """Around the generator and what learns, and around nothing else.

        It remembers rounded weights until it ends: what learns must not run in it first without
        gradients and then with them.
        """
        if self.precision == "float32":
            return nullcontext()
        return torch.autocast(self.device.type, torch.bfloat16)


def choose_device(wish: DeviceWish) -> torch.device:
    """The device of this process; among several GPUs the one that ``training.group`` gave it.

    Raises:
        UsageError: a GPU was asked for, and there is none.
    """
    if wish == "cpu" or (wish == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise UsageError(
            "loop.device is cuda, but torch sees no GPU here: auto takes what is there"
        )
    return torch.device("cuda", torch.cuda.current_device())


def draw_below(end: int) -> int:
    """A number from 0 that decides what a step does.

    Drawn on the CPU on every device, or a GPU would have to be waited for.
    """
    return int(torch.randint(end, []))


def draw_of(shares: tuple[float, ...]) -> int:
    """As ``draw_below``, each number as often as its share says."""
    return int(torch.multinomial(torch.tensor(shares), 1))
