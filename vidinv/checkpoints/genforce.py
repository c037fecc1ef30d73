"""Generators in genforce's layout as ours.

docs/REFERENCES.md, "StyleGAN1, PGGAN and BigGAN layouts", says what differs.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from torch import Tensor

from vidinv.checkpoints.errors import CheckpointError
from vidinv.checkpoints.sizes import mapping_sizes, stylegan2_config
from vidinv.generators.base import GeneratorConfig
from vidinv.generators.layers import fir_kernel
from vidinv.generators.pggan import PGGANConfig
from vidinv.generators.stylegan1 import StyleGAN1Config

State = dict[str, Tensor]
FIRST_FUSED_PX = 128  # StyleGAN1 fuses enlargement and convolution from here on


def read_genforce(theirs: Mapping[str, Tensor]) -> tuple[GeneratorConfig, State]:
    """Sizes and weights; CheckpointError for a layout that is none of genforce's."""
    if "synthesis.early_layer.const" in theirs:
        state = _stylegan2(theirs)
        return stylegan2_config(state), state
    if "synthesis.layer0.const" in theirs:
        return _stylegan1(theirs)
    if "layer0.weight" in theirs:
        return _pggan(theirs)
    raise CheckpointError("no StyleGAN, StyleGAN2 or PGGAN of genforce's layout")


def _stylegan2(theirs: Mapping[str, Tensor]) -> State:
    state = _mapping(theirs, bias_gain=1.0)
    state["synthesis.b4.const"] = theirs["synthesis.early_layer.const"][0]
    for key, value in theirs.items():
        match = re.fullmatch(r"synthesis\.(layer|output)(\d+)\.(.+)", key)
        if match is None or match[3].endswith("kernel"):
            continue
        kind, number, part = match[1], int(match[2]), match[3]
        block = number if kind == "output" else (number + 1) // 2
        is_up = kind == "layer" and number % 2 == 1
        layer = "torgb" if kind == "output" else f"conv{int(not is_up)}"
        name = f"synthesis.b{4 << block}.{layer}"
        if part == "weight" and is_up:
            value = value.flip(2, 3)
        if part == "style.bias":
            value = value + 1
        if part == "noise":
            value = value[0, 0]
        state[f"{name}.{_PARTS[part]}"] = value
        state[f"synthesis.b{4 << block}.resample_filter"] = fir_kernel()
        if kind == "layer":
            state[f"{name}.resample_filter"] = fir_kernel()
    return state


_PARTS = {
    "weight": "weight",
    "bias": "bias",
    "noise": "noise_const",
    "noise_strength": "noise_strength",
    "style.weight": "affine.weight",
    "style.bias": "affine.bias",
}


def _stylegan1(theirs: Mapping[str, Tensor]) -> tuple[StyleGAN1Config, State]:
    # Its leaky ReLU has no gain, but its weights have; ours has, and takes it off the biases.
    state = _mapping(theirs, bias_gain=1 / math.sqrt(2))
    widths = {}
    for key, value in theirs.items():
        match = re.fullmatch(r"synthesis\.layer(\d+)\.(.+)", key)
        if match is None or match[2].endswith("kernel"):
            continue
        side = 4 << int(match[1]) // 2
        is_up = int(match[1]) % 2 == 0
        if match[2] == "weight" and is_up and side >= FIRST_FUSED_PX:
            value = value.flip(2, 3)
        if match[2] == "bias":
            widths[side] = len(value)
        state[key] = value
    last = len(widths) - 1
    for part in ("weight", "bias"):
        state[f"synthesis.output.{part}"] = theirs[f"synthesis.output{last}.{part}"]
    base, largest = _channels(widths)
    config = StyleGAN1Config(max(widths), base, largest, **mapping_sizes(state))
    return config, state


def _pggan(theirs: Mapping[str, Tensor]) -> tuple[PGGANConfig, State]:
    state, widths = {}, {}
    for key, value in theirs.items():
        match = re.fullmatch(r"layer(\d+)\.(weight|bias)", key)
        if match is not None:
            state[f"synthesis.{key}"] = value
            widths[4 << int(match[1]) // 2] = len(value)
    for part in ("weight", "bias"):
        state[f"synthesis.output.{part}"] = theirs[f"output{len(widths) - 1}.{part}"]
    base, largest = _channels(widths)
    z_dim = theirs["layer0.weight"].shape[1]
    return PGGANConfig(max(widths), base, largest, z_dim), state


def _mapping(theirs: Mapping[str, Tensor], *, bias_gain: float) -> State:
    state = {"mapping.w_avg": theirs["truncation.w_avg"].flatten()}
    for key, value in theirs.items():
        match = re.fullmatch(r"mapping\.dense(\d+)\.(weight|bias)", key)
        if match is not None:
            gain = bias_gain if match[2] == "bias" else 1.0
            state[f"mapping.fc{match[1]}.{match[2]}"] = value * gain
    return state


def _channels(widths: Mapping[int, int]) -> tuple[int, int]:
    """base and max of channels(r) = min(base / r, max)."""
    largest = max(widths.values())
    narrower = [side * width for side, width in sorted(widths.items()) if width < largest]
    return (narrower[-1] if narrower else largest * max(widths)), largest
