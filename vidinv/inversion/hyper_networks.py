"""The networks of HyperInverter (Dinh et al. 2022, figures 2 and 3), scaled by configuration.

E1 (``w_encoder``) gives w, E2 (``w_bar_encoder``) a feature of a picture for every row of w+, and
one small network a layer (``hypernet``) the residual of that layer's weight from the features of x
and of G(w). Parameter names are the official code's, and the defaults are the paper's sizes
(docs/REFERENCES.md, "HyperInverter details").

Shapes: x ``[N, 3, S, S]`` in [-1, 1] with S = ``input_resolution``; features ``[N, C, S/32, S/32]``
with C the last of ``widths``; residuals ``[N, O, I, k, k]``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidinv.generators.base import GeneratorConfig
from vidinv.generators.layers import Linear
from vidinv.networks.irse import (
    BLOCKS,
    WIDTHS,
    IRSEPyramid,
    IRSETrunk,
    pyramid_level,
    strided_convs,
)


@dataclass(frozen=True)
class HyperConfig:
    """Sizes of the networks, and table 3's ablations; the defaults are the paper's for 1024 px.

    Attributes:
        input_resolution: S, the side that pictures are resized to: a power of two from 64.
        widths: channels of the four stages of E1 and E2; stage i works at S / 2^(i + 1).
        blocks: residual blocks of each stage (3, 4, 14, 3 is IR-SE50).
        transformer_width: channels of the feature transformers (figure 3).
        hidden_width: D of the linear mappers (table 3: 256; the official readme advises 128).
        phase_two: False renders G(w), with the weights of phase I alone in use (row 2).
        fusion: False: the hypernetworks see features of x, not of G(w) (row 3).
        fusion_norm: False leaves out the instance norm of the fusion, as the official code has it:
            of a map of 2x2 places it takes away most of what there is, the mean colour first.
        layer_wise: False: one feature, from the smallest map, serves all layers (row 4).
    """

    input_resolution: int = 256
    widths: tuple[int, int, int, int] = WIDTHS
    blocks: tuple[int, int, int, int] = BLOCKS
    transformer_width: int = 64
    hidden_width: int = 256
    phase_two: bool = True
    fusion: bool = True
    fusion_norm: bool = True
    layer_wise: bool = True

    def __post_init__(self) -> None:
        side = self.input_resolution
        if side < 64 or side & (side - 1):
            raise ValueError(f"input_resolution must be a power of two from 64, got {side}")
        if min(self.blocks) < 1:
            raise ValueError(f"every stage needs a block, got {self.blocks}")


class LatentEncoder(IRSETrunk):
    """E1: x -> w less its mean, ``[N, D]`` (eq. 1)."""

    def __init__(self, config: HyperConfig, w_dim: int) -> None:
        super().__init__(config.widths, config.blocks)
        self.linear = Linear(config.widths[-1], w_dim)

    def forward(self, x_N3SS: Tensor) -> Tensor:
        w_ND: Tensor = self.linear(self.stages(x_N3SS)[-1].mean(dim=(2, 3)))
        return w_ND


class DownsamplingHead(nn.Module):
    """Strided convolutions from a map of the pyramid to S/32, one for each halving."""

    def __init__(self, channels: int, halvings: int) -> None:
        super().__init__()
        self.convs = strided_convs(channels, halvings)

    def forward(self, x: Tensor) -> Tensor:
        return self.convs(x)


class LayerEncoder(IRSEPyramid):
    """E2: a picture -> a feature for every row of w+ (eq. 3), from a pyramid of three maps."""

    def __init__(self, config: HyperConfig, num_features: int) -> None:
        super().__init__(config.widths, config.blocks)
        self.levels = [pyramid_level(row) for row in range(num_features)]
        channels = config.widths[-1]
        self.styles = nn.ModuleList(DownsamplingHead(channels, 1 + n) for n in self.levels)

    def forward(self, x_N3SS: Tensor) -> list[Tensor]:
        """Features ``[N, C, S/32, S/32]``, one for every row."""
        maps = self.pyramid(x_N3SS)
        return [head(maps[n]) for head, n in zip(self.styles, self.levels, strict=True)]


class Hypernetwork(nn.Module):
    """H_j: features of G(w) and x -> residual of one layer's weight (eq. 4, figure 3).

    The feature transformer halves the side down to one vector of D numbers. The linear mapper has
    two small matrices instead of a large one (Ha et al. 2017, section 3.1).

    Args:
        shape: (O, I, k, k) of the weight.
    """

    def __init__(self, config: HyperConfig, shape: Sequence[int]) -> None:
        super().__init__()
        channels, width, hidden = config.widths[-1], config.transformer_width, config.hidden_width
        self.shape, self.hidden = shape, hidden
        seen = (2 if config.fusion else 1) * channels
        norm = nn.InstanceNorm2d(channels) if config.fusion_norm else nn.Identity()
        self.fusion = nn.Sequential(nn.Conv2d(seen, channels, 1), norm, nn.ReLU())
        self.feature_extractor = nn.Sequential(nn.Conv2d(channels, width, 3, padding=1), nn.ReLU())
        halvings = int(math.log2(config.input_resolution)) - 5
        for number in range(1, halvings + 1):
            outputs = hidden if number == halvings else width
            self.feature_extractor.append(nn.Conv2d(width, outputs, 4, 2, padding=1))
            self.feature_extractor.append(nn.ReLU())
        out_channels, in_channels, side, _ = shape
        self.w1 = nn.Parameter(torch.empty(hidden, in_channels * hidden))
        self.b1 = nn.Parameter(torch.zeros(in_channels * hidden))
        self.w2 = nn.Parameter(torch.empty(hidden, out_channels * side**2))
        self.b2 = nn.Parameter(torch.zeros(out_channels * side**2))
        nn.init.kaiming_normal_(self.w1)
        nn.init.kaiming_normal_(self.w2)

    def forward(self, appearance_NCHW: Tensor) -> Tensor:
        """Residual ``[N, O, I, k, k]`` of the features of G(w) and x, stacked."""
        fused = self.fusion(appearance_NCHW)
        hidden_ND = self.feature_extractor(fused).flatten(1)
        rows = (hidden_ND @ self.w1 + self.b1).unflatten(1, (-1, self.hidden))
        mapped = rows @ self.w2 + self.b2  # [N, I, O k k]
        # Numbers are taken in their order, not transposed: so official weights want it.
        return mapped.reshape(-1, *self.shape)


class Hypernetworks(nn.Module):
    """All H_j; keyed by the layer's name with ``_`` for ``.``, as in the official code.

    Args:
        shapes: (O, I, k, k) of the weight of every layer, in the order in which they run.
    """

    def __init__(
        self, config: HyperConfig, shapes: Mapping[str, Sequence[int]], num_features: int
    ) -> None:
        super().__init__()
        self.rows = feature_rows(shapes, num_features)
        self.weight_regressors = nn.ModuleDict(
            {_module_name(layer): Hypernetwork(config, shapes[layer]) for layer in shapes}
        )

    def forward(self, appearance: Sequence[Tensor]) -> dict[str, Tensor]:
        """Residuals ``[N, O, I, k, k]`` by layer, from what E2 gives of G(w) and of x."""
        return {
            layer: self.weight_regressors[_module_name(layer)](appearance[row])
            for layer, row in self.rows.items()
        }


def _module_name(layer: str) -> str:
    return f"{layer}.weight".replace(".", "_")


def feature_rows(shapes: Mapping[str, Sequence[int]], num_features: int) -> dict[str, int]:
    """Which of E2's features each layer reads: the official table.

    It is not the generator's table of rows of w+. Every convolution has the next feature; a ToRGB
    shares that of the convolution before it, but the first has one of its own.
    """
    rows: dict[str, int] = {}
    row = -1
    for layer, (out_channels, *_) in shapes.items():
        is_rgb = out_channels == 3
        row += not is_rgb or row == 0
        rows[layer] = min(row, num_features - 1)
    return rows


class HyperInverterNetworks(nn.Module):
    """E1, E2 and the hypernetworks for one generator.

    Args:
        weights: of every modulated layer (``Synthesis.layer_weights``).
        has_w_encoder: False leaves out E1: latents come from elsewhere.
    """

    def __init__(
        self,
        config: HyperConfig,
        generator: GeneratorConfig,
        weights: Mapping[str, Tensor],
        *,
        has_w_encoder: bool = True,
    ) -> None:
        super().__init__()
        self.config = config
        shapes = {layer: tuple(weight.shape) for layer, weight in weights.items()}
        if has_w_encoder:
            self.w_encoder = LatentEncoder(config, generator.w_dim)
        num_features = generator.num_ws if config.layer_wise else 1
        self.w_bar_encoder = LayerEncoder(config, num_features)
        self.hypernet = Hypernetworks(config, shapes, num_features)

    def prepare_training(self) -> None:
        """Initial values for training from nothing: residuals are 0, and then follow the faces.

        With torch's own, the vector of D numbers is a hundredth, and mostly a bias; and fusion
        would have to find out first that it is the difference of the two pictures that matters.
        """
        for part in (self.w_bar_encoder.styles, self.hypernet):
            for module in part.modules():
                if isinstance(module, nn.Conv2d):
                    nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                    nn.init.zeros_(module.get_parameter("bias"))
                elif isinstance(module, Hypernetwork):
                    nn.init.normal_(module.w1, std=1 / math.sqrt(module.hidden))
                    nn.init.zeros_(module.w2)
        if self.config.fusion:
            for hypernetwork in self.hypernet.weight_regressors.values():
                assert isinstance(hypernetwork, Hypernetwork)
                weight = hypernetwork.get_parameter("fusion.0.weight").data
                of_generated, of_source = weight.chunk(2, dim=1)
                of_source.copy_(-of_generated)

    def resize(self, x_N3RR: Tensor) -> Tensor:
        """To S, bilinearly and without a low-pass filter: so official weights were trained."""
        side = self.config.input_resolution
        if x_N3RR.shape[-1] == side:
            return x_N3RR
        return F.interpolate(x_N3RR, (side, side), mode="bilinear", align_corners=False)

    def residuals(self, x_N3SS: Tensor, generated_N3SS: Tensor) -> dict[str, Tensor]:
        """Residuals by layer, from the source and the picture of phase I (eqs. 3 and 4)."""
        residuals: dict[str, Tensor] = self.hypernet(self._appearance(x_N3SS, generated_N3SS))
        return residuals

    def _appearance(self, x_N3SS: Tensor, generated_N3SS: Tensor) -> list[Tensor]:
        """h: features of G(w) and x, stacked in this order; without ``fusion`` those of x."""
        features: list[Tensor]
        if not self.config.fusion:
            features = self.w_bar_encoder(x_N3SS)
            return features
        features = self.w_bar_encoder(torch.cat([generated_N3SS, x_N3SS]))
        return [torch.cat(both.chunk(2), dim=1) for both in features]
