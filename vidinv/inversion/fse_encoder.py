"""Feature-Style encoder (Yao et al. 2022, figure 2), scaled by configuration.

A ResNet trunk with two branches: the latent head reads average-pooled features of all four stages,
the feature head reads one stage and gives F at layer K of the generator.

Departures from the paper, decided by size and measured in docs/LOG.md:
- trunk widths and depths are set by the pack (iresnet50 would outweigh a small generator 30 times);
- the latent space may be W (one linear head, repeated) or W+ (one head a layer, as in the paper, or
  a shared w plus what a bottleneck of ``row_width`` adds to each layer's row: a twentieth of the
  weights, and training starts from W);
- the feature head also reads G^K(w) and predicts F - G^K(w) through a bottleneck of
  ``feature_width`` channels: training starts from G(w), F stays near the generator's own features
  (what eq. 1 needs), and the loss of eq. 4 is the mean square of the prediction.

The published encoder itself is in ``fse_published.py``.

Generators whose features go on beyond the picture (StyleGAN3) keep their own there.

Shapes: x ``[N, 3, R, R]`` in [-1, 1], latents ``[N, L, D]``, features as the generator's own after
layer K.
"""

from __future__ import annotations

from dataclasses import InitVar, dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidinv.generators.base import GeneratorConfig
from vidinv.generators.stylegan2 import block_end
from vidinv.inversion.fse_editor import FeatureEditor

POOL_SIZE = 3  # the four stages are pooled to 3x3 (docs/REFERENCES.md, "Feature-Style details")


@dataclass(frozen=True)
class FeatureStyleConfig:
    """Sizes of the encoder.

    Attributes:
        input_resolution: side that faces are reduced to for the trunk (256 of 1024 in the paper).
        widths: channels of the four stages; stage i works at input_resolution / 2^i.
        blocks: residual blocks of each stage.
        latent_space: ``"w"`` or ``"w+"``.
        row_width: bottleneck of the rows' differences from w in W+; 0 gives every row a full head.
        feature_layer: K, convolutions of the generator that run before F comes in (5 in the paper).
        feature_width: channels of F's bottleneck; 0 builds no feature head.
        feature_depth: residual blocks of the feature head once it has seen G^K(w).
        editor_width: channels of the feature editor (fse_editor.py); 0 builds none, and edits
            follow eq. 1.
        feature_resolution: what older packs have instead of K: the resolution of the StyleGAN2
            block whose output F replaces.
    """

    input_resolution: int = 64
    widths: tuple[int, int, int, int] = (32, 64, 128, 256)
    blocks: tuple[int, int, int, int] = (2, 2, 2, 2)
    latent_space: Literal["w", "w+"] = "w"
    row_width: int = 0
    feature_layer: int = 5
    feature_width: int = 64
    feature_depth: int = 0
    editor_width: int = 0
    feature_resolution: InitVar[int | None] = None

    def __post_init__(self, feature_resolution: int | None) -> None:
        if feature_resolution is not None:
            object.__setattr__(self, "feature_layer", block_end(feature_resolution))
        if self.latent_space not in ("w", "w+"):
            raise ValueError(f'latent_space must be "w" or "w+", got {self.latent_space!r}')
        if self.row_width and self.latent_space == "w":
            raise ValueError("row_width is for the latent space w+")


class ResidualBlock(nn.Module):
    """BN, strided conv, BN, PReLU, conv, BN, plus shortcut.

    InsightFace's iresnet block with the stride in its first convolution: a quarter of the work.
    """

    def __init__(self, in_channels: int, channels: int, *, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.prelu = nn.PReLU(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels)
        self.shortcut = (
            nn.Sequential(
                nn.Conv2d(in_channels, channels, 1, stride=stride, bias=False),
                nn.BatchNorm2d(channels),
            )
            if stride != 1 or in_channels != channels
            else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(self.bn1(x))
        y = self.bn3(self.conv2(self.prelu(self.bn2(y))))
        return y + self.shortcut(x)


class Trunk(nn.Module):
    """Stem and four stages; returns the output of each stage."""

    def __init__(self, config: FeatureStyleConfig) -> None:
        super().__init__()
        channels = config.widths[0]
        self.stem = nn.Sequential(
            nn.Conv2d(3, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.PReLU(channels),
        )
        self.stages = nn.ModuleList()
        for width, depth in zip(config.widths, config.blocks, strict=True):
            blocks = [ResidualBlock(channels, width, stride=2)]
            blocks += [ResidualBlock(width, width, stride=1) for _ in range(depth - 1)]
            self.stages.append(nn.Sequential(*blocks))
            channels = width

    def forward(self, x: Tensor) -> list[Tensor]:
        x, outputs = self.stem(x), []
        for stage in self.stages:
            x = stage(x)
            outputs.append(x)
        return outputs


class FeatureHead(nn.Module):
    """F - G^K(w) from a stage of the trunk and G^K(w).

    ``project`` is the paper's head (BN, conv, BN, PReLU, strided conv, BN); ``fuse`` joins its
    output with what the generator makes of w, ``refine`` has ``depth`` residual blocks that start
    as the identity, and the 1x1 ``expand`` leaves the bottleneck. Weights saved under their earlier
    names (``look``, ``compare``) are loaded as well.
    """

    def __init__(
        self,
        in_channels: int,
        width: int,
        out_channels: int,
        *,
        stride: int,
        margin: int = 0,
        depth: int = 0,
    ) -> None:
        super().__init__()
        self.margin = margin
        hidden = max(in_channels, width)
        self.project = nn.Sequential(
            nn.BatchNorm2d(in_channels),
            nn.Conv2d(in_channels, hidden, 3, padding=1, bias=False),
            nn.BatchNorm2d(hidden),
            nn.PReLU(hidden),
            nn.Conv2d(hidden, width, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(width),
        )
        self.fuse = nn.Sequential(
            nn.Conv2d(width + out_channels, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.PReLU(width),
        )
        blocks = [ResidualBlock(width, width, stride=1) for _ in range(depth)]
        for block in blocks:
            nn.init.zeros_(block.bn3.weight)
        self.refine = nn.Sequential(*blocks)
        self.expand = nn.Conv2d(width, out_channels, 1, bias=False)
        nn.init.zeros_(self.expand.weight)  # training starts from G(w)
        self.register_load_state_dict_pre_hook(_rename_old_keys)

    def forward(self, stage_NCHW: Tensor, generated_NCHW: Tensor) -> Tensor:
        projected, margin = self.project(stage_NCHW), self.margin
        seen = without_margin(generated_NCHW, margin)
        fused = self.fuse(torch.cat([projected, seen], dim=1))
        residual = self.expand(self.refine(fused))
        return F.pad(residual, [margin] * 4) if margin else residual


def without_margin(features_NCHW: Tensor, margin: int) -> Tensor:
    """The part of the features that the picture shows."""
    if not margin:
        return features_NCHW
    return features_NCHW[..., margin:-margin, margin:-margin]


def _rename_old_keys(head: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    rename_old_keys(state, prefix)


def rename_old_keys(state: dict[str, Any], prefix: str = "") -> None:
    """Give a head's weights, saved under their earlier names, their present ones."""
    for old, new in (("look", "project"), ("compare", "fuse")):
        for key in [key for key in state if key.startswith(f"{prefix}{old}.")]:
            state[f"{prefix}{new}{key.removeprefix(prefix + old)}"] = state.pop(key)


class FeatureStyleEncoder(nn.Module):
    """x -> latents and the trunk's stage for the feature head; then the head, given G^K(w)."""

    w_offset: Tensor

    def __init__(self, config: FeatureStyleConfig, generator: GeneratorConfig) -> None:
        super().__init__()
        self.config, self.num_ws, self.w_dim = config, generator.num_ws, generator.w_dim
        self.trunk = Trunk(config)
        rows = 1 if config.latent_space == "w" or config.row_width else self.num_ws
        pooled = sum(config.widths) * POOL_SIZE**2
        self.latent_head = nn.Linear(pooled, rows * self.w_dim)
        self.row_head: nn.Sequential | None = None
        if config.row_width:
            expand = nn.Linear(config.row_width, self.num_ws * self.w_dim, bias=False)
            nn.init.zeros_(expand.weight)  # training starts from W
            squeeze = nn.Linear(pooled, config.row_width)
            self.row_head = nn.Sequential(squeeze, nn.PReLU(config.row_width), expand)
        # A mean that the head's prediction is added to (``latent_avg`` of the pSp family).
        self.register_buffer("w_offset", torch.zeros(self.w_dim))
        self.feature_stage = 0
        self.feature_head: FeatureHead | None = None
        self.feature_editor: FeatureEditor | None = None
        if config.feature_width:
            channels, side, _ = generator.feature_shape(config.feature_layer)
            margin = generator.feature_margin(config.feature_layer)
            resolution = side - 2 * margin
            self.feature_stage = self._stage_for_features(resolution)
            self.feature_head = self._build_feature_head(channels, resolution, margin)
            if config.editor_width:
                self.feature_editor = FeatureEditor(channels, config.editor_width)

    def forward(self, x_N3RR: Tensor) -> tuple[Tensor, Tensor]:
        """Latents ``[N, L, D]`` and the trunk's stage for ``feature_residual``."""
        stages = self.trunk(self._resize(x_N3RR))
        pooled = [F.adaptive_avg_pool2d(stage, POOL_SIZE).flatten(1) for stage in stages]
        features = torch.cat(pooled, dim=1)
        rows = self.latent_head(features).unflatten(1, (-1, self.w_dim))
        if self.row_head is not None:
            rows = rows + self.row_head(features).unflatten(1, (-1, self.w_dim))
        latents = (rows + self.w_offset).expand(-1, self.num_ws, -1)
        return latents, stages[self.feature_stage]

    def feature_residual(self, stage_NCHW: Tensor, generated_NCHW: Tensor) -> Tensor | None:
        """F - G^K(w) of the shape of ``generated_NCHW`` = G^K(w); None without a feature head."""
        return None if self.feature_head is None else self.feature_head(stage_NCHW, generated_NCHW)

    def _resize(self, x: Tensor) -> Tensor:
        side = self.config.input_resolution
        if x.shape[-1] < side:
            raise ValueError(f"faces must be at least {side} px, got {x.shape[-1]}")
        factor = x.shape[-1] // side
        return F.avg_pool2d(x, factor) if factor > 1 else x

    def _stage_for_features(self, resolution: int) -> int:
        """The first stage at twice F's resolution or at it (the paper: 32, stride 2 to 16)."""
        for stage in range(len(self.config.widths)):
            if self._stage_resolution(stage) in (2 * resolution, resolution):
                return stage
        raise ValueError(
            f"no stage of a {self.config.input_resolution} px trunk reaches the resolution "
            f"{resolution} of feature layer {self.config.feature_layer}"
        )

    def _stage_resolution(self, stage: int) -> int:
        return self.config.input_resolution // 2 ** (stage + 1)

    def _build_feature_head(self, channels: int, resolution: int, margin: int) -> FeatureHead:
        return FeatureHead(
            self.config.widths[self.feature_stage],
            self.config.feature_width,
            channels,
            stride=self._stage_resolution(self.feature_stage) // resolution,
            margin=margin,
            depth=self.config.feature_depth,
        )
