"""StyleGAN2 in rosinality's layout, from and to NVIDIA's names (docs/REFERENCES.md).

The values are the same: tensors are renamed, and some have an axis of length 1 more. FIR kernels
are constants; forks differ in whether they store them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor

from vidinv.checkpoints.errors import CheckpointError
from vidinv.generators.layers import fir_kernel

State = dict[str, Tensor]


@dataclass(frozen=True)
class Rename:
    """One tensor of both layouts.

    Attributes:
        axes: leading axes of length 1 that rosinality's has more; "rgb": ``[3]`` as
            ``[1, 3, 1, 1]``.
    """

    ours: str
    theirs: str
    axes: int | str = 0

    def export(self, value: Tensor) -> Tensor:
        if self.axes == "rgb":
            return value.reshape(1, -1, 1, 1)
        return value.reshape(*[1] * int(self.axes), *value.shape)

    def read(self, value: Tensor) -> Tensor:
        if self.axes == "rgb":
            return value.flatten()
        return value.reshape(value.shape[int(self.axes) :])


def generator_to_rosinality(state: Mapping[str, Tensor]) -> tuple[State, Tensor]:
    """``g_ema`` with all its kernels, and ``latent_avg`` ``[D]``."""
    resolution = _resolution(state)
    names = list(_generator_names(resolution, _mapping_layers(state, "mapping.fc{}.weight", 0)))
    theirs = {name.theirs: name.export(state[name.ours]) for name in names}
    kernel = fir_kernel() * 4
    for block in range(resolution.bit_length() - 3):
        theirs[f"convs.{2 * block}.conv.blur.kernel"] = kernel.clone()
        theirs[f"to_rgbs.{block}.upsample.kernel"] = kernel.clone()
    return theirs, state["mapping.w_avg"]


def generator_from_rosinality(theirs: Mapping[str, Tensor], w_avg: Tensor) -> State:
    """NVIDIA's names; CheckpointError names a tensor that is missing or not known."""
    count = _mapping_layers(theirs, "style.{}.weight", 1)
    rgbs = {key.split(".")[1] for key in theirs if key.startswith("to_rgbs.")}
    resolution = 4 << len(rgbs)
    state = _read(_generator_names(resolution, count), theirs)
    kernels = _generator_kernels(resolution)
    return {**state, **{name: fir_kernel() for name in kernels}, "mapping.w_avg": w_avg.float()}


def discriminator_to_rosinality(state: Mapping[str, Tensor]) -> State:
    """``d`` with all its kernels."""
    resolution = max(int(key.split(".")[0][1:]) for key in state)
    names = _discriminator_names(resolution)
    theirs = {name.theirs: name.export(state[name.ours]) for name in names}
    for block in range(1, resolution.bit_length() - 2):
        theirs[f"convs.{block}.conv2.0.kernel"] = fir_kernel()
        theirs[f"convs.{block}.skip.0.kernel"] = fir_kernel()
    return theirs


def discriminator_from_rosinality(theirs: Mapping[str, Tensor]) -> State:
    """NVIDIA's names; CheckpointError names a tensor that is missing or not known."""
    blocks = {key.split(".")[1] for key in theirs if key.startswith("convs.")} - {"0"}
    resolution = 4 << len(blocks)
    state = _read(_discriminator_names(resolution), theirs)
    return {**state, **{name: fir_kernel() for name in _discriminator_kernels(resolution)}}


def _read(names: Iterator[Rename], theirs: Mapping[str, Tensor]) -> State:
    left = {key for key in theirs if not key.endswith(".kernel")}
    state = {}
    for name in names:
        if name.theirs not in theirs:
            raise CheckpointError(f"{name.theirs} is missing from a rosinality network")
        state[name.ours] = name.read(theirs[name.theirs])
        left.discard(name.theirs)
    if left:
        raise CheckpointError(f"{min(left)} is unknown in a rosinality network")
    return state


def _generator_names(resolution: int, mapping_layers: int) -> Iterator[Rename]:
    for index in range(mapping_layers):
        for part in ("weight", "bias"):
            yield Rename(f"mapping.fc{index}.{part}", f"style.{index + 1}.{part}")
    yield Rename("synthesis.b4.const", "input.input", 1)
    yield from _layer("b4.conv1", "conv1", 0)
    yield from _to_rgb("b4.torgb", "to_rgb1")
    for block in range(resolution.bit_length() - 3):
        name = f"b{8 << block}"
        yield from _layer(f"{name}.conv0", f"convs.{2 * block}", 2 * block + 1)
        yield from _layer(f"{name}.conv1", f"convs.{2 * block + 1}", 2 * block + 2)
        yield from _to_rgb(f"{name}.torgb", f"to_rgbs.{block}")


def _layer(ours: str, theirs: str, noise: int) -> Iterator[Rename]:
    ours = f"synthesis.{ours}"
    yield Rename(f"{ours}.weight", f"{theirs}.conv.weight", 1)
    yield from _affine(ours, theirs)
    yield Rename(f"{ours}.noise_strength", f"{theirs}.noise.weight", 1)
    yield Rename(f"{ours}.bias", f"{theirs}.activate.bias")
    yield Rename(f"{ours}.noise_const", f"noises.noise_{noise}", 2)


def _to_rgb(ours: str, theirs: str) -> Iterator[Rename]:
    ours = f"synthesis.{ours}"
    yield Rename(f"{ours}.weight", f"{theirs}.conv.weight", 1)
    yield from _affine(ours, theirs)
    yield Rename(f"{ours}.bias", f"{theirs}.bias", "rgb")


def _affine(ours: str, theirs: str) -> Iterator[Rename]:
    for part in ("weight", "bias"):
        yield Rename(f"{ours}.affine.{part}", f"{theirs}.conv.modulation.{part}")


def _discriminator_names(resolution: int) -> Iterator[Rename]:
    top = f"b{resolution}"
    yield Rename(f"{top}.fromrgb.weight", "convs.0.0.weight")
    yield Rename(f"{top}.fromrgb.bias", "convs.0.1.bias")
    for block in range(1, resolution.bit_length() - 2):
        ours, theirs = f"b{resolution >> block - 1}", f"convs.{block}"
        # A convolution that halves has a filter before it, so its place is one further on.
        yield Rename(f"{ours}.conv0.weight", f"{theirs}.conv1.0.weight")
        yield Rename(f"{ours}.conv0.bias", f"{theirs}.conv1.1.bias")
        yield Rename(f"{ours}.conv1.weight", f"{theirs}.conv2.1.weight")
        yield Rename(f"{ours}.conv1.bias", f"{theirs}.conv2.2.bias")
        yield Rename(f"{ours}.skip.weight", f"{theirs}.skip.1.weight")
    yield Rename("b4.conv.weight", "final_conv.0.weight")
    yield Rename("b4.conv.bias", "final_conv.1.bias")
    for ours, theirs in (("b4.fc", "final_linear.0"), ("b4.out", "final_linear.1")):
        for part in ("weight", "bias"):
            yield Rename(f"{ours}.{part}", f"{theirs}.{part}")


def _generator_kernels(resolution: int) -> Iterator[str]:
    for exponent in range(2, resolution.bit_length()):
        block = f"synthesis.b{2**exponent}"
        yield f"{block}.resample_filter"
        yield f"{block}.conv1.resample_filter"
        if exponent > 2:
            yield f"{block}.conv0.resample_filter"


def _discriminator_kernels(resolution: int) -> Iterator[str]:
    yield "b4.conv.resample_filter"
    yield f"b{resolution}.fromrgb.resample_filter"
    for exponent in range(3, resolution.bit_length()):
        for layer in ("", "conv0.", "conv1.", "skip."):
            yield f"b{2**exponent}.{layer}resample_filter"


def _resolution(state: Mapping[str, Tensor]) -> int:
    return max(int(key.split(".")[1][1:]) for key in state if key.startswith("synthesis.b"))


def _mapping_layers(state: Mapping[str, Tensor], name: str, first: int) -> int:
    count = 0
    while name.format(first + count) in state:
        count += 1
    return count
