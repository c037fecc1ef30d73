"""Encoders into W+ of pSp's kind: IR-SE50, a pyramid of three maps, a head for every row of w+.

pSp (Richardson et al. 2021, figure 2) gives every row by a head of its own; e4e (Tov et al. 2021,
section 4) gives w by the first head and offsets of the other rows. The codes are what is added to
the mean latent. Parameter names are the public code's (docs/REFERENCES.md, "IR-SE50, pSp and e4e").

Shapes: x ``[N, 3, S, S]`` in [-1, 1], codes ``[N, L, D]``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidinv.generators.base import GeneratorConfig
from vidinv.generators.layers import Linear
from vidinv.networks.irse import BLOCKS, WIDTHS, IRSEPyramid, pyramid_level, strided_convs


@dataclass(frozen=True)
class PspConfig:
    """Sizes of the encoder; the defaults are the published ones.

    Attributes:
        rows: ``"own"``: every head gives its row (pSp); ``"offsets"``: the first head gives w, the
            others what their rows add (e4e).
        input_resolution: S, the side that pictures are resized to: a power of two from 64.
        widths: channels of the four stages; stage i works at S / 2^(i + 1).
        blocks: residual blocks of each stage (3, 4, 14, 3 is IR-SE50).
        pyramid: rows read three maps; else all read the last one (ReStyle).
        steps: how often it encodes; more than once: it also reads the picture of the step before,
            first that of the mean latent, and its codes add up (ReStyle, Alaluf et al. 2021).
    """

    rows: Literal["own", "offsets"] = "own"
    input_resolution: int = 256
    widths: tuple[int, int, int, int] = WIDTHS
    blocks: tuple[int, int, int, int] = BLOCKS
    pyramid: bool = True
    steps: int = 1

    def __post_init__(self) -> None:
        side = self.input_resolution
        if side < 64 or side & (side - 1):
            raise ValueError(f"input_resolution must be a power of two from 64, got {side}")
        if min(self.blocks) < 1:
            raise ValueError(f"every stage needs a block, got {self.blocks}")
        if self.steps < 1:
            raise ValueError(f"steps must be at least 1, got {self.steps}")
        if self.rows not in ("own", "offsets"):
            raise ValueError(f'rows must be "own" or "offsets", got {self.rows!r}')


class StyleHead(nn.Module):
    """A map of the pyramid -> one row ``[N, D]``: strided convolutions to 1x1, a linear layer."""

    def __init__(self, channels: int, w_dim: int, side: int) -> None:
        super().__init__()
        self.convs = strided_convs(channels, side.bit_length() - 1)
        self.linear = Linear(channels, w_dim)

    def forward(self, map_NCHW: Tensor) -> Tensor:
        row_ND: Tensor = self.linear(self.convs(map_NCHW).flatten(1))
        return row_ND


class PspEncoder(IRSEPyramid):
    """x -> codes; ``latent_avg`` ``[L, D]``, which is added to them, goes with the weights."""

    latent_avg: Tensor

    def __init__(self, config: PspConfig, generator: GeneratorConfig) -> None:
        in_channels = 3 if config.steps == 1 else 6
        super().__init__(
            config.widths, config.blocks, in_channels=in_channels, laterals=config.pyramid
        )
        self.config = config
        side, channels = config.input_resolution, config.widths[-1]
        rows = range(generator.num_ws)
        self.levels = [pyramid_level(row) if config.pyramid else 0 for row in rows]
        self.styles = nn.ModuleList(
            StyleHead(channels, generator.w_dim, side >> 4 - level) for level in self.levels
        )
        self.register_buffer("latent_avg", torch.zeros(generator.num_ws, generator.w_dim))

    @torch.no_grad()
    def start_at(self, latent_avg_LD: Tensor) -> None:
        """Every code is 0 at first: training begins at the picture of these latents."""
        self.latent_avg.copy_(latent_avg_LD)
        for head in self.styles:
            assert isinstance(head, StyleHead)
            nn.init.zeros_(head.linear.weight)

    def forward(self, x_NCSS: Tensor, *, offsets: int | None = None) -> Tensor:
        """Codes ``[N, L, D]`` without the mean latent.

        Args:
            offsets: of ``"offsets"``, how many rows after the first add theirs; None: all.
        """
        maps = self.pyramid(x_NCSS)
        heads = zip(self.styles, self.levels, strict=True)
        codes_NLD = torch.stack([head(maps[level]) for head, level in heads], dim=1)
        if self.config.rows == "offsets":
            w_N1D, added = codes_NLD[:, :1], codes_NLD[:, 1:]
            if offsets is not None:
                counts = torch.arange(added.shape[1], device=added.device) < offsets
                added = added * counts[:, None]
            return torch.cat([w_N1D, w_N1D + added], dim=1)
        return codes_NLD

    def resize(self, faces_N3RR: Tensor) -> Tensor:
        """To S, each pixel the mean of its area, as the training's pooling does."""
        side = self.config.input_resolution
        if faces_N3RR.shape[-1] == side:
            return faces_N3RR
        return F.interpolate(faces_N3RR, (side, side), mode="area")
