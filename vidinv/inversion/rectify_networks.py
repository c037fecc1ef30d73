"""The rectifying network of ReGANIE (Li et al. 2023, figure 3), scaled by configuration.

E_p (``primary_encoder``) makes the feature map f_x of a picture of the first phase, E_d
(``difference_encoder``) a spatial code sp and a global code gl of what the first phase got wrong
(eq. 4), and G_p (``generator``) the rectified picture of f_x, modulated by sp and gl in turn (eqs.
7 and 8). No code was published. What the paper leaves open is decided here, as in its reference for
such networks, the Swapping Autoencoder (Park et al. 2020), where that says anything:

- E_p and E_d are four residual blocks of StyleGAN2's discriminator, each to half the size. sp is a
  1x1 convolution of E_d's last map; gl is its mean after two more strided convolutions, as far as
  there is anything to halve, and a linear layer.
- G_p has a pair of 3x3 convolutions at each size, S/16 to S: the first of a pair doubles the size
  (but not at S/16) and is modulated by sp, the second by gl. Leaky ReLUs follow, as in StyleGAN2.
- A layer's style is a 1x1 convolution of sp, enlarged bilinearly to the layer's size, or a linear
  layer of gl: sp is 32x32 at paper size, layers have up to 512x512.
- Both modulations are demodulated. Under sp an output is demodulated by the style at its place, so
  that a spatial code which is the same everywhere does what a global one does.
- There is no noise: a rectified frame depends on its source alone.
- A plain 1x1 convolution makes the picture at the end (``output="picture"``), or what is added to
  the first phase's picture (``"residual"``), which training starts from with zeros.

The ablations of figure 6 are ``modulation``, and ``difference_input`` for the input of the network:
the paper shows the latter in a supplement that we do not have, so that what it compared is not
known; the source itself, and source with inversion, are the inputs that suggest themselves.

Shapes: pictures ``[N, 3, S, S]`` in [-1, 1] with S = ``resolution``, f_x and sp ``[N, C, S/16,
S/16]``, gl ``[N, global_width]``. With other than five ``widths`` there are as many halvings fewer
or more: at 128 px the paper's four would leave sp 8x8, where its own has 32x32.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidinv.generators.discriminator import Conv, DownBlock
from vidinv.generators.layers import (
    LRELU_GAIN,
    LRELU_SLOPE,
    Linear,
    fir_kernel,
    modulated_conv2d,
    spatially_modulated_conv2d,
)

SPATIAL, GLOBAL = "spatial", "global"
"""Names of the codes sp and gl."""

MIN_WIDTHS = 3
GLOBAL_HALVINGS = 2  # of E_d's last map, before its mean (Swapping Autoencoder)

Modulation = Literal["alternating", "spatial", "global"]
DifferenceInput = Literal["difference", "source", "pair"]
Output = Literal["picture", "residual"]


@dataclass(frozen=True)
class RectifierConfig:
    """Sizes of the network; the defaults are the paper's where it says them.

    Attributes:
        resolution: S, the side at which it works: a power of two from 32.
        widths: channels at S, S/2, ..., one more than there are halvings: the paper has four.
        spatial_width: channels of sp; the paper says its side alone.
        global_width: numbers of gl.
        modulation: ``"alternating"``, or all layers by sp or by gl alone (figure 6).
        difference_input: what E_d reads: ``"difference"`` x - x^, ``"source"`` x, or ``"pair"``
            x and x^.
        output: what G_p makes: the picture, or what is added to that of the first phase.
    """

    resolution: int = 512
    widths: tuple[int, ...] = (32, 64, 128, 256, 512)
    spatial_width: int = 512
    global_width: int = 2048
    modulation: Modulation = "alternating"
    difference_input: DifferenceInput = "difference"
    output: Output = "picture"

    def __post_init__(self) -> None:
        side = self.resolution
        if side < 32 or side & (side - 1):
            raise ValueError(f"resolution must be a power of two from 32, got {side}")
        most = int(math.log2(side))
        if not MIN_WIDTHS <= len(self.widths) <= most:
            raise ValueError(f"widths must be {MIN_WIDTHS} to {most} numbers, got {self.widths}")
        for name, choices in (
            ("modulation", Modulation),
            ("difference_input", DifferenceInput),
            ("output", Output),
        ):
            if getattr(self, name) not in get_args(choices):
                known = ", ".join(get_args(choices))
                raise ValueError(f"{name} must be one of {known}, got {getattr(self, name)!r}")

    @property
    def halvings(self) -> int:
        """From a picture to f_x and sp."""
        return len(self.widths) - 1

    @property
    def modulations(self) -> tuple[str, str]:
        """Names of the codes that modulate the two layers of a pair."""
        return {
            "alternating": (SPATIAL, GLOBAL),
            "spatial": (SPATIAL, SPATIAL),
            "global": (GLOBAL, GLOBAL),
        }[self.modulation]

    @property
    def code_names(self) -> tuple[str, ...]:
        """The codes of E_d that there are."""
        return tuple(dict.fromkeys(self.modulations))


class PictureEncoder(nn.Module):
    """Pictures -> a map after all halvings; E_p (f_x), and the first part of E_d."""

    def __init__(self, in_channels: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.fromrgb = Conv(in_channels, widths[0], 1)
        self.blocks = nn.Sequential(*(DownBlock(*pair) for pair in pairwise(widths)))

    def forward(self, x_NCSS: Tensor) -> Tensor:
        map_NCHW: Tensor = self.blocks(self.fromrgb(x_NCSS))
        return map_NCHW


class GlobalHead(nn.Module):
    """gl from a map: strided convolutions, the mean over places, a linear layer."""

    def __init__(self, channels: int, global_width: int, *, halvings: int) -> None:
        super().__init__()
        self.convs = nn.Sequential(
            *(Conv(channels, channels, 3, down=True) for _ in range(halvings))
        )
        self.linear = Linear(channels, global_width)

    def forward(self, map_NCHW: Tensor) -> Tensor:
        code_NG: Tensor = self.linear(self.convs(map_NCHW).mean(dim=(2, 3)))
        return code_NG


class DifferenceEncoder(PictureEncoder):
    """E_d: what the first phase got wrong -> sp and gl, by name (eq. 4)."""

    def __init__(self, config: RectifierConfig) -> None:
        super().__init__(6 if config.difference_input == "pair" else 3, config.widths)
        channels, side = config.widths[-1], config.resolution >> config.halvings
        self.heads = nn.ModuleDict()
        if SPATIAL in config.code_names:
            self.heads[SPATIAL] = Conv(channels, config.spatial_width, 1, activate=False)
        if GLOBAL in config.code_names:
            halvings = min(GLOBAL_HALVINGS, int(math.log2(side)))
            self.heads[GLOBAL] = GlobalHead(channels, config.global_width, halvings=halvings)

    def codes(self, x_NCSS: Tensor) -> dict[str, Tensor]:
        map_NCHW = self(x_NCSS)
        return {name: head(map_NCHW) for name, head in self.heads.items()}


class ModulatedLayer(nn.Module):
    """A convolution of G_p, modulated by sp (eq. 7) or gl (eq. 8), with bias and leaky ReLU.

    Args:
        by: name of the code.
        up: to twice the size.
    """

    resample_filter: Tensor

    def __init__(
        self, in_channels: int, out_channels: int, config: RectifierConfig, *, by: str, up: bool
    ) -> None:
        super().__init__()
        self.by, self.up = by, up
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, 3, 3))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        if by == SPATIAL:
            self.affine: nn.Module = Conv(config.spatial_width, in_channels, 1, activate=False)
            nn.init.ones_(self.affine.get_parameter("bias"))
        else:
            self.affine = Linear(config.global_width, in_channels, bias_init=1.0)
        self.register_buffer("resample_filter", fir_kernel())

    def forward(self, f_NIHW: Tensor, codes: Mapping[str, Tensor]) -> Tensor:
        styles = self.affine(codes[self.by])
        if self.by == SPATIAL:
            # The same as enlarging the code first: both are linear.
            styles = F.interpolate(styles, f_NIHW.shape[-2:], mode="bilinear")
        modulated = spatially_modulated_conv2d if self.by == SPATIAL else modulated_conv2d
        y = modulated(
            f_NIHW,
            self.weight,
            styles,
            offset=self.bias[:, None, None] * LRELU_GAIN,
            gain=LRELU_GAIN,
            up_kernel=self.resample_filter if self.up else None,
        )
        return F.leaky_relu(y, LRELU_SLOPE)


class RectifierGenerator(nn.Module):
    """G_p: f_x and codes -> ``[N, 3, S, S]``."""

    def __init__(self, config: RectifierConfig) -> None:
        super().__init__()
        first, second = config.modulations
        self.layers = nn.ModuleList()
        channels = config.widths[-1]
        for number, width in enumerate(reversed(config.widths)):
            up = number > 0
            self.layers.append(ModulatedLayer(channels, width, config, by=first, up=up))
            self.layers.append(ModulatedLayer(width, width, config, by=second, up=False))
            channels = width
        self.torgb = Conv(channels, 3, 1, activate=False)
        if config.output == "residual":
            nn.init.zeros_(self.torgb.weight)

    def forward(self, f_x_NCHW: Tensor, codes: Mapping[str, Tensor]) -> Tensor:
        f = f_x_NCHW
        for layer in self.layers:
            f = layer(f, codes)
        picture_N3SS: Tensor = self.torgb(f)
        return picture_N3SS


class Rectifier(nn.Module):
    """E_p, E_d and G_p, over pictures of any side R: they are resized to S and back."""

    def __init__(self, config: RectifierConfig) -> None:
        super().__init__()
        self.config = config
        self.primary_encoder = PictureEncoder(3, config.widths)
        self.difference_encoder = DifferenceEncoder(config)
        self.generator = RectifierGenerator(config)

    def codes(self, source_N3RR: Tensor, inverted_N3RR: Tensor) -> dict[str, Tensor]:
        """sp and gl = E_d(x - x^), by name (eq. 4)."""
        x, x_hat = self._resize(source_N3RR), self._resize(inverted_N3RR)
        read = {
            "difference": lambda: x - x_hat,
            "source": lambda: x,
            "pair": lambda: torch.cat([x, x_hat], dim=1),
        }[self.config.difference_input]()
        return self.difference_encoder.codes(read)

    def forward(self, primary_N3RR: Tensor, codes: Mapping[str, Tensor]) -> Tensor:
        """Y_r = G_p(E_p(Y^), E_d(x - x^)) (eqs. 5 and 6, algorithm 1), ``[N, 3, R, R]``."""
        made = self.generator(self.primary_encoder(self._resize(primary_N3RR)), codes)
        made = resize(made, primary_N3RR.shape[-1])
        return primary_N3RR + made if self.config.output == "residual" else made

    def _resize(self, x_N3RR: Tensor) -> Tensor:
        return resize(x_N3RR, self.config.resolution)


def resize(x_NCRR: Tensor, side: int) -> Tensor:
    """To another side: averaged over areas where it is smaller, bilinear where it is larger."""
    if x_NCRR.shape[-1] == side:
        return x_NCRR
    if x_NCRR.shape[-1] > side:
        return F.interpolate(x_NCRR, (side, side), mode="area")
    return F.interpolate(x_NCRR, (side, side), mode="bilinear")
