"""InsightFace's iresnet for recognition (Deng et al. 2019, section 3.1; names of its iresnet50).

Shapes: RGB chips ``[N, 3, 112, 112]`` in [-1, 1] -> ``[N, 512]``, not normalised. The stride of a
block is in its second convolution.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

WIDTHS = (64, 128, 256, 512)
BLOCKS = (3, 4, 14, 3)  # iresnet50
CHIP_PX = 112
_EPS = 1e-5


class IResNetBlock(nn.Module):
    """BN, conv, BN, PReLU, strided conv, BN; shortcut."""

    def __init__(self, in_channels: int, channels: int, *, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels, eps=_EPS)
        self.conv1 = nn.Conv2d(in_channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels, eps=_EPS)
        self.prelu = nn.PReLU(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, stride, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels, eps=_EPS)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or in_channels != channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, channels, 1, stride, bias=False),
                nn.BatchNorm2d(channels, eps=_EPS),
            )

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv2(self.prelu(self.bn2(self.conv1(self.bn1(x)))))
        return self.bn3(y) + self.downsample(x)


def iresnet_stage(in_channels: int, channels: int, depth: int) -> nn.Sequential:
    """Blocks of one width, the first of which halves the side."""
    blocks = [IResNetBlock(in_channels, channels, stride=2)]
    blocks += [IResNetBlock(channels, channels, stride=1) for _ in range(depth - 1)]
    return nn.Sequential(*blocks)


class IResNet(nn.Module):
    """Stem, four stages that halve the side each, one linear layer."""

    def __init__(self, blocks: Sequence[int] = BLOCKS, embedding: int = 512) -> None:
        super().__init__()
        channels = WIDTHS[0]
        self.conv1 = nn.Conv2d(3, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels, eps=_EPS)
        self.prelu = nn.PReLU(channels)
        for number, (width, depth) in enumerate(zip(WIDTHS, blocks, strict=True), start=1):
            self.add_module(f"layer{number}", iresnet_stage(channels, width, depth))
            channels = width
        self.bn2 = nn.BatchNorm2d(channels, eps=_EPS)
        self.fc = nn.Linear(channels * (CHIP_PX // 16) ** 2, embedding)
        self.features = nn.BatchNorm1d(embedding, eps=_EPS)

    def forward(self, chips_N3SS: Tensor) -> Tensor:
        x = self.prelu(self.bn1(self.conv1(chips_N3SS)))
        for number in range(1, 5):
            x = getattr(self, f"layer{number}")(x)
        embeddings: Tensor = self.features(self.fc(self.bn2(x).flatten(1)))
        return embeddings
