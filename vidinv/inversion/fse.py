"""Inversion with the Feature-Style encoder (Yao et al. 2022): latent code and feature code.

Rendering with edited latents w~ follows eq. 1, F~ = F + G^K(w~) - G^K(w). An ``Inversion`` keeps
F - G^K(w), so one partial pass to layer K gives F~ and the resumed pass the picture: no layer runs
twice. Noise is fixed.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vidinv.generators.base import Generator
from vidinv.inversion.fse_encoder import FeatureStyleEncoder
from vidinv.types import Inversion


class FeatureStyleInverter:
    """The ``fse`` method: nothing to fit, one encoder pass a frame."""

    name = "fse"

    def __init__(self, generator: Generator, encoder: FeatureStyleEncoder) -> None:
        self.synthesis = generator.synthesis
        self.encoder = encoder
        self.device = next(encoder.parameters()).device

    def fit(self, sample_N3RR: Tensor) -> None:
        """Nothing: the encoder is trained for all faces."""

    @torch.inference_mode()
    def encode(self, faces_N3RR: Tensor, state: None = None, *, features: bool = True) -> Inversion:
        faces = faces_N3RR.to(self.device, memory_format=torch.channels_last)
        latents, seen = self.encoder(faces)
        if not features or self.encoder.feature_head is None:
            return Inversion(latents)
        lower = self.synthesis.run(latents, stop=self.encoder.config.feature_layer)
        return Inversion(latents, self.encoder.feature_residual(seen, lower.features_NCHW))

    @torch.inference_mode()
    def render(self, inversion: Inversion, latents_NLD: Tensor, state: None = None) -> Tensor:
        latents = latents_NLD.to(self.device)
        if inversion.features_NCHW is None:
            return self.synthesis(latents)
        lower = self.synthesis.run(latents, stop=self.encoder.config.feature_layer)
        features = lower.features_NCHW + inversion.features_NCHW.to(self.device)
        return self.synthesis(latents, start=lower.replace_features(features))
