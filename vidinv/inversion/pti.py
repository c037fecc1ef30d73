"""Pivotal tuning (Roich et al. 2022, "PTI") of a face track, as "Stitch it in Time" does for clips.

The pivots are the latents w_p that another method of the pack finds (``first_phase`` of the pack's
entry; by default its encoder ``fse`` or ``psp``, else ``wplus``). Then the weights theta of the
synthesis are tuned to the track, over sampled frames x and their pivots (PTI, section 3.2):

    min over theta of  perceptual P(G(w_p; theta), x) + lambda |G(w_p; theta) - x|^2

one frame a step, all frames in turn, by Adam. An edit moves w_p and keeps theta. The tuned weights
are the track's state: they stand in for the pack's while a picture is made, which nobody else sees.
The locality regularisation of PTI is off, as it is in both public codes.

Memory: the sample, one frame's activations, and four times the weights while they are tuned.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.func import functional_call

from vidinv.errors import PackError
from vidinv.generators.base import Generator
from vidinv.inversion.base import Inverter, own_state
from vidinv.inversion.parts import MethodParts
from vidinv.inversion.perceptual import (
    Distance,
    Perceptual,
    build_distance,
    check_perceptual,
    describe,
)
from vidinv.inversion.state import TrackState
from vidinv.inversion.tuning import LoadedWeights, TuningPlan, tuned_state
from vidinv.metrics.structure import pixel_structure_distance
from vidinv.types import EditedLatents, Inversion, RenderMode

ADAM_BETAS = 0.9, 0.999  # STIT
MAX_FRAMES = 64
ENCODERS = "fse", "psp"


@dataclass(frozen=True)
class PivotalTuningConfig:
    """How to tune; the constants are STIT's, but for the sample: it tunes on every frame.

    Attributes:
        frames: of a track that are sampled, 1..64.
        epochs: steps for each of them.
        max_seconds: after which tuning ends with what it has; the result then depends on how fast
            the machine is, and that is said.
        learning_rate: of Adam, in the raw weights.
        pixel_weight: lambda, of the mean square difference of pictures in [-1, 1].
        perceptual_weight: of the perceptual term.
        perceptual: which term, as ``vidinv.inversion.perceptual`` names them.
    """

    frames: int = 8
    epochs: int = 80
    max_seconds: float = 600.0
    learning_rate: float = 3e-5
    pixel_weight: float = 10.0
    perceptual_weight: float = 1.0
    perceptual: Perceptual = "auto"

    def __post_init__(self) -> None:
        check_perceptual(self.perceptual)
        if not 1 <= self.frames <= MAX_FRAMES or self.epochs < 1 or not self.max_seconds > 0:
            raise ValueError(
                f"frames must be in 1..{MAX_FRAMES}, epochs at least 1, max_seconds more than 0"
            )


class PivotalTuningInverter(Inverter):
    """The ``pti`` method.

    Args:
        first: finds the pivots; a method that has nothing to fit.
        distance: the perceptual term: two batches of pictures -> ``[N]``.
        seconds: a clock.
    """

    name = "pti"
    needs_weights = False
    entry_options = ("first_phase",)
    config_options = tuple(field.name for field in fields(PivotalTuningConfig))
    sample_frames = MAX_FRAMES

    def __init__(
        self,
        generator: Generator,
        first: Inverter,
        config: PivotalTuningConfig = PivotalTuningConfig(),
        *,
        distance: Distance = pixel_structure_distance,
        device: torch.device | str = "cpu",
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        if first.sample_frames:
            raise ValueError(f"{first.name} is fitted itself: it gives no pivots")
        self.first, self.config, self.distance = first, config, distance
        self.device, self.sample_frames = torch.device(device), config.frames
        self._seconds, self._synthesis = seconds, _sharing_copy(generator.synthesis)
        self._weights = LoadedWeights(self.device)

    @classmethod
    def build(cls, parts: MethodParts) -> Self:
        config, generator = parts.config(PivotalTuningConfig), parts.generator
        distance = build_distance(config.perceptual, generator.resolution, parts.device)
        first = parts.build_method(cls.first_phase(parts.files.meta["methods"]))
        try:
            return cls(generator, first, config, distance=distance, device=parts.device)
        except ValueError as error:
            raise PackError(f"pack {parts.files.meta['name']}: pti: {error}") from error

    @classmethod
    def first_phase(cls, entries: Mapping[str, Any]) -> str:
        default = next((name for name in ENCODERS if name in entries), "wplus")
        return str(entries.get(cls.name, {}).get("first_phase", default))

    @classmethod
    def local_choices(cls, config: Mapping[str, Any], resolution: int) -> dict[str, str]:
        return describe(config.get("perceptual", "auto"), resolution)

    def fit(
        self, sample_N3RR: Tensor, *, progress: Callable[[float], None] = lambda share: None
    ) -> TrackState:
        # Whatever the caller's mode: gradients are needed, and tensors that may have them.
        with torch.inference_mode(False), torch.enable_grad():
            faces = sample_N3RR.to(self.device).clone(memory_format=torch.channels_last)
            pivots = self._pivots(faces).clone()
            plan = TuningPlan(
                frames=len(faces),
                steps=len(faces) * self.config.epochs,
                max_seconds=self.config.max_seconds,
                learning_rate=self.config.learning_rate,
                betas=ADAM_BETAS,
                seconds=self._seconds,
                progress=progress,
            )
            return tuned_state(
                self.name,
                self._synthesis.named_parameters(),
                lambda weights, row: self.losses(weights, faces[row], pivots[row]).sum(),
                plan,
            )

    def encode(
        self,
        faces_N3RR: Tensor,
        state: TrackState | None = None,
        *,
        mode: RenderMode = RenderMode.INVERT,
        previous: Inversion | None = None,
    ) -> Inversion:
        own_state(self, state)
        return Inversion(self._pivots(faces_N3RR))

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
        how = {"style_offsets": edited.style_offsets}
        weights = self._weights.of(own_state(self, state))
        picture: Tensor = functional_call(self._synthesis, weights, (edited.latents_NLD,), how)
        return picture

    def losses(self, weights: dict[str, Tensor], faces_N3RR: Tensor, pivots_NLD: Tensor) -> Tensor:
        """``[N]``: what is minimised."""
        config = self.config
        pictures: Tensor = functional_call(self._synthesis, weights, (pivots_NLD,))
        return config.pixel_weight * (pictures - faces_N3RR).square().mean(
            (1, 2, 3)
        ) + config.perceptual_weight * self.distance(pictures, faces_N3RR)

    def _pivots(self, faces_N3RR: Tensor) -> Tensor:
        self.first.on_step = self.on_step
        return self.first.encode_latents(faces_N3RR)


def _sharing_copy(synthesis: Any) -> nn.Module:
    """The same network as modules of our own: other weights may take the place of its own there.

    Its tensors are shared: they take no memory twice.
    """
    assert isinstance(synthesis, nn.Module)
    tensors = [*synthesis.parameters(), *synthesis.buffers()]
    return copy.deepcopy(synthesis, {id(tensor): tensor for tensor in tensors})
