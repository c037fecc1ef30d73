"""Configurations of generators, read off the shapes of their weights (NVIDIA's names)."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from vidinv.checkpoints.errors import CheckpointError
from vidinv.generators.stylegan2 import StyleGAN2Config
from vidinv.generators.stylegan3 import StyleGAN3Config

_LAYER = re.compile(r"synthesis\.L(\d+)_(\d+)_(\d+)\.weight")


def stylegan2_config(state: Mapping[str, Tensor]) -> StyleGAN2Config:
    """Sizes of a generator; CheckpointError where no configuration has these."""
    widths = {
        int(key.split(".")[1][1:]): len(value)
        for key, value in state.items()
        if key.startswith("synthesis.b") and key.endswith(".conv1.weight")
    }
    config = StyleGAN2Config(**_channels(widths), **mapping_sizes(state))
    _check_widths({r: config.channels(r) for r in config.resolutions}, widths)
    return config


def discriminator_config(state: Mapping[str, Tensor]) -> StyleGAN2Config:
    """Sizes of a StyleGAN2 discriminator; those of mapping are the default ones."""
    widths = {
        int(key.split(".")[0][1:]): value.shape[1]
        for key, value in state.items()
        if key.startswith("b") and key.endswith(".conv0.weight")
    }
    widths[4] = state["b4.conv.weight"].shape[0]
    config = StyleGAN2Config(**_channels(widths))
    _check_widths({r: config.channels(r) for r in config.resolutions}, widths)
    return config


def stylegan3_config(state: Mapping[str, Tensor]) -> StyleGAN3Config:
    """Sizes of a generator; CheckpointError where no configuration has these."""
    layers = sorted(
        (int(m[1]), int(m[2]), int(m[3])) for m in map(_LAYER.fullmatch, state) if m is not None
    )
    if len(layers) < 2 or layers[-1][2] != 3:
        raise CheckpointError("a StyleGAN3 generator of pictures that are not RGB")
    (_, resolution, last), first = layers[-2], layers[0]
    kernel = state[f"synthesis.L0_{first[1]}_{first[2]}.weight"].shape[-1]
    down = state[f"synthesis.L0_{first[1]}_{first[2]}.down_filter"]
    config = StyleGAN3Config(
        resolution=resolution,
        channel_base=last * resolution,
        channel_max=first[2],
        conv_kernel=kernel,
        radial_filters=down.ndim == 2,
        num_convolutions=len(layers) - 1,
        **mapping_sizes(state),
    )
    names = tuple(f"L{index}_{size}_{channels}" for index, size, channels in layers)
    if config.layer_names != names:
        raise CheckpointError("layers of a StyleGAN3 generator with unknown settings")
    return config


def mapping_sizes(state: Mapping[str, Tensor]) -> dict[str, int]:
    """Of the mapping network, as the configurations name them."""
    count = sum(bool(re.fullmatch(r"mapping\.fc\d+\.weight", key)) for key in state)
    if "mapping.embed.weight" in state or not count:
        raise CheckpointError("a class-conditional generator, or one without mapping network")
    w_dim, z_dim = state["mapping.fc0.weight"].shape
    return {"z_dim": z_dim, "w_dim": w_dim, "num_mapping_layers": count}


def _channels(widths: Mapping[int, int]) -> dict[str, int]:
    """base and max of channels(r) = min(base / r, max)."""
    if not widths:
        raise CheckpointError("no blocks of a StyleGAN2 network")
    largest, resolution = max(widths.values()), max(widths)
    narrower = [r * width for r, width in sorted(widths.items()) if width < largest]
    base = narrower[-1] if narrower else largest * resolution
    return {"resolution": resolution, "channel_base": base, "channel_max": largest}


def _check_widths(expected: Mapping[int, int], found: Mapping[int, int]) -> None:
    if dict(expected) != dict(found):
        raise CheckpointError(
            f"channels {dict(sorted(found.items()))} are not those of a StyleGAN2 network"
        )
