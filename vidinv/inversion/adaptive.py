"""Adaptive-block encoders, fine-tuned to a face track (Yu, Wang and Bugiolacchi, "Improving GAN
inversion via fine-tuning GAN encoders").

An encoder E that mirrors the pack's generator (``adaptive_networks``) gives w', or z' for PGGAN and
z' with the class's numbers for BigGAN; for StyleGANs also z_c', in the place of the generator's
constant input (figure 3). ``fit`` tunes E to the track: over sampled frames y, one a step in turn,

    L_IMG(y, G(E(y))) + epsilon L_LS(E(y), E(G(E(y))))        (eqs. 2 to 6)

The paper tunes to every picture for 1,500 to 3,500 steps, half an hour on its GPU: one track of a
clip shares a tuned encoder here, and ``max_seconds`` ends it. An edit moves the latents; z_c' and
the generator stay. ``steps`` 0 leaves E as it was trained. Noise is fixed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Any, Self

import torch
from torch import Tensor
from torch.func import functional_call

from vidinv.errors import PackError
from vidinv.generators.base import Generator, SynthesisState
from vidinv.generators.biggan import ClassMapping
from vidinv.inversion.adaptive_loss import FINE_TUNING, ImageLoss, latent_loss
from vidinv.inversion.adaptive_networks import (
    CONSTANT,
    STYLED,
    AdaptiveEncoder,
    EncoderSizes,
)
from vidinv.inversion.attention import Attention, build_attention
from vidinv.inversion.base import Code, Inverter, own_state
from vidinv.inversion.parts import MethodParts
from vidinv.inversion.perceptual import (
    Perceptual,
    build_distance,
    check_perceptual,
    describe,
)
from vidinv.inversion.state import TrackState
from vidinv.inversion.tuning import LoadedWeights, TuningPlan, tuned_state
from vidinv.types import EditedLatents, Inversion, RenderMode

ADAM_BETAS = 0.0, 0.99  # section 4.1
MAX_FRAMES = 64
Encoded = tuple[Tensor, dict[str, Tensor]]


@dataclass(frozen=True)
class AdaptiveConfig:
    """An encoder, and how it is tuned; constants are the paper's but for frames, steps and seconds.

    Attributes:
        width, max_width: as ``EncoderSizes``.
        feeds_constant: the generator starts from z_c' (figure 3); else from its own constant, and
            z_c' serves in eq. 5 alone, as in the public code.
        class_index: of the class that pictures are held for, for BigGAN; -1: the mean class.
        frames: of a track that are sampled, 1..64.
        steps: of tuning, in all.
        max_seconds: after which tuning ends with what it has; the result then depends on how fast
            the machine is, and that is said.
        learning_rate: of Adam.
        attention: how pictures are looked at more closely (``vidinv.inversion.attention``).
        attention_weights: mu_1 and mu_2.
        latent_weight: epsilon.
        structure: SSIM is part of the loss; table 7 has rows without.
        perceptual: which term, as ``vidinv.inversion.perceptual`` names them.
    """

    width: int
    max_width: int = 512
    feeds_constant: bool = True
    class_index: int = -1
    frames: int = 8
    steps: int = 200
    max_seconds: float = 120.0
    learning_rate: float = 1.5e-3
    attention: Attention = "crops"
    attention_weights: tuple[float, float] = FINE_TUNING
    latent_weight: float = 0.01
    structure: bool = True
    perceptual: Perceptual = "auto"

    def __post_init__(self) -> None:
        check_perceptual(self.perceptual)
        if self.width < 1 or self.max_width < self.width:
            raise ValueError(f"widths must be 1 <= {self.width} <= {self.max_width}")
        if self.attention not in ("crops", "grad-cam", "none"):
            raise ValueError(f"attention must be crops, grad-cam or none, got {self.attention!r}")
        if not 1 <= self.frames <= MAX_FRAMES or self.steps < 0 or not self.max_seconds > 0:
            raise ValueError(
                f"frames must be in 1..{MAX_FRAMES}, steps at least 0, max_seconds more than 0"
            )

    @property
    def sizes(self) -> EncoderSizes:
        return EncoderSizes(self.width, self.max_width)


TUNING = tuple(
    field.name
    for field in fields(AdaptiveConfig)
    if field.name not in ("width", "max_width", "feeds_constant")
)


class AdaptiveInverter(Inverter):
    """The ``adaptive`` method.

    Args:
        loss: eqs. 2 and 3; None for an encoder that is not tuned.
        seconds: a clock.
    """

    name = "adaptive"
    config_options = TUNING
    unfitted_options = MappingProxyType({"steps": 0})
    sample_frames = MAX_FRAMES

    def __init__(
        self,
        generator: Generator,
        encoder: AdaptiveEncoder,
        config: AdaptiveConfig,
        *,
        loss: ImageLoss | None = None,
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        if config.steps and loss is None:
            raise ValueError("tuning needs a loss")
        self.generator, self.encoder, self.config, self.loss = generator, encoder, config, loss
        self.device, self._seconds = next(encoder.parameters()).device, seconds
        self.sample_frames = config.frames if config.steps else 0
        self._class_1D = _class_of(generator, config.class_index)
        if self.feeds_constant:
            self.codes = {CONSTANT: Code("z_c', input of the generator's first layer", "float32")}
        self._weights = LoadedWeights(self.device)

    @property
    def feeds_constant(self) -> bool:
        """The generator starts from z_c'."""
        return self.config.feeds_constant and self.generator.kind in STYLED

    @classmethod
    def build(cls, parts: MethodParts) -> Self:
        config, generator = parts.config(AdaptiveConfig), parts.generator
        try:
            encoder = parts.load(AdaptiveEncoder(config.sizes, generator.config))
            loss = None
            if config.steps:
                loss = ImageLoss(
                    build_distance(config.perceptual, generator.resolution, parts.device),
                    build_attention(config.attention, parts.device),
                    config.attention_weights,
                    config.structure,
                )
            return cls(generator, encoder, config, loss=loss)
        except ValueError as error:
            raise PackError(f"pack {parts.files.meta['name']}: adaptive: {error}") from error

    @classmethod
    def local_choices(cls, config: Mapping[str, Any], resolution: int) -> dict[str, str]:
        if not config.get("steps", AdaptiveConfig.steps):
            return {}
        return describe(config.get("perceptual", "auto"), resolution)

    def fit(
        self, sample_N3RR: Tensor, *, progress: Callable[[float], None] = lambda share: None
    ) -> TrackState:
        # Whatever the caller's mode: gradients are needed, and tensors that may have them.
        with torch.inference_mode(False), torch.enable_grad():
            faces = sample_N3RR.to(self.device).clone(memory_format=torch.channels_last)
            plan = TuningPlan(
                frames=len(faces),
                steps=self.config.steps,
                max_seconds=self.config.max_seconds,
                learning_rate=self.config.learning_rate,
                betas=ADAM_BETAS,
                seconds=self._seconds,
                progress=progress,
            )
            return tuned_state(
                self.name,
                self.encoder.named_parameters(),
                lambda weights, row: self.losses(weights, faces[row]).sum(),
                plan,
            )

    @torch.inference_mode()
    def encode(
        self,
        faces_N3RR: Tensor,
        state: TrackState | None = None,
        *,
        mode: RenderMode = RenderMode.INVERT,
        previous: Inversion | None = None,
    ) -> Inversion:
        faces = faces_N3RR.to(self.device, memory_format=torch.channels_last)
        weights = self._weights.of(own_state(self, state)) if self.sample_frames else {}
        latents, codes = self.run(faces, weights)
        return Inversion(latents, codes if self.feeds_constant else {})

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
        codes = {name: code.to(self.device) for name, code in inversion.codes.items()}
        return self.picture(edited.latents_NLD, codes, edited.style_offsets)

    def run(self, faces_N3RR: Tensor, weights: Mapping[str, Tensor] | None = None) -> Encoded:
        """Latents and z_c' of faces, with gradients where they are wanted.

        Args:
            weights: in the place of the encoder's own.
        """
        how = {"class_ND": self._class_1D}
        latents, codes = functional_call(self.encoder, dict(weights or {}), (faces_N3RR,), how)
        constant = self.generator.synthesis.constant_1CHW
        if constant is not None:
            codes = {CONSTANT: constant + codes[CONSTANT]}
        return latents, codes

    def picture(
        self,
        latents_NLD: Tensor,
        codes: Mapping[str, Tensor],
        style_offsets: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        """What the generator makes of them ``[N, 3, R, R]``."""
        start = None
        if self.feeds_constant:
            constant = codes[CONSTANT].contiguous(memory_format=torch.channels_last)
            start = SynthesisState(0, constant, None)
        return self.generator.synthesis(latents_NLD, start=start, style_offsets=style_offsets)

    def losses(self, weights: Mapping[str, Tensor], faces_N3RR: Tensor) -> Tensor:
        """``[N]``: eq. 6."""
        assert self.loss is not None
        latents, codes = self.run(faces_N3RR, weights)
        picture = self.picture(latents, codes)
        loss = self.loss(picture, faces_N3RR)
        if not self.config.latent_weight:
            return loss
        again = self.run(picture, weights)
        return loss + self.config.latent_weight * latent_loss(latents, again[0], codes, again[1])


def _class_of(generator: Generator, index: int) -> Tensor | None:
    """Numbers ``[1, D]`` of the class that pictures are held for; ValueError for none such."""
    if not generator.num_classes:
        return None
    if not -1 <= index < generator.num_classes:
        raise ValueError(f"class_index must be -1..{generator.num_classes - 1}, got {index}")
    assert isinstance(generator.mapping, ClassMapping)
    table_CD = generator.mapping.embeddings.weight.detach().T
    return (table_CD.mean(dim=0) if index < 0 else table_CD[index])[None]
