"""Inversion with HyperInverter (Dinh et al. 2022): w, and residuals of the generator's weights.

w = E1(x) (eq. 1); H_j of the features of x and G(w) gives the residual of layer j's weight (eqs. 3
and 4); the picture is G(w, theta + residuals) (eq. 5). An edit moves w and keeps the residuals.

The residuals of one face are as large as the generator. They are not stored: ``recompute`` makes
the very same ones from the source and the stored w.
"""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor

from vidinv.errors import UsageError
from vidinv.generators.base import Generator
from vidinv.inversion.base import Code, Inverter
from vidinv.inversion.hyper_networks import HyperConfig, HyperInverterNetworks
from vidinv.inversion.parts import MethodParts
from vidinv.inversion.state import TrackState
from vidinv.types import EditedLatents, Inversion, RenderMode

WEIGHTS = "weights."
"""Names of the codes: this and the layer's, as in ``"weights.b8.conv0"``."""


class HyperInverter(Inverter):
    """The ``hyper`` method: nothing to fit, two phases a frame."""

    name = "hyper"
    config_options = ("phase_two",)

    def __init__(self, generator: Generator, networks: HyperInverterNetworks) -> None:
        self.generator, self.networks = generator, networks
        self.device = next(networks.parameters()).device
        self.layers = tuple(generator.synthesis.layer_weights())
        code = Code("residual of the layer's weight", stored=None)
        changed = self.layers if networks.config.phase_two else ()
        self.codes = {WEIGHTS + layer: code for layer in changed}
        self._mean_w = self._find_mean_w()

    @classmethod
    def build(cls, parts: MethodParts) -> Self:
        generator = parts.generator
        config, weights = parts.config(HyperConfig), generator.synthesis.layer_weights()
        networks = parts.load(HyperInverterNetworks(config, generator.config, weights))
        return cls(generator, networks)

    @torch.inference_mode()
    def encode(
        self,
        faces_N3RR: Tensor,
        state: TrackState | None = None,
        *,
        mode: RenderMode = RenderMode.INVERT,
        previous: Inversion | None = None,
    ) -> Inversion:
        x = self._input(faces_N3RR)
        return self._with_residuals(x, self._phase_one(x))

    @torch.inference_mode()
    def encode_latents(
        self,
        faces_N3RR: Tensor,
        state: TrackState | None = None,
        *,
        previous: Inversion | None = None,
    ) -> Tensor:
        return self._phase_one(self._input(faces_N3RR))

    @torch.inference_mode()
    def recompute(
        self,
        faces_N3RR: Tensor,
        inversion: Inversion,
        state: TrackState | None = None,
        *,
        mode: RenderMode = RenderMode.INVERT,
    ) -> Inversion:
        return self._with_residuals(self._input(faces_N3RR), inversion.latents_NLD)

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
        return self.generator.synthesis(
            edited.latents_NLD,
            weight_residuals=self._residuals_of(inversion),
            style_offsets=edited.style_offsets,
        )

    def _phase_one(self, x_N3SS: Tensor) -> Tensor:
        return self.generator.broadcast(self._mean_w + self.networks.w_encoder(x_N3SS))

    def _with_residuals(self, x_N3SS: Tensor, latents_NLD: Tensor) -> Inversion:
        """Phase II (section 3.2), where it is not left out."""
        if not self.codes:
            return Inversion(latents_NLD)
        generated = self.generator.synthesis(latents_NLD.to(self.device))
        residuals = self.networks.residuals(x_N3SS, self.networks.resize(generated))
        codes = {WEIGHTS + layer: residual for layer, residual in residuals.items()}
        return Inversion(latents_NLD, codes)

    def _residuals_of(self, inversion: Inversion) -> dict[str, Tensor]:
        missing = self.codes.keys() - inversion.codes.keys()
        if missing:
            raise UsageError(
                f"hyper renders with residuals that are not stored: recompute {min(missing)}"
            )
        return {
            name.removeprefix(WEIGHTS): inversion.codes[name].to(self.device) for name in self.codes
        }

    def _input(self, faces_N3RR: Tensor) -> Tensor:
        faces = faces_N3RR.to(self.device, memory_format=torch.channels_last)
        return self.networks.resize(faces)

    @torch.no_grad()
    def _find_mean_w(self) -> Tensor:
        """Mean of w ``[1, D]``, to which E1's answer is added."""
        z = torch.zeros(1, self.generator.z_dim, device=self.device)
        return self.generator.mapping(z, truncation=0.0)
