"""Inversion with the Feature-Style encoder (Yao et al. 2022): latent code and feature code.

Rendering with edited latents w~ follows eq. 1, F~ = F + G^K(w~) - G^K(w), or, where the pack has
one, a feature editor that says what becomes of F - G^K(w) under the edit (``fse_editor.py``). The
code ``features`` keeps F - G^K(w), so one partial pass to layer K gives F~ by eq. 1 and the resumed
pass the picture: no layer runs twice. Noise is fixed.
"""

from __future__ import annotations

from collections.abc import Set
from typing import Literal, Self

import torch
from torch import Tensor

from vidinv.errors import PackError
from vidinv.generators.base import Generator, SynthesisState
from vidinv.inversion.base import Code, Inverter
from vidinv.inversion.fse_encoder import FeatureStyleConfig, FeatureStyleEncoder
from vidinv.inversion.fse_published import PublishedConfig, PublishedEncoder
from vidinv.inversion.parts import MethodParts
from vidinv.inversion.state import TrackState
from vidinv.types import EditedLatents, Inversion, RenderMode

FEATURES = "features"


class FeatureStyleInverter(Inverter):
    """The ``fse`` method: nothing to fit, one encoder pass a frame.

    Args:
        edit_feature_scale: share of the feature code, 0..1, in pictures whose difference detail
            transfer carries over: F' = (1 - scale) G^K(w) + scale F, less of the source and more of
            the edit. Pictures that are pasted take all of it.
        edit_rule: ``"eq1"`` of the paper, or ``"editor"``: the encoder's feature editor, where it
            has one.
    """

    name = "fse"
    entry_options = ("edit_rule", "edit_feature_scale")

    def __init__(
        self,
        generator: Generator,
        encoder: FeatureStyleEncoder | PublishedEncoder,
        *,
        edit_feature_scale: float = 1.0,
        edit_rule: Literal["eq1", "editor"] = "editor",
    ) -> None:
        if edit_rule not in ("eq1", "editor"):
            raise ValueError(f'edit_rule must be "eq1" or "editor", got {edit_rule!r}')
        self.synthesis = generator.synthesis
        self.encoder = encoder
        self.edit_feature_scale = edit_feature_scale
        self.editor = encoder.feature_editor if edit_rule == "editor" else None
        self.device = next(encoder.parameters()).device
        has_features = encoder.feature_head is not None
        self.codes = {FEATURES: Code("feature code, as F - G^K(w)")} if has_features else {}

    @classmethod
    def build(cls, parts: MethodParts) -> Self:
        try:
            return cls(
                parts.generator,
                parts.load(_encoder(parts)),
                edit_feature_scale=float(parts.entry.get("edit_feature_scale", 1.0)),
                edit_rule=parts.entry.get("edit_rule", "editor"),
            )
        except (TypeError, ValueError) as error:
            raise PackError(f"pack {parts.files.meta['name']}: fse: {error}") from error

    def codes_for(self, mode: RenderMode) -> Set[str]:
        return self.codes.keys() if self._feature_scale(mode) else frozenset()

    @torch.inference_mode()
    def encode(
        self,
        faces_N3RR: Tensor,
        state: TrackState | None = None,
        *,
        mode: RenderMode = RenderMode.INVERT,
        previous: Inversion | None = None,
    ) -> Inversion:
        latents, stage = self._encode(faces_N3RR)
        if FEATURES not in self.codes_for(mode):
            return Inversion(latents)
        lower = self.synthesis.run(latents, stop=self.encoder.config.feature_layer)
        residual = self.encoder.feature_residual(stage, lower.features_NCHW)
        assert residual is not None
        return Inversion(latents, {FEATURES: residual})

    @torch.inference_mode()
    def encode_latents(
        self,
        faces_N3RR: Tensor,
        state: TrackState | None = None,
        *,
        previous: Inversion | None = None,
    ) -> Tensor:
        return self._encode(faces_N3RR)[0]

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
        scale = self._feature_scale(mode)
        if FEATURES not in inversion.codes or not scale:
            return self.synthesis(edited.latents_NLD, style_offsets=edited.style_offsets)
        lower = self._to_feature_layer(edited)
        residual = inversion.codes[FEATURES].to(self.device)
        unedited = inversion.unedited.to(self.device)
        if self.editor is not None and not edited.equals(unedited):
            change = lower.features_NCHW - self._to_feature_layer(unedited).features_NCHW
            residual = self.editor(residual, change)
        features = lower.features_NCHW + (residual if scale == 1.0 else residual * scale)
        return self.synthesis(
            edited.latents_NLD,
            start=lower.replace_features(features),
            style_offsets=edited.style_offsets,
        )

    @torch.inference_mode()
    def mix(self, *, features_of: Inversion, latents_of: Inversion) -> Inversion:
        """Style mixing (figures 7 and 20): renders as G(w_B, F_A), with F_A of the first.

        The code that it holds is F_A - G^K(w_B), since F_A itself is to stay.
        """
        of_features = self._to_feature_layer(features_of.unedited.to(self.device)).features_NCHW
        of_latents = self._to_feature_layer(latents_of.unedited.to(self.device)).features_NCHW
        residual = features_of.codes[FEATURES].to(self.device) + of_features - of_latents
        return Inversion(latents_of.latents_NLD, {FEATURES: residual})

    def _encode(self, faces_N3RR: Tensor) -> tuple[Tensor, Tensor]:
        """Latents, and the trunk's stage for the feature head."""
        faces = faces_N3RR.to(self.device, memory_format=torch.channels_last)
        encoded: tuple[Tensor, Tensor] = self.encoder(faces)
        return encoded

    def _to_feature_layer(self, edited: EditedLatents) -> SynthesisState:
        return self.synthesis.run(
            edited.latents_NLD,
            stop=self.encoder.config.feature_layer,
            style_offsets=edited.style_offsets,
        )

    def _feature_scale(self, mode: RenderMode) -> float:
        return self.edit_feature_scale if mode is RenderMode.TRANSFER else 1.0


def _encoder(parts: MethodParts) -> FeatureStyleEncoder | PublishedEncoder:
    """As pack.json describes it: the published one names its trunk."""
    if "trunk" in parts.entry.get("config", {}):
        return PublishedEncoder(parts.config(PublishedConfig), parts.generator.config)
    return FeatureStyleEncoder(parts.config(FeatureStyleConfig), parts.generator.config)
