"""Inversion in two phases with ReGANIE (Li et al. 2023): another method's, then a rectifier.

Phase I is any method of the pack: latents w = E(x), edited as w~, pictures x^ = G(w) and y^ = G(w~)
(eqs. 2 and 3). Phase II puts back what that lost: y_r = G_p(E_p(y^), E_d(x - x^)), with y^ = x^ for
the inversion itself (algorithm 1, "Inference"). The codes E_d(x - x^) are of the source and stay
under an edit. They are not stored: ``recompute`` makes the very same ones from source and latents.

The pack's entry names phase I (``first_phase``, default ``fse``). Of its inversions the latents
alone serve, as in the paper: ``fse`` without F, ``hyper`` without residuals. With
``first_phase_codes`` its own picture is rectified, codes and all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from typing import Any, Self

import torch
from torch import Tensor

from vidinv.errors import PackError, UsageError
from vidinv.generators.base import Generator
from vidinv.inversion.base import Code, Inverter
from vidinv.inversion.parts import MethodParts
from vidinv.inversion.rectify_networks import GLOBAL, SPATIAL, Rectifier, RectifierConfig
from vidinv.inversion.state import TrackState
from vidinv.types import EditedLatents, Inversion, RenderMode

DEFAULT_FIRST_PHASE = "fse"
MAX_SAMPLE_FRAMES = 64
FIRST = "first."
"""Names of the first phase's codes: this and their own, as in ``"first.features"``."""

MEANINGS = {SPATIAL: "sp of E_d(x - x^)", GLOBAL: "gl of E_d(x - x^)"}


class RectifyInverter(Inverter):
    """The ``rectify`` method.

    Args:
        first: the method of phase I, on the same generator.
        first_phase_codes: phase I renders with its codes; else with its latents alone.
    """

    name = "rectify"
    entry_options = ("first_phase", "first_phase_codes")
    sample_frames = MAX_SAMPLE_FRAMES  # the most that a first phase may want

    def __init__(
        self,
        generator: Generator,
        first: Inverter,
        rectifier: Rectifier,
        *,
        first_phase_codes: bool = False,
    ) -> None:
        self.synthesis, self.first, self.rectifier = generator.synthesis, first, rectifier
        self.uses_codes = first_phase_codes
        self.device = next(rectifier.parameters()).device
        self.sample_frames = first.sample_frames
        own = {name: Code(MEANINGS[name], stored=None) for name in rectifier.config.code_names}
        inner = first.codes if first_phase_codes else {}
        self.codes = {**own, **{FIRST + name: code for name, code in inner.items()}}

    @classmethod
    def build(cls, parts: MethodParts) -> Self:
        rectifier = parts.load(Rectifier(parts.config(RectifierConfig)))
        first = parts.build_method(_first_phase(parts.entry))
        uses_codes = parts.entry.get("first_phase_codes", False)
        if not isinstance(uses_codes, bool):
            name = parts.files.meta["name"]
            raise PackError(f"pack {name}: rectify: first_phase_codes is {uses_codes!r}")
        return cls(parts.generator, first, rectifier, first_phase_codes=uses_codes)

    @classmethod
    def first_phase(cls, entries: Mapping[str, Any]) -> str:
        return _first_phase(entries.get(cls.name, {}))

    def fit(
        self, sample_N3RR: Tensor, *, progress: Callable[[float], None] = lambda share: None
    ) -> TrackState:
        """The state of phase I: the rectifier learns nothing of a track."""
        return self.first.fit(sample_N3RR, progress=progress)

    def codes_for(self, mode: RenderMode) -> Set[str]:
        inner = {FIRST + name for name in self.first.codes_for(mode)} if self.uses_codes else set()
        return inner.union(self.rectifier.config.code_names)

    @torch.inference_mode()
    def encode(
        self,
        faces_N3RR: Tensor,
        state: TrackState | None = None,
        *,
        mode: RenderMode = RenderMode.INVERT,
        previous: Inversion | None = None,
    ) -> Inversion:
        first = self.invert_first(faces_N3RR, state, mode=mode)
        return self._with_codes(faces_N3RR, first, state, mode)

    @torch.inference_mode()
    def recompute(
        self,
        faces_N3RR: Tensor,
        inversion: Inversion,
        state: TrackState | None = None,
        *,
        mode: RenderMode = RenderMode.INVERT,
    ) -> Inversion:
        first = self._of_first_phase(inversion)
        if self.uses_codes:
            self.first.on_step = self.on_step
            first = self.first.recompute(faces_N3RR, first, state, mode=mode)
        return self._with_codes(faces_N3RR, first, state, mode)

    @torch.inference_mode()
    def render(
        self,
        inversion: Inversion,
        edited: EditedLatents,
        state: TrackState | None = None,
        *,
        mode: RenderMode = RenderMode.INVERT,
    ) -> Tensor:
        primary = self.first_picture(self._of_first_phase(inversion), edited, state, mode=mode)
        picture: Tensor = self.rectifier(primary, self._own_codes(inversion))
        return picture

    def _with_codes(
        self, faces_N3RR: Tensor, first: Inversion, state: TrackState | None, mode: RenderMode
    ) -> Inversion:
        """Eq. 4 of the source and the picture of phase I."""
        faces = faces_N3RR.to(self.device, memory_format=torch.channels_last)
        inverted = self.first_picture(first, first.unedited, state, mode=mode)
        inner = {FIRST + name: code for name, code in first.codes.items()}
        return Inversion(first.latents_NLD, {**inner, **self.rectifier.codes(faces, inverted)})

    def invert_first(
        self,
        faces_N3RR: Tensor,
        state: TrackState | None = None,
        *,
        mode: RenderMode = RenderMode.INVERT,
    ) -> Inversion:
        """The inversion of phase I: its latents, and its codes where they serve."""
        self.first.on_step = self.on_step
        if self.uses_codes:
            return self.first.encode(faces_N3RR, state, mode=mode)
        return Inversion(self.first.encode_latents(faces_N3RR, state))

    def first_picture(
        self,
        first: Inversion,
        edited: EditedLatents,
        state: TrackState | None = None,
        *,
        mode: RenderMode = RenderMode.INVERT,
    ) -> Tensor:
        """Picture of phase I, x^ or y^ (eq. 3)."""
        if self.uses_codes or not self.first.codes:
            return self.first.render(first, edited, state, mode=mode)
        edited = edited.to(self.device)
        return self.synthesis(edited.latents_NLD, style_offsets=edited.style_offsets)

    def _of_first_phase(self, inversion: Inversion) -> Inversion:
        codes = {
            name.removeprefix(FIRST): code
            for name, code in inversion.codes.items()
            if name.startswith(FIRST)
        }
        return Inversion(inversion.latents_NLD, codes)

    def _own_codes(self, inversion: Inversion) -> dict[str, Tensor]:
        names = self.rectifier.config.code_names
        missing = [name for name in names if name not in inversion.codes]
        if missing:
            raise UsageError(
                f"rectify renders with codes that are not stored: recompute {missing[0]}"
            )
        return {name: inversion.codes[name].to(self.device) for name in names}


def _first_phase(entry: Mapping[str, Any]) -> str:
    return str(entry.get("first_phase", DEFAULT_FIRST_PHASE))
