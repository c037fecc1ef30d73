"""IR-SE networks: the trunk of pSp-type encoders, its pyramid, and ArcFace's recognition network.

IR-SE50 is a residual network with squeeze and excitation (Hu et al. 2018) as ArcFace uses it (Deng
et al. 2019, section 3.1); pSp (Richardson et al. 2021, figure 2) reads a pyramid of three of its
maps. Parameter names are the public code's (docs/REFERENCES.md, "IR-SE50, pSp and e4e").

Shapes: x ``[N, 3, S, S]`` in [-1, 1], RGB; stage i of the trunk gives ``[N, C_i, S/2^(i+1), ...]``.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import torch.nn.functional as F
from torch import Tensor, nn

WIDTHS = (64, 128, 256, 512)
BLOCKS = (3, 4, 14, 3)  # IR-SE50
SQUEEZE = 16  # channels to hidden channels of squeeze and excitation
FIRST_MIDDLE_ROW, FIRST_FINE_ROW = 3, 7  # rows of w+ that read the larger maps of pSp's pyramid
CHIP_PX = 112  # ArcFace's input
FFHQ_FACE = slice(35, 223), slice(32, 220)  # rows, columns of the 256 px crop that hold the face


class SqueezeExcitation(nn.Module):
    """Channels scaled by what their means say (Hu et al. 2018)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = max(1, channels // SQUEEZE)
        self.fc1 = nn.Conv2d(channels, hidden, 1, bias=False)
        self.fc2 = nn.Conv2d(hidden, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        means = x.mean(dim=(2, 3), keepdim=True)
        return x * self.fc2(F.relu(self.fc1(means))).sigmoid()


class Bottleneck(nn.Module):
    """The block of IR-SE50: BN, conv, PReLU, strided conv, BN, squeeze and excitation; shortcut."""

    def __init__(self, in_channels: int, channels: int, *, stride: int) -> None:
        super().__init__()
        self.shortcut_layer: nn.Module = nn.MaxPool2d(1, stride)
        if in_channels != channels:
            self.shortcut_layer = nn.Sequential(
                nn.Conv2d(in_channels, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )
        self.res_layer = nn.Sequential(
            nn.BatchNorm2d(in_channels),
            nn.Conv2d(in_channels, channels, 3, padding=1, bias=False),
            nn.PReLU(channels),
            nn.Conv2d(channels, channels, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            SqueezeExcitation(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.res_layer(x) + self.shortcut_layer(x)


class IRSETrunk(nn.Module):
    """IR-SE: stem and four stages, each of which halves the side; returns their outputs.

    Args:
        widths: channels of the stages.
        blocks: residual blocks of each stage.
        in_channels: 6 where the encoder sees two pictures at once, as ReStyle's does.
    """

    def __init__(
        self,
        widths: Sequence[int] = WIDTHS,
        blocks: Sequence[int] = BLOCKS,
        *,
        in_channels: int = 3,
    ) -> None:
        super().__init__()
        channels = widths[0]
        self.input_layer = nn.Sequential(
            nn.Conv2d(in_channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.PReLU(channels),
        )
        self.body = nn.Sequential()  # flat, as in the official code
        for width, depth in zip(widths, blocks, strict=True):
            for number in range(depth):
                self.body.append(Bottleneck(channels, width, stride=1 if number else 2))
                channels = width
        self._stage_ends = set(accumulate(blocks))

    def stages(self, x_NCSS: Tensor) -> list[Tensor]:
        x, outputs = self.input_layer(x_NCSS), []
        for number, block in enumerate(self.body, start=1):
            x = block(x)
            if number in self._stage_ends:
                outputs.append(x)
        return outputs


class IRSEPyramid(IRSETrunk):
    """The trunk with pSp's pyramid: its last three maps, of the channels of the last stage.

    Rows of w+ from ``FIRST_MIDDLE_ROW`` and ``FIRST_FINE_ROW`` on read the larger ones.

    Args:
        laterals: False: there is the last map alone, in the place of all three (ReStyle).
    """

    def __init__(
        self,
        widths: Sequence[int] = WIDTHS,
        blocks: Sequence[int] = BLOCKS,
        *,
        in_channels: int = 3,
        laterals: bool = True,
    ) -> None:
        super().__init__(widths, blocks, in_channels=in_channels)
        _, fine, middle, coarse = widths
        self.laterals = laterals
        if laterals:
            self.latlayer1 = nn.Conv2d(middle, coarse, 1)
            self.latlayer2 = nn.Conv2d(fine, coarse, 1)

    def pyramid(self, x_NCSS: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Maps of S/16, S/8 and S/4."""
        _, fine, middle, coarse = self.stages(x_NCSS)
        if not self.laterals:
            return coarse, coarse, coarse
        middle = _enlarge_and_add(coarse, self.latlayer1(middle))
        return coarse, middle, _enlarge_and_add(middle, self.latlayer2(fine))


def pyramid_level(row: int) -> int:
    """Which map of the pyramid a row of w+ reads: 0 the smallest, 2 the largest."""
    return int(row >= FIRST_MIDDLE_ROW) + int(row >= FIRST_FINE_ROW)


def strided_convs(channels: int, halvings: int) -> nn.Sequential:
    """Convolutions that halve the side of a map of the pyramid so many times."""
    convs = nn.Sequential()
    for _ in range(halvings):
        convs.append(nn.Conv2d(channels, channels, 3, 2, padding=1))
        convs.append(nn.LeakyReLU())
    return convs


class ArcFace(IRSETrunk):
    """IR-SE50 for recognition: chips ``[N, 3, 112, 112]`` in [-1, 1] -> unit vectors ``[N, 512]``.

    The network of TreB1eN's InsightFace_Pytorch, which the encoders' identity losses use.
    """

    def __init__(self, embedding: int = 512) -> None:
        super().__init__()
        self.output_layer = nn.Sequential(
            nn.BatchNorm2d(WIDTHS[-1]),
            nn.Dropout(0.6),
            nn.Flatten(),
            nn.Linear(WIDTHS[-1] * (CHIP_PX // 16) ** 2, embedding),
            nn.BatchNorm1d(embedding),
        )

    def forward(self, chips_N3SS: Tensor) -> Tensor:
        return F.normalize(self.output_layer(self.stages(chips_N3SS)[-1]), dim=1)

    def embed_ffhq_crop(self, faces_N3SS: Tensor) -> Tensor:
        """Of aligned faces in FFHQ's crop at 256 px, as the encoders' identity losses take them."""
        return self(F.adaptive_avg_pool2d(faces_N3SS[:, :, *FFHQ_FACE], CHIP_PX))


def _enlarge_and_add(smaller: Tensor, larger: Tensor) -> Tensor:
    return F.interpolate(smaller, larger.shape[-2:], mode="bilinear", align_corners=True) + larger
