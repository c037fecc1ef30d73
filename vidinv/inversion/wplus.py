"""Projection into W+ (Abdal et al. 2019, "Image2StyleGAN"): latents by gradient descent.

For each face x on its own, eq. 1 of the paper with a term that keeps w among those that the
generator knows, searched in u, where w = mean + spread u:

    perceptual P(G(w), x) + pixel |G(w) - x|^2 + distance |u|^2    (means, not sums)

``spread`` is the deviation of each number of w, so that a step and the distance mean the same in
every generator. As StyleGAN2's projector (Karras et al. 2020, appendix D) does, it starts from the
mean w and keeps noise constant. All rows of w+ move together at first: as good a picture is then
found nearer to W, where edits work better (docs/LOG.md).

It needs no weights and works with every pack; an encoder is some fifty times as fast.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

import torch
from torch import Tensor

from vidinv.generators.base import Generator
from vidinv.inversion.adam import Adam
from vidinv.inversion.base import Inverter
from vidinv.inversion.parts import MethodParts
from vidinv.inversion.perceptual import (
    Distance,
    Perceptual,
    build_distance,
    check_perceptual,
    describe,
)
from vidinv.inversion.state import TrackState
from vidinv.metrics.structure import pixel_structure_distance
from vidinv.types import EditedLatents, Inversion, RenderMode

NUM_SAMPLES = 1024  # of w, for its spread: known to about 2 %
ADAM_BETAS = 0.9, 0.99  # they suit a few dozen steps


@dataclass(frozen=True)
class WPlusConfig:
    """How to search; the defaults suit a CPU and generators of about 64 px.

    Attributes:
        steps: from the mean w.
        shared_steps: the first of these, in which all rows move together.
        steps_from_previous: from the last frame of the chunk before.
        learning_rate: of Adam, in deviations of w; it falls to 0 along a cosine.
        learning_rate_from_previous: where the search starts near.
        pixel_weight: of the mean square difference of pictures in [-1, 1].
        perceptual_weight: of the perceptual term.
        distance_weight: of the mean square of u.
        perceptual: which term, as ``vidinv.inversion.perceptual`` names them.
    """

    steps: int = 40
    shared_steps: int = 12
    steps_from_previous: int = 10
    learning_rate: float = 0.3
    learning_rate_from_previous: float = 0.1
    pixel_weight: float = 1.0
    perceptual_weight: float = 1.0
    distance_weight: float = 0.005
    perceptual: Perceptual = "auto"

    def __post_init__(self) -> None:
        check_perceptual(self.perceptual)
        if (
            not 0 <= self.shared_steps <= self.steps
            or min(self.steps, self.steps_from_previous) < 1
        ):
            raise ValueError("steps must be at least 1, shared_steps 0..steps")


class WPlusInverter(Inverter):
    """The ``wplus`` method: nothing to fit, a search a chunk.

    Args:
        distance: the perceptual term: two batches of pictures -> ``[N]``.
    """

    name = "wplus"
    needs_weights = False
    config_options = tuple(field.name for field in fields(WPlusConfig))
    chain_chunks = 4

    def __init__(
        self,
        generator: Generator,
        config: WPlusConfig = WPlusConfig(),
        *,
        distance: Distance = pixel_structure_distance,
        device: torch.device | str = "cpu",
    ) -> None:
        self.synthesis, self.config, self.distance = generator.synthesis, config, distance
        self.num_ws, self.device = generator.num_ws, torch.device(device)
        with torch.inference_mode(False), torch.no_grad():
            self.mean, self.spread = _distribution(generator, self.device)

    @classmethod
    def build(cls, parts: MethodParts) -> Self:
        config = parts.config(WPlusConfig)
        distance = build_distance(config.perceptual, parts.generator.resolution, parts.device)
        return cls(parts.generator, config, distance=distance, device=parts.device)

    @classmethod
    def local_choices(cls, config: Mapping[str, Any], resolution: int) -> dict[str, str]:
        return describe(config.get("perceptual", "auto"), resolution)

    def encode(
        self,
        faces_N3RR: Tensor,
        state: TrackState | None = None,
        *,
        mode: RenderMode = RenderMode.INVERT,
        previous: Inversion | None = None,
    ) -> Inversion:
        # Whatever the caller's mode: gradients are needed, and tensors that may have them.
        with torch.inference_mode(False), torch.enable_grad():
            faces = faces_N3RR.to(self.device).clone(memory_format=torch.channels_last)
            shape = len(faces), self.num_ws, len(self.mean)
            if previous is None:
                found = self._search(faces, torch.zeros(shape, device=self.device))
            else:
                last = previous.latents_NLD[-1:].to(self.device).clone()
                start = ((last - self.mean) / self.spread).expand(shape)
                found = self._search(faces, start.clone(), goes_on=True)
            return Inversion(self._latents(found).detach())

    @torch.inference_mode()
    def render(
        self,
        inversion: Inversion,
        edited: EditedLatents,
        state: TrackState | None = None,
        *,
        mode: RenderMode = RenderMode.INVERT,
    ) -> Tensor:
        edited = edited.to(self.device)
        return self.synthesis(edited.latents_NLD, style_offsets=edited.style_offsets)

    def losses(self, faces_N3RR: Tensor, u_NLD: Tensor) -> Tensor:
        """``[N]``: what is minimised."""
        config, pictures = self.config, self.synthesis(self._latents(u_NLD))
        return (
            config.pixel_weight * (pictures - faces_N3RR).square().mean((1, 2, 3))
            + config.perceptual_weight * self.distance(pictures, faces_N3RR)
            + config.distance_weight * u_NLD.square().mean((1, 2))
        )

    def _latents(self, u_NLD: Tensor) -> Tensor:
        return self.mean + self.spread * u_NLD

    def _search(self, faces_N3RR: Tensor, u_NLD: Tensor, *, goes_on: bool = False) -> Tensor:
        """u after all steps; faces do not know of each other: their losses are summed."""
        config = self.config
        steps = config.steps_from_previous if goes_on else config.steps
        rate = config.learning_rate_from_previous if goes_on else config.learning_rate
        shared = 0 if goes_on else config.shared_steps
        adam = Adam(u_NLD, betas=ADAM_BETAS)
        for step in range(steps):
            u_NLD.requires_grad_()
            # Rows that were moved alike so far go on being alike.
            rows = u_NLD.mean(1, keepdim=True).expand_as(u_NLD) if step < shared else u_NLD
            (gradient,) = torch.autograd.grad(self.losses(faces_N3RR, rows).sum(), u_NLD)
            falling = 0.5 + 0.5 * math.cos(math.pi * step / steps)
            u_NLD = u_NLD.detach() + adam.change(gradient, rate * falling)
            if self.on_step is not None:
                self.on_step()
        return u_NLD


def _distribution(generator: Generator, device: torch.device) -> tuple[Tensor, Tensor]:
    """Mean of w ``[D]`` and its deviation around it, from the same samples in every run."""
    z = torch.randn(NUM_SAMPLES, generator.z_dim, generator=torch.Generator().manual_seed(0))
    z, classes = z.to(device), None
    if generator.num_classes:
        classes = torch.arange(NUM_SAMPLES, device=device) % generator.num_classes
    mean = generator.mapping(z, truncation=0.0, classes_N=classes)
    mean = mean.mean(0) if generator.num_classes else mean[0]
    w = generator.mapping(z, classes_N=classes)
    return mean, (w - mean).square().mean(0).sqrt().clamp_min(1e-6)
