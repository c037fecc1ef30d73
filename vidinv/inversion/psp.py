"""Inversion with encoders into W+ alone: pSp, e4e and ReStyle.

w+ = mean + E(x) (Richardson et al. 2021, section 3; Tov et al. 2021). ReStyle (Alaluf et al. 2021,
eqs. 1 and 2) encodes several times, each time the source beside the picture so far. There is
nothing else: the picture is G(w+), and an edit moves w+.
"""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor

from vidinv.generators.base import Generator
from vidinv.inversion.base import Inverter
from vidinv.inversion.parts import MethodParts
from vidinv.inversion.psp_encoder import PspConfig, PspEncoder
from vidinv.inversion.state import TrackState
from vidinv.types import EditedLatents, Inversion, RenderMode


class PspInverter(Inverter):
    """The ``psp`` method: nothing to fit, an encoder pass a frame, or one for each step."""

    name = "psp"

    def __init__(self, generator: Generator, encoder: PspEncoder) -> None:
        self.synthesis, self.encoder = generator.synthesis, encoder
        self.device = encoder.latent_avg.device

    @classmethod
    def build(cls, parts: MethodParts) -> Self:
        generator = parts.generator
        encoder = PspEncoder(parts.config(PspConfig), generator.config)
        return cls(generator, parts.load(encoder))

    @torch.inference_mode()
    def encode(
        self,
        faces_N3RR: Tensor,
        state: TrackState | None = None,
        *,
        mode: RenderMode = RenderMode.INVERT,
        previous: Inversion | None = None,
    ) -> Inversion:
        x = self.encoder.resize(faces_N3RR.to(self.device))
        latents = self.start(len(x))
        for _ in range(self.encoder.config.steps):
            latents = self.advance(x, latents)
        return Inversion(latents)

    def start(self, count: int) -> Tensor:
        """Latents ``[N, L, D]`` before the first step."""
        return self.encoder.latent_avg.expand(count, -1, -1)

    def advance(self, x_N3SS: Tensor, latents_NLD: Tensor, *, offsets: int | None = None) -> Tensor:
        """Latents after one more step, with gradients (ReStyle, eqs. 1 and 2).

        Args:
            x_N3SS: what ``encoder.resize`` gave.
            offsets: ``PspEncoder.forward``.
        """
        encoder, seen = self.encoder, x_N3SS
        if encoder.config.steps > 1:
            seen = torch.cat([seen, encoder.resize(self.synthesis(latents_NLD))], dim=1)
        codes: Tensor = encoder(seen, offsets=offsets)
        return latents_NLD + codes

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
