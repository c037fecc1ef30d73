"""StyleGAN2 generator (Karras et al. 2020) with partial passes, sized by configuration.

One class runs our 128 px model and FFHQ-1024 config-f. Parameter names and numerics are NVIDIA's
(CHECKPOINTS.md C1); verified against ../shared/golden. Synthesis can stop after a block and resume
from there with changed features, which is what the Feature-Style encoder needs: G^K(w) and
G(w, F) share the passes below layer K (FSE paper, eq. 1).

Shapes: z ``[N, Z]``, w ``[N, D]``, latents (w+) ``[N, L, D]``, images ``[N, 3, R, R]`` nominally in
[-1, 1] and not clamped, features after the block of resolution r ``[N, C(r), r, r]``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidinv.generators.layers import (
    LRELU_GAIN,
    LRELU_SLOPE,
    Linear,
    fir_kernel,
    modulated_conv2d,
    upsample_fir,
)

NoiseMode = Literal["const", "none", "random"]


@dataclass(frozen=True)
class StyleGAN2Config:
    """Sizes of a generator and its discriminator; channels(r) = min(channel_base / r, channel_max).

    config-f at 1024 px is ``StyleGAN2Config(1024, channel_base=32768)``.
    """

    resolution: int
    channel_base: int = 32768
    channel_max: int = 512
    z_dim: int = 512
    w_dim: int = 512
    num_mapping_layers: int = 8

    def __post_init__(self) -> None:
        if self.resolution < 8 or self.resolution & (self.resolution - 1):
            raise ValueError(f"resolution must be a power of two from 8, got {self.resolution}")

    @property
    def resolutions(self) -> tuple[int, ...]:
        return tuple(2**i for i in range(2, int(math.log2(self.resolution)) + 1))

    @property
    def num_ws(self) -> int:
        """Rows L of a w+ code: 2 log2(R) - 2."""
        return 2 * len(self.resolutions)

    def channels(self, resolution: int) -> int:
        return min(self.channel_base // resolution, self.channel_max)


class MappingNetwork(nn.Module):
    """z -> w: 8 equalised linear layers at a learning rate of 0.01 after normalising z."""

    w_avg: Tensor

    def __init__(self, config: StyleGAN2Config, *, lr_multiplier: float = 0.01) -> None:
        super().__init__()
        self.num_layers = config.num_mapping_layers
        for index in range(self.num_layers):
            width = config.z_dim if index == 0 else config.w_dim
            layer = Linear(width, config.w_dim, lr_multiplier=lr_multiplier, activate=True)
            self.add_module(f"fc{index}", layer)
        self.register_buffer("w_avg", torch.zeros(config.w_dim))

    def forward(self, z_NZ: Tensor, *, truncation: float = 1.0) -> Tensor:
        """w ``[N, D]``; ``truncation`` 1 leaves it, 0 gives the mean (StyleGAN, appendix B)."""
        x = z_NZ * torch.rsqrt(z_NZ.square().mean(dim=1, keepdim=True) + 1e-8)
        for index in range(self.num_layers):
            x = getattr(self, f"fc{index}")(x)
        return x if truncation == 1.0 else self.w_avg.lerp(x, truncation)


class SynthesisLayer(nn.Module):
    """Modulated 3x3 convolution, optionally to twice the size, with noise, bias and leaky ReLU."""

    noise_const: Tensor
    resample_filter: Tensor

    def __init__(
        self, in_channels: int, out_channels: int, w_dim: int, resolution: int, *, up: bool
    ):
        super().__init__()
        self.up = up
        self.resolution = resolution
        self.affine = Linear(w_dim, in_channels, bias_init=1.0)
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, 3, 3))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.noise_strength = nn.Parameter(torch.zeros([]))
        self.register_buffer("noise_const", torch.randn(resolution, resolution))
        self.register_buffer("resample_filter", fir_kernel())

    def forward(
        self, x: Tensor, w_ND: Tensor, *, noise_mode: NoiseMode, weight_residual: Tensor | None
    ) -> Tensor:
        x = modulated_conv2d(
            x,
            self.weight,
            self.affine(w_ND),
            offset=self._offset(len(x), noise_mode),
            gain=LRELU_GAIN,
            up_kernel=self.resample_filter if self.up else None,
            weight_residual=weight_residual,
        )
        return F.leaky_relu(x, LRELU_SLOPE, inplace=True)

    def _offset(self, batch: int, noise_mode: NoiseMode) -> Tensor:
        """Noise and bias times the gain of the leaky ReLU, which is linear on either side."""
        bias = self.bias * LRELU_GAIN
        if noise_mode == "none":
            return bias[:, None, None]
        noise = self.noise_const
        if noise_mode == "random":
            noise = torch.randn(batch, *noise.shape, device=noise.device)
        # Channels last, as the activations are.
        return (noise[..., None] * (self.noise_strength * LRELU_GAIN) + bias).movedim(-1, -3)


class ToRGB(nn.Module):
    """Modulated 1x1 convolution to RGB, without demodulation."""

    def __init__(self, in_channels: int, w_dim: int) -> None:
        super().__init__()
        self.affine = Linear(w_dim, in_channels, bias_init=1.0)
        self.weight = nn.Parameter(torch.randn(3, in_channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(3))
        self.weight_gain = 1.0 / math.sqrt(in_channels)

    def forward(self, x: Tensor, w_ND: Tensor, *, weight_residual: Tensor | None) -> Tensor:
        weight = self.weight if weight_residual is None else self.weight + weight_residual
        styles = self.affine(w_ND) * self.weight_gain
        # Three channels are so few that weights of each sample's own beat scaling the input.
        weights_N3I = (weight.flatten(-3) * styles[:, None]).to(x.dtype)
        y = torch.baddbmm(self.bias.to(x.dtype)[:, None], weights_N3I, x.flatten(2))
        return y.unflatten(2, x.shape[2:])


class SynthesisBlock(nn.Module):
    """One resolution: conv0 (up), conv1, ToRGB; the 4x4 block has a constant for conv0."""

    resample_filter: Tensor

    def __init__(self, config: StyleGAN2Config, resolution: int) -> None:
        super().__init__()
        self.first = resolution == 4
        self.resolution = resolution
        channels, w_dim = config.channels(resolution), config.w_dim
        if self.first:
            self.const = nn.Parameter(torch.randn(channels, 4, 4))
        else:
            lower = config.channels(resolution // 2)
            self.conv0 = SynthesisLayer(lower, channels, w_dim, resolution, up=True)
        self.conv1 = SynthesisLayer(channels, channels, w_dim, resolution, up=False)
        self.torgb = ToRGB(channels, w_dim)
        self.register_buffer("resample_filter", fir_kernel())

    def forward(
        self,
        x: Tensor | None,
        image: Tensor | None,
        ws_N3D: Tensor,
        *,
        noise_mode: NoiseMode,
        residuals: Mapping[str, Tensor],
    ) -> tuple[Tensor, Tensor]:
        """Features and RGB after this block; rows of ws: conv0, conv1, torgb (4x4: no conv0)."""
        rows = ws_N3D.unbind(dim=1)
        if x is None:
            x = self.const.expand(ws_N3D.shape[0], -1, -1, -1)
            x = x.contiguous(memory_format=torch.channels_last)
        else:
            x = self.conv0(
                x, rows[0], noise_mode=noise_mode, weight_residual=residuals.get("conv0")
            )
        x = self.conv1(x, rows[-2], noise_mode=noise_mode, weight_residual=residuals.get("conv1"))
        rgb = self.torgb(x, rows[-1], weight_residual=residuals.get("torgb"))
        if image is not None:
            rgb = rgb + upsample_fir(image, self.resample_filter)
        return x, rgb


@dataclass(frozen=True)
class SynthesisState:
    """A synthesis stopped after the block of ``resolution``: features, RGB so far.

    ``replace_features`` gives the state that the next block sees with other features; the RGB skip
    keeps what the original features made, as in the published FSE weights (METHODS_NOTES D1).
    """

    resolution: int
    features_NCHW: Tensor
    image_N3HW: Tensor

    def replace_features(self, features_NCHW: Tensor) -> SynthesisState:
        if features_NCHW.shape != self.features_NCHW.shape:
            raise ValueError(
                f"features must be {tuple(self.features_NCHW.shape)}, "
                f"got {tuple(features_NCHW.shape)}"
            )
        return replace(self, features_NCHW=features_NCHW)


class SynthesisNetwork(nn.Module):
    """w+ -> image, in one pass or in parts."""

    def __init__(self, config: StyleGAN2Config) -> None:
        super().__init__()
        self.config = config
        for resolution in config.resolutions:
            self.add_module(f"b{resolution}", SynthesisBlock(config, resolution))

    def forward(
        self,
        latents_NLD: Tensor,
        *,
        start: SynthesisState | None = None,
        noise_mode: NoiseMode = "const",
        weight_residuals: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        """Image ``[N, 3, R, R]``; with ``start``, only the blocks above it run."""
        return self.run(
            latents_NLD,
            stop=self.config.resolution,
            start=start,
            noise_mode=noise_mode,
            weight_residuals=weight_residuals,
        ).image_N3HW

    def run(
        self,
        latents_NLD: Tensor,
        *,
        stop: int,
        start: SynthesisState | None = None,
        noise_mode: NoiseMode = "const",
        weight_residuals: Mapping[str, Tensor] | None = None,
    ) -> SynthesisState:
        """Run the blocks above ``start`` (or all) up to resolution ``stop``, inclusive.

        Args:
            weight_residuals: per-sample residuals ``[N, O, I, k, k]`` keyed ``"b8.conv0"`` etc.
        """
        if latents_NLD.shape[1] != self.config.num_ws:
            raise ValueError(
                f"latents must have {self.config.num_ws} rows, got {latents_NLD.shape[1]}"
            )
        first = 0 if start is None else start.resolution
        x = None if start is None else start.features_NCHW
        image = None if start is None else start.image_N3HW
        for resolution in self.config.resolutions:
            if not first < resolution <= stop:
                continue
            x, image = self._block(resolution)(
                x,
                image,
                latents_NLD[:, self.rows(resolution)],
                noise_mode=noise_mode,
                residuals=_block_residuals(weight_residuals, resolution),
            )
        if x is None or image is None:
            raise ValueError(f"nothing to run: start {first}, stop {stop}")
        return SynthesisState(stop, x, image)

    def rows(self, resolution: int) -> slice:
        """Rows of w+ that a block reads: conv0, conv1, torgb; torgb shares the next conv0's row."""
        index = int(math.log2(resolution)) - 2
        return slice(max(2 * index - 1, 0), 2 * index + 2)

    def _block(self, resolution: int) -> SynthesisBlock:
        block = getattr(self, f"b{resolution}")
        assert isinstance(block, SynthesisBlock)
        return block


class Generator(nn.Module):
    """Mapping and synthesis; ``mapping.*`` and ``synthesis.*`` as in NVIDIA's ``G_ema``."""

    def __init__(self, config: StyleGAN2Config) -> None:
        super().__init__()
        self.config = config
        self.synthesis = SynthesisNetwork(config)
        self.mapping = MappingNetwork(config)

    def forward(
        self, z_NZ: Tensor, *, truncation: float = 1.0, noise_mode: NoiseMode = "const"
    ) -> Tensor:
        """Image ``[N, 3, R, R]`` from z."""
        w_ND = self.mapping(z_NZ, truncation=truncation)
        return self.synthesis(self.broadcast(w_ND), noise_mode=noise_mode)

    def broadcast(self, w_ND: Tensor) -> Tensor:
        """Repeat w for every layer: ``[N, L, D]``."""
        return w_ND[:, None].expand(-1, self.config.num_ws, -1)


def _block_residuals(residuals: Mapping[str, Tensor] | None, resolution: int) -> dict[str, Tensor]:
    prefix = f"b{resolution}."
    return {k.removeprefix(prefix): v for k, v in (residuals or {}).items() if k.startswith(prefix)}
