"""What the rest of vidinv asks of a generator, whatever its family.

``GeneratorConfig`` answers every question about sizes without a network, ``Generator`` is the
network. Families are listed in ``vidinv.generators.registry``.

Shapes: z ``[N, Z]``, w ``[N, D]``, latents ``[N, L, D]`` (w+), images ``[N, 3, R, R]`` nominally in
[-1, 1] and not clamped, features after layer K ``[N, C, H, W]``. A layer is a convolution of the
synthesis; K counts those that have run, from 1. A family without W has one row of latents: z itself
(PGGAN), or z with what the class gives (BigGAN); ``mapping`` makes it and ``num_ws`` is 1.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, Protocol, Self, runtime_checkable

from torch import Tensor, nn

LatentSpace = Literal["z", "w", "w+", "style"]
NoiseMode = Literal["const", "none", "random"]


class GeneratorConfig(Protocol):
    """Sizes and abilities of a generator: a frozen dataclass whose fields a pack stores."""

    kind: ClassVar[str]
    """Name of the family in the registry."""

    @property
    def resolution(self) -> int:
        """R: side of the pictures."""

    @property
    def num_ws(self) -> int:
        """L: rows of the latents."""

    @property
    def w_dim(self) -> int:
        """D: width of a row of the latents."""

    @property
    def z_dim(self) -> int:
        """Z: width of the noise that ``mapping`` reads."""

    @property
    def latent_spaces(self) -> tuple[LatentSpace, ...]:
        """Spaces in which it can be edited."""

    @property
    def num_classes(self) -> int:
        """Classes that ``mapping`` distinguishes; 0: it is not class-conditional."""

    @property
    def has_partial_passes(self) -> bool:
        """``synthesis.run`` can stop after a layer and go on from there."""

    @property
    def num_layers(self) -> int:
        """The last K."""

    @property
    def style_channels(self) -> Mapping[str, int]:
        """Name of every modulated layer and length of its style; empty without style space."""

    def feature_shape(self, layer: int) -> tuple[int, int, int]:
        """Channels, height and width of the features after layer K; ValueError for no such K."""

    def feature_margin(self, layer: int) -> int:
        """Features on every side of those after layer K that lie beyond the picture."""

    def layer_after(self, resolution: int) -> int:
        """K after which the picture so far has this side; ValueError where it never has."""


class LatentMapping(Protocol):
    """z -> w."""

    def __call__(
        self, z_NZ: Tensor, *, truncation: float = 1.0, classes_N: Tensor | None = None
    ) -> Tensor:
        """w ``[N, D]``; ``truncation`` 1 leaves it, 0 gives the mean.

        Args:
            classes_N: int64 class of every sample, for class-conditional generators alone.
        """


@dataclass(frozen=True)
class SynthesisState:
    """A synthesis that stopped after ``layer`` convolutions.

    ``replace_features`` gives the state that layer K + 1 sees with other features. The RGB so far
    keeps what the original features made of it, as in the published Feature-Style weights
    (docs/REFERENCES.md, "Feature-Style details").

    Attributes:
        layer: K; 0: before the first.
        features_NCHW: output of layer K.
        image_N3HW: the RGB skip up to here, at the resolution of the last block that was finished;
            None in families without RGB skip.
    """

    layer: int
    features_NCHW: Tensor
    image_N3HW: Tensor | None

    @property
    def picture_N3HW(self) -> Tensor:
        """The RGB so far; ValueError in families that have none."""
        if self.image_N3HW is None:
            raise ValueError(f"there is no picture yet after layer {self.layer}")
        return self.image_N3HW

    def replace_features(self, features_NCHW: Tensor) -> SynthesisState:
        if features_NCHW.shape != self.features_NCHW.shape:
            raise ValueError(
                f"features must be {tuple(self.features_NCHW.shape)}, "
                f"got {tuple(features_NCHW.shape)}"
            )
        return replace(self, features_NCHW=features_NCHW)


class Synthesis(Protocol):
    """Latents -> image, in one pass or in parts.

    Layers are named as modules are (``"b8.conv0"``); a name that is not there is a ValueError.
    """

    def __call__(
        self,
        latents_NLD: Tensor,
        *,
        start: SynthesisState | None = None,
        noise_mode: NoiseMode = "const",
        weight_residuals: Mapping[str, Tensor] | None = None,
        style_offsets: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        """Image ``[N, 3, R, R]``.

        Args:
            start: go on from here instead of beginning anew.
            weight_residuals: by layer, ``[N, O, I, k, k]`` added to the weights, per sample.
            style_offsets: by layer, ``[N, C]`` or ``[C]`` added to the style.
        """

    def run(
        self,
        latents_NLD: Tensor,
        *,
        stop: int,
        start: SynthesisState | None = None,
        noise_mode: NoiseMode = "const",
        weight_residuals: Mapping[str, Tensor] | None = None,
        style_offsets: Mapping[str, Tensor] | None = None,
    ) -> SynthesisState:
        """Run the layers after ``start`` (or all) up to K = ``stop``, inclusive.

        Raises:
            ValueError: no such layer, one before ``start``, or a family without partial passes.
        """

    @property
    def constant_1CHW(self) -> Tensor | None:
        """What the first layer starts from where that is learned; None where latents give it.

        ``start`` may be a ``SynthesisState`` after layer 0 with other features in its place.
        """

    def layer_weights(self) -> Mapping[str, Tensor]:
        """Raw weight ``[O, I, k, k]`` of every modulated layer, by name: to size residuals."""


@runtime_checkable
class GrowingSynthesis(Protocol):
    """A synthesis that training may start at a lower resolution."""

    def silence_above(self, resolution: int) -> None:
        """Layers above add nothing yet: the picture is the lower one, enlarged."""


class Generator(Protocol):
    """A generator network of any family, as those see it that only use it."""

    @property
    def config(self) -> GeneratorConfig: ...
    @property
    def kind(self) -> str: ...
    @property
    def resolution(self) -> int: ...
    @property
    def num_ws(self) -> int: ...
    @property
    def w_dim(self) -> int: ...
    @property
    def z_dim(self) -> int: ...
    @property
    def latent_spaces(self) -> tuple[LatentSpace, ...]: ...
    @property
    def num_classes(self) -> int: ...
    @property
    def has_partial_passes(self) -> bool: ...
    @property
    def mapping(self) -> LatentMapping: ...
    @property
    def synthesis(self) -> Synthesis: ...

    def broadcast(self, w_ND: Tensor) -> Tensor:
        """Repeat w for every layer: ``[N, L, D]``."""

    def parameters(self) -> Iterator[nn.Parameter]: ...
    def to(self, device: Any) -> Self: ...


class Discriminator(nn.Module, ABC):
    """Image ``[N, 3, R, R]`` -> logits ``[N, 1]``, high for real; for training alone."""

    def forward(self, image_N3RR: Tensor) -> Tensor:
        return self.logits(self.features(image_N3RR))

    @abstractmethod
    def features(self, image_N3RR: Tensor) -> list[Tensor]:
        """Outputs of its blocks, from the highest resolution down; they serve as features."""

    @abstractmethod
    def logits(self, features: list[Tensor]) -> Tensor:
        """``[N, 1]`` from what ``features`` gave."""


class GeneratorNetwork(nn.Module):
    """Base of the networks: answers the questions about sizes from ``config``."""

    config: GeneratorConfig
    mapping: LatentMapping
    synthesis: Synthesis

    @property
    def kind(self) -> str:
        return self.config.kind

    @property
    def resolution(self) -> int:
        return self.config.resolution

    @property
    def num_ws(self) -> int:
        return self.config.num_ws

    @property
    def w_dim(self) -> int:
        return self.config.w_dim

    @property
    def z_dim(self) -> int:
        return self.config.z_dim

    @property
    def latent_spaces(self) -> tuple[LatentSpace, ...]:
        return self.config.latent_spaces

    @property
    def num_classes(self) -> int:
        return self.config.num_classes

    @property
    def has_partial_passes(self) -> bool:
        return self.config.has_partial_passes

    def broadcast(self, w_ND: Tensor) -> Tensor:
        """Repeat w for every layer: ``[N, L, D]``."""
        return w_ND[:, None].expand(-1, self.num_ws, -1)


def check_pass(
    config: GeneratorConfig, latents_NLD: Tensor, first: int, stop: int, names: set[str]
) -> None:
    """ValueError for latents of another length, layers that there are not, or names of such.

    Args:
        first: K that has run already.
        names: layers that residuals or offsets are given for.
    """
    rows, last = config.num_ws, config.num_layers
    if latents_NLD.shape[1] != rows:
        raise ValueError(f"latents must have {rows} rows, got {latents_NLD.shape[1]}")
    if not max(first, 1) <= stop <= last:
        raise ValueError(f"layer to stop after must be in {max(first, 1)}..{last}, got {stop}")
    unknown = sorted(names.difference(config.style_channels)) if names else []
    if unknown:
        raise ValueError(f"there is no layer {unknown[0]!r}")
