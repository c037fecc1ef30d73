"""Inversion with HyperInverter (Dinh et al. 2022): w, and residuals of the generator's weights.

w = E1(x) (eq. 1); H_j of the features of x and G(w) gives the residual of layer j's weight (eqs. 3
and 4); the picture is G(w, theta + residuals) (eq. 5). An edit moves w and keeps the residuals.

With ``first_phase`` in the pack's entry the latents are those of another method of the pack, which
then stands for E1.

The residuals of one face are as large as the generator. They are not stored: ``recompute`` makes
the very same ones from the source and the stored w.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import torch
from torch import Tensor

from vidinv.errors import PackError, UsageError
from vidinv.generators.base import Generator
from vidinv.inversion.base import Code, Inverter
from vidinv.inversion.hyper_networks import HyperConfig, HyperInverterNetworks
from vidinv.inversion.parts import MethodParts
from vidinv.inversion.state import TrackState
from vidinv.types import EditedLatents, Inversion, RenderMode

WEIGHTS = "weights."
"""Names of the codes: this and the layer's, as in ``"weights.b8.conv0"``."""


class HyperInverter(Inverter):
    """The ``hyper`` method: nothing to fit, two phases a frame.

    Args:
        first: gives the latents; None: E1 does.
    """

    name = "hyper"
    config_options = ("phase_two",)

    def __init__(
        self, generator: Generator, networks: HyperInverterNetworks, first: Inverter | None = None
    ) -> None:
        self.generator, self.networks, self.first = generator, networks, first
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
        name = parts.entry.get("first_phase")
        networks = parts.load(
            HyperInverterNetworks(config, generator.config, weights, has_w_encoder=name is None)
        )
        first = None if name is None else parts.build_method(name)
        if first is not None and first.sample_frames:
            raise PackError(
                f"pack {parts.files.meta['name']}: hyper cannot start from {name}, which is fitted "
                "to tracks"
            )
        return cls(generator, networks, first)

    @classmethod
    def first_phase(cls, entries: Mapping[str, Any]) -> str | None:
        name: str | None = entries.get(cls.name, {}).get("first_phase")
        return name

    @torch.inference_mode()
    def encode(
        self,
        faces_N3RR: Tensor,
        state: TrackState | None = None,
        *,
        mode: RenderMode = RenderMode.INVERT,
        previous: Inversion | None = None,
    ) -> Inversion:
        return self._with_residuals(faces_N3RR, self.phase_one(faces_N3RR))

    @torch.inference_mode()
    def encode_latents(
        self,
        faces_N3RR: Tensor,
        state: TrackState | None = None,
        *,
        previous: Inversion | None = None,
    ) -> Tensor:
        return self.phase_one(faces_N3RR)

    @torch.inference_mode()
    def recompute(
        self,
        faces_N3RR: Tensor,
        inversion: Inversion,
        state: TrackState | None = None,
        *,
        mode: RenderMode = RenderMode.INVERT,
    ) -> Inversion:
        return self._with_residuals(faces_N3RR, inversion.latents_NLD)

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

    def phase_one(self, faces_N3RR: Tensor) -> Tensor:
        """Latents ``[N, L, D]`` (eq. 1), of E1 with gradients."""
        if self.first is not None:
            self.first.on_step = self.on_step
            return self.first.encode_latents(faces_N3RR)
        offset = self.networks.w_encoder(self._input(faces_N3RR))
        return self.generator.broadcast(self._mean_w + offset)

    def residuals(self, faces_N3RR: Tensor, latents_NLD: Tensor) -> dict[str, Tensor]:
        """Phase II (section 3.2): residuals ``[N, O, I, k, k]`` by layer, with gradients."""
        with torch.no_grad():
            generated = self.generator.synthesis(latents_NLD.to(self.device))
        x = self._input(faces_N3RR)
        return self.networks.residuals(x, self.networks.resize(generated))

    def _with_residuals(self, faces_N3RR: Tensor, latents_NLD: Tensor) -> Inversion:
        """Phase II, where it is not left out."""
        if not self.codes:
            return Inversion(latents_NLD)
        residuals = self.residuals(faces_N3RR, latents_NLD)
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
