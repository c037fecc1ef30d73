"""Which public layout a file has, by the names and shapes in it, and what it gives a pack."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vidinv.checkpoints.biggan import read_biggan
from vidinv.checkpoints.directions import DirectionOptions, read_directions
from vidinv.checkpoints.encoders import read_encoder_file, read_feature_style
from vidinv.checkpoints.errors import CheckpointError
from vidinv.checkpoints.genforce import read_genforce
from vidinv.checkpoints.parts import GeneratorPart, Parts, State
from vidinv.checkpoints.rosinality import generator_from_rosinality
from vidinv.checkpoints.sizes import stylegan2_config, stylegan3_config
from vidinv.generators.mapping import MappingNetwork

MEAN_SAMPLES = 4096  # of z, for the mean of w where a file has none


def recognise(content: Any, path: Path, options: DirectionOptions) -> Parts:
    """What a file gives; CheckpointError names it where its layout is not known."""
    try:
        for read in (_of_array, _of_networks, _of_container, _of_bare_state):
            parts = read(content, path, options)
            if parts is not None:
                return parts
    except KeyError as error:
        raise CheckpointError(f"{path}: {error.args[0]} is missing from it") from None
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None
    raise CheckpointError(f"{path} has no layout that is known: {_first_names(content)}")


def _of_array(content: Any, path: Path, options: DirectionOptions) -> Parts | None:
    if isinstance(content, np.ndarray):
        content = torch.from_numpy(content)
    is_pca = isinstance(content, Mapping) and {"comp", "mean", "std"} <= content.keys()
    if not isinstance(content, Tensor) and not is_pca:
        return None
    layout, directions = read_directions(content, path, options)
    return Parts(layout, directions=directions)


def _of_networks(content: Any, path: Path, options: DirectionOptions) -> Parts | None:
    """NVIDIA's pickles, rosinality's, genforce's and e4e-type containers of generators."""
    if not isinstance(content, Mapping):
        return None
    if "G_ema" in content and isinstance(content["G_ema"], Mapping):
        return _of_nvidia(content["G_ema"])
    if isinstance(content.get("g_ema"), Mapping):
        generator = rosinality_generator(content["g_ema"], content.get("latent_avg"))
        return Parts("rosinality's StyleGAN2", generator)
    smoothed = content.get("generator_smooth", content.get("generator"))
    if isinstance(smoothed, Mapping):
        config, state = read_genforce(smoothed)
        return Parts(f"genforce's {config.kind}", GeneratorPart(config, state))
    return None


def _of_nvidia(state: State) -> Parts:
    if "synthesis.input.freqs" in state:
        return Parts("NVIDIA's StyleGAN3", GeneratorPart(stylegan3_config(state), state))
    return Parts("NVIDIA's StyleGAN2", GeneratorPart(stylegan2_config(state), state))


def _of_container(content: Any, path: Path, options: DirectionOptions) -> Parts | None:
    """pSp, e4e, ReStyle, HyperInverter: ``{state_dict, opts, latent_avg}``."""
    if not isinstance(content, Mapping) or not isinstance(content.get("state_dict"), Mapping):
        return None
    state, opts = content["state_dict"], content.get("opts", {})
    opts = vars(opts) if isinstance(opts, argparse.Namespace) else dict(opts)
    latent_avg = content.get("latent_avg")
    layout, methods = read_encoder_file(state, opts, latent_avg)
    decoder = with_prefix(state, "decoder.")
    generator = rosinality_generator(decoder, latent_avg) if decoder else None
    mean = latent_avg.float() if isinstance(latent_avg, Tensor) else None
    return Parts(layout, generator, methods, latent_avg=mean)


def _of_bare_state(content: Any, path: Path, options: DirectionOptions) -> Parts | None:
    if not isinstance(content, Mapping):
        return None
    for marks, make in _BARE.items():
        if all(mark in content for mark in marks):
            return make(content)
    return None


def _network(layout: str, role: str, kind: str) -> Callable[[State], Parts]:
    return lambda state: Parts(layout, networks={role: (kind, state)})


def _biggan(state: State) -> Parts:
    return Parts("huggingface's BigGAN-deep", GeneratorPart(*read_biggan(state)))


def _feature_style(state: State) -> Parts:
    return Parts("the Feature-Style encoder", methods={"fse": read_feature_style(state)})


def _bare_genforce(state: State) -> Parts:
    config, ours = read_genforce(state)
    return Parts(f"genforce's {config.kind}", GeneratorPart(config, ours))


def _bare_rosinality(state: State) -> Parts:
    return Parts("rosinality's StyleGAN2", rosinality_generator(state, None))


# Tensors that tell a bare state dict: the first layout whose names are all there.
_BARE: dict[tuple[str, ...], Callable[[State], Parts]] = {
    ("input_layer.0.weight", "output_layer.3.weight"): _network(
        "IR-SE50 for recognition", "recognition", "ir_se50"
    ),
    ("layer4.2.conv2.weight", "features.weight", "prelu.weight"): _network(
        "InsightFace's iresnet50", "recognition", "iresnet50"
    ),
    ("cp.resnet.conv1.weight", "ffm.convblk.conv.weight"): _network(
        "BiSeNet for face parsing", "parsing", "bisenet"
    ),
    ("content_layer.1.weight", "block_1.0.conv1.weight", "styles.0.weight"): _feature_style,
    ("embeddings.weight", "generator.gen_z.weight_orig"): _biggan,
    ("synthesis.b4.const", "mapping.w_avg"): _of_nvidia,
    ("synthesis.input.freqs", "mapping.w_avg"): _of_nvidia,
    ("style.1.weight", "input.input"): _bare_rosinality,
    ("synthesis.early_layer.const",): _bare_genforce,
    ("synthesis.layer0.const",): _bare_genforce,
    ("layer0.weight", "output0.weight"): _bare_genforce,
}


def rosinality_generator(state: State, latent_avg: Any) -> GeneratorPart:
    """With the mean of w from the file, or of samples where it has none."""
    mean = _mean_of_file(latent_avg)
    width = state["style.1.weight"].shape[0]
    ours = generator_from_rosinality(state, torch.zeros(width) if mean is None else mean)
    config = stylegan2_config(ours)
    if mean is None:
        mapping = MappingNetwork(config.z_dim, config.w_dim, config.num_mapping_layers)
        mapping.load_state_dict(with_prefix(ours, "mapping."))
        z = torch.randn(MEAN_SAMPLES, config.z_dim, generator=torch.Generator().manual_seed(0))
        with torch.inference_mode():
            ours["mapping.w_avg"] = mapping(z).mean(dim=0)
    return GeneratorPart(config, ours)


def _mean_of_file(latent_avg: Any) -> Tensor | None:
    """``[D]``; also from the ``[L, D]`` of encoders, whose first row is that of w."""
    if not isinstance(latent_avg, Tensor):
        return None
    rows = latent_avg.float().reshape(-1, latent_avg.shape[-1])
    return rows[0]


def with_prefix(state: State, prefix: str) -> dict[str, Tensor]:
    """The entries under a prefix, without it."""
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}


def _first_names(content: Any) -> str:
    if not isinstance(content, Mapping):
        return f"it holds a {type(content).__name__}"
    names = sorted(map(str, content))[:3]
    return f"it begins with {', '.join(names)}" if names else "it is empty"
