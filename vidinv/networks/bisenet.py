"""BiSeNet for face parsing: 19 classes of every pixel (Yu et al., ECCV 2018).

A ResNet-18 context path with attention on its last two maps, and feature fusion with the 1/8 map,
which takes the place of the spatial path. Parameter names and numerics are those of zllrunning's
face-parsing.PyTorch (docs/REFERENCES.md, "Face parsing"), whose weights load without renaming.

Shapes: x ``[N, 3, H, W]`` normalised as ImageNet is (``normalise``), logits ``[N, 19, H, W]``.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CLASSES = (
    *("background", "skin", "left_brow", "right_brow", "left_eye", "right_eye", "glasses"),
    *("left_ear", "right_ear", "earring", "nose", "mouth", "upper_lip", "lower_lip"),
    *("neck", "necklace", "cloth", "hair", "hat"),
)
INPUT_PX = 512
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet


def normalise(pictures_N3HW: Tensor) -> Tensor:
    """Pictures in [-1, 1] as the network wants them."""
    mean, deviation = (
        torch.tensor(v, device=pictures_N3HW.device)[:, None, None] for v in (_MEAN, _DEVIATION)
    )
    return ((pictures_N3HW + 1) / 2 - mean) / deviation


class ConvBNReLU(nn.Module):
    """Convolution without bias, batch norm, ReLU."""

    def __init__(self, in_channels: int, channels: int, size: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, channels, size, padding=size // 2, bias=False)
        self.bn = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut (He et al. 2016)."""

    def __init__(self, in_channels: int, channels: int, *, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample: nn.Module | None = None
        if stride != 1 or in_channels != channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet18(nn.Module):
    """Maps of 1/8, 1/16 and 1/32."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.maxpool = nn.MaxPool2d(3, 2, padding=1)
        self.layer1 = _stage(64, 64, stride=1)
        self.layer2 = _stage(64, 128, stride=2)
        self.layer3 = _stage(128, 256, stride=2)
        self.layer4 = _stage(256, 512, stride=2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = self.layer1(self.maxpool(F.relu(self.bn1(self.conv1(x)))))
        eighth = self.layer2(x)
        sixteenth = self.layer3(eighth)
        return eighth, sixteenth, self.layer4(sixteenth)


def _stage(in_channels: int, channels: int, *, stride: int) -> nn.Sequential:
    return nn.Sequential(
        BasicBlock(in_channels, channels, stride=stride), BasicBlock(channels, channels, stride=1)
    )


class AttentionRefinement(nn.Module):
    """A map scaled channel by channel by what its means say (figure 2b)."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.conv = ConvBNReLU(in_channels, channels)
        self.conv_atten = nn.Conv2d(channels, channels, 1, bias=False)
        self.bn_atten = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        means = x.mean(dim=(2, 3), keepdim=True)
        return x * torch.sigmoid(self.bn_atten(self.conv_atten(means)))


class ContextPath(nn.Module):
    """The backbone's 1/8 map, and what its deeper maps say at 1/8 and 1/16."""

    def __init__(self, channels: int = 128) -> None:
        super().__init__()
        self.resnet = ResNet18()
        self.arm16 = AttentionRefinement(256, channels)
        self.arm32 = AttentionRefinement(512, channels)
        self.conv_head32 = ConvBNReLU(channels, channels)
        self.conv_head16 = ConvBNReLU(channels, channels)
        self.conv_avg = ConvBNReLU(512, channels, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        maps = self.resnet(x)
        return maps[0], *self.context(*maps)

    def context(self, eighth: Tensor, sixteenth: Tensor, deepest: Tensor) -> tuple[Tensor, Tensor]:
        """What the backbone's deeper maps say at 1/8 and 1/16."""
        everywhere = self.conv_avg(deepest.mean(dim=(2, 3), keepdim=True))
        context = self.arm32(deepest) + everywhere
        context16 = self.conv_head32(F.interpolate(context, sixteenth.shape[2:], mode="nearest"))
        context = self.arm16(sixteenth) + context16
        context8 = self.conv_head16(F.interpolate(context, eighth.shape[2:], mode="nearest"))
        return context8, context16


class FeatureFusion(nn.Module):
    """Detail and context in one map, with attention over its channels (figure 2c)."""

    def __init__(self, channels: int = 256) -> None:
        super().__init__()
        self.convblk = ConvBNReLU(channels, channels, 1)
        self.conv1 = nn.Conv2d(channels, channels // 4, 1, bias=False)
        self.conv2 = nn.Conv2d(channels // 4, channels, 1, bias=False)

    def forward(self, detail: Tensor, context: Tensor) -> Tensor:
        x = self.convblk(torch.cat([detail, context], dim=1))
        means = x.mean(dim=(2, 3), keepdim=True)
        return x + x * torch.sigmoid(self.conv2(F.relu(self.conv1(means))))


class ClassHead(nn.Module):
    """Logits at the map's own size."""

    def __init__(self, in_channels: int, channels: int, num_classes: int) -> None:
        super().__init__()
        self.conv = ConvBNReLU(in_channels, channels)
        self.conv_out = nn.Conv2d(channels, num_classes, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv_out(self.conv(x))


class BiSeNet(nn.Module):
    """Logits ``[N, 19, H, W]``; ``all_heads`` also gives those of the two heads for training."""

    classes = CLASSES
    input_px = INPUT_PX

    def __init__(self, num_classes: int = len(CLASSES)) -> None:
        super().__init__()
        self.cp = ContextPath()
        self.ffm = FeatureFusion()
        self.conv_out = ClassHead(256, 256, num_classes)
        self.conv_out16 = ClassHead(128, 64, num_classes)
        self.conv_out32 = ClassHead(128, 64, num_classes)

    def normalise(self, pictures_N3HW: Tensor) -> Tensor:
        """Pictures in [-1, 1] as the network wants them."""
        return normalise(pictures_N3HW)

    def forward(self, x_N3HW: Tensor) -> Tensor:
        eighth, context8, _ = self.cp(x_N3HW)
        return _to_size(self.conv_out(self.ffm(eighth, context8)), x_N3HW)

    def maps(self, x_N3HW: Tensor) -> tuple[Tensor, ...]:
        """Five inner maps, to compare pictures by: the backbone's, the context at 1/8, the fused.

        Of 1/8, 1/16, 1/32, 1/8 and 1/8 of the picture's side.
        """
        backbone = self.cp.resnet(x_N3HW)
        context8, _ = self.cp.context(*backbone)
        return *backbone, context8, self.ffm(backbone[0], context8)

    def all_heads(self, x_N3HW: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits of the fused map, and of the context at 1/8 and 1/16."""
        eighth, context8, context16 = self.cp(x_N3HW)
        heads = (
            self.conv_out(self.ffm(eighth, context8)),
            self.conv_out16(context8),
            self.conv_out32(context16),
        )
        main, at8, at16 = (_to_size(logits, x_N3HW) for logits in heads)
        return main, at8, at16


def _to_size(logits: Tensor, picture: Tensor) -> Tensor:
    return F.interpolate(logits, picture.shape[2:], mode="bilinear", align_corners=True)
