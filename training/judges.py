"""What says how good a picture is while training: reconstruction terms and the adversary, together.

The loss of a picture is taken *at the picture*: its features serve the perceptual term, the
generator's adversarial loss and the adversary's own step, and one gradient goes through the
generator (``through``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from training.adversary import BALANCE_INTERVAL, Adversary, AdversaryConfig
from training.compute import Compute, draw_below
from training.terms import (
    IdentityTerm,
    ParsingTerm,
    PerceptualChoice,
    PixelChoice,
    View,
    join,
    perceptual_term,
    pixel_term,
)

Metrics = dict[str, Tensor]


@dataclass(frozen=True)
class JudgesConfig:
    """Who judges, and what each counts beside the pixel term.

    Attributes:
        pixel: what it is; ``none`` leaves it out.
        perceptual: the network of the perceptual term; ``auto``: LPIPS, else EfficientNet-lite0.
        perceptual_scales: halvings of the picture that it sees; None: as usual for its network.
        identity_weight: of the recognition network's distance; 0 leaves it out.
        identity_share: one face in so many is looked at by it, and by ``parsing``, in a step.
        parsing: pack with an imported face-parsing network; "" leaves it out.
        parsing_weight: of its distance (FSE, eq. 8).
        adversary: None trains without.
    """

    pixel: PixelChoice = "l1+ssim"
    perceptual: PerceptualChoice = "auto"
    perceptual_weight: float = 1.0
    perceptual_scales: int | None = None
    identity_weight: float = 0.15
    identity_share: int = 4
    parsing: str = ""
    parsing_weight: float = 0.1
    adversary: AdversaryConfig | None = field(default_factory=AdversaryConfig)

    def __post_init__(self) -> None:
        """ValueError where nothing says what a picture should be."""
        if self.pixel == self.perceptual == "none":
            raise ValueError("judges: pixel or perceptual must judge")
        if self.perceptual_scales is not None and self.perceptual_scales < 1:
            raise ValueError(f"perceptual_scales must be at least 1, got {self.perceptual_scales}")


class Judges:
    """The terms of a stage at its resolution; ``networks`` names what serves as each."""

    def __init__(
        self, config: JudgesConfig, resolution: int, compute: Compute | None = None
    ) -> None:
        self.config, compute = config, compute or Compute()
        self.pixel = pixel_term(config.pixel)
        self.perceptual = perceptual_term(
            config.perceptual, resolution, compute.device, scales=config.perceptual_scales
        )
        self.identity = IdentityTerm(compute.device) if config.identity_weight else None
        self.parsing = ParsingTerm(config.parsing, compute.device) if config.parsing else None
        self.adversary: Adversary | None = None
        if config.adversary is not None:
            adversary = Adversary(config.adversary, resolution, compute)
            self.adversary = adversary.to(compute.device)
        judges = {
            "pixel": self.pixel,
            "perceptual": self.perceptual,
            "identity": self.identity,
            "parsing": self.parsing,
            "adversary": self.adversary,
        }
        self.networks = {role: judge.name for role, judge in judges.items() if judge is not None}

    def reconstruction(
        self,
        view: View,
        source: View,
        weight_N1HW: Tensor,
        metrics: Metrics,
        *,
        suffix: str = "",
        identity: bool = True,
    ) -> Tensor:
        """Weighted sum of the reconstruction terms; each one goes into ``metrics`` by itself."""
        loss = view.images.new_zeros([])
        if self.pixel is not None:
            value = self.pixel.distance(view, source, weight_N1HW).mean()
            metrics[f"pixel{suffix}"] = value
            loss = loss + value
        if self.perceptual is not None:
            value = self.perceptual.distance(view, source, weight_N1HW).mean()
            metrics[f"perceptual{suffix}"] = value
            loss = loss + self.config.perceptual_weight * value
        if self.identity is not None and identity:
            part = _random_part(len(view), self.config.identity_share)
            value = self.identity.distance(view[part], source[part]).mean()
            metrics[f"identity{suffix}"] = value
            loss = loss + self.config.identity_weight * value
        if self.parsing is not None and identity:
            part = _random_part(len(view), self.config.identity_share)
            value = self.parsing.distance(view[part], source[part]).mean()
            metrics[f"parsing{suffix}"] = value
            loss = loss + self.config.parsing_weight * value
        return loss

    def acts(self, images_seen: int) -> bool:
        """The adversary is there, and its time has come."""
        return self.adversary is not None and images_seen >= self.adversary.config.start_images

    def adversarial(
        self,
        views: Sequence[tuple[View, float]],
        reconstruction: Tensor,
        number: int,
        metrics: Metrics,
    ) -> Tensor:
        """The adversary's loss of weighted views, balanced against the first one's reconstruction.

        Args:
            number: of the step.
        """
        assert self.adversary is not None
        losses = [weight * self.adversary.generator_loss(view) for view, weight in views]
        loss = torch.stack(losses).sum()
        if number % BALANCE_INTERVAL == 0 or not self.adversary.is_measured:
            self.adversary.measure_balance(reconstruction, loss, views[0][0].images)
        metrics["adversarial"] = loss
        metrics["adversarial_weight"] = self.adversary.balance.clone()
        return self.adversary.balance * loss

    def discriminator_loss(self, real: View, fakes: Sequence[View]) -> Tensor:
        """What the adversary learns from, on features that are there already."""
        assert self.adversary is not None
        fake = join([view.detach() for view in fakes], self.adversary.network)
        return self.adversary.discriminator_loss(real, fake)


def leaf(images_N3RR: Tensor) -> View:
    """A view of generated pictures, float32, that collects their gradient."""
    return View(images_N3RR.detach().float().requires_grad_(True))


def through(images: Sequence[Tensor], views: Sequence[View], loss: Tensor) -> Tensor:
    """A scalar whose gradient is that of ``loss``, which depends on the ``views`` of ``images``."""
    gradients = torch.autograd.grad(loss, [view.images for view in views])
    pairs = zip(images, gradients, strict=True)
    return torch.stack([(image * gradient).sum() for image, gradient in pairs]).sum()


def _random_part(count: int, share: int) -> slice:
    """Consecutive faces, one in ``share``."""
    size = max(1, count // share)
    start = draw_below(count - size + 1)
    return slice(start, start + size)
