"""A pack of random weights, small enough to make in a test (0.3 MB)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from vidinv.generators.stylegan2 import StyleGAN2Config, StyleGAN2Generator
from vidinv.inversion.fse_encoder import FeatureStyleConfig, FeatureStyleEncoder
from vidinv.inversion.hyper_networks import HyperConfig, HyperInverterNetworks, Hypernetwork
from vidinv.packs import write_pack

GENERATOR = StyleGAN2Config(
    resolution=32, channel_base=256, channel_max=8, z_dim=8, w_dim=8, num_mapping_layers=2
)
ENCODER = FeatureStyleConfig(
    input_resolution=32, widths=(4, 4, 8, 8), blocks=(1, 1, 1, 1), feature_width=4
)
HYPER = HyperConfig(
    input_resolution=64,
    widths=(4, 4, 8, 8),
    blocks=(1, 1, 1, 1),
    transformer_width=8,
    hidden_width=8,
)


def write_tiny_pack(
    folder: Path,
    *,
    name: str = "tiny",
    resolution: int = GENERATOR.resolution,
    hyper: HyperConfig | None = None,
    fse: Mapping[str, Any] | None = None,
    vectors: Mapping[str, torch.Tensor] | None = None,
    noise_strength: float = 0.0,
    added: Mapping[str, tuple[Mapping[str, Any], Mapping[str, torch.Tensor]]] | None = None,
    networks: Mapping[str, tuple[str, Mapping[str, torch.Tensor]]] | None = None,
    **changes: Any,
) -> Path:
    """Write the pack and return its folder; ``changes`` replace fields of pack.json.

    Args:
        fse: more of what pack.json says of ``fse``.
        vectors: of the directions, where ``changes`` replaces these.
        noise_strength: of every layer of the generator.
        hyper: adds networks of ``hyper`` with these sizes.
        added: further methods by name: what pack.json says of them, and the weights.
        networks: by role: kind and weights.
    """
    torch.manual_seed(0)
    config = dataclasses.replace(GENERATOR, resolution=resolution)
    generator, encoder = StyleGAN2Generator(config), FeatureStyleEncoder(ENCODER, config)
    for parameter_name, parameter in generator.named_parameters():
        if parameter_name.endswith("noise_strength"):
            torch.nn.init.constant_(parameter, noise_strength)
    assert encoder.feature_head is not None
    torch.nn.init.normal_(encoder.feature_head.expand.weight, std=0.3)  # it starts at 0
    own_vectors = {"smile": torch.randn(8), "age": torch.randn(config.num_ws, 8)}
    meta: dict[str, Any] = {
        "name": name,
        "version": "1",
        "licence": "CC0-1.0",
        "alignment": "tight",
        "generator": {
            "kind": "stylegan2",
            "config": dataclasses.asdict(config),
            "file": "generator.safetensors",
        },
        "methods": {
            "fse": {
                "file": "fse.safetensors",
                "config": dataclasses.asdict(ENCODER),
                **(fse or {}),
            }
        },
        "directions": {
            "file": "directions.safetensors",
            "entries": {
                "smile": {"space": "w", "positive": "more smile", "strength_range": [-2, 2]},
                "age": {"space": "w+", "positive": "older", "strength_range": [-1, 1]},
            },
        },
    }
    tensors = {
        "generator.safetensors": generator.state_dict(),
        "fse.safetensors": encoder.state_dict(),
        "directions.safetensors": vectors or own_vectors,
    }
    if hyper is not None:
        config_of_hyper = dataclasses.asdict(hyper)
        meta["methods"]["hyper"] = {"file": "hyper.safetensors", "config": config_of_hyper}
        tensors["hyper.safetensors"] = make_hyper(hyper, generator).state_dict()
    for method, (entry, weights) in (added or {}).items():
        meta["methods"][method] = entry
        tensors[entry["file"]] = weights
    for role, (kind, weights) in (networks or {}).items():
        entry = {"kind": kind, "file": f"{role}.safetensors"}
        meta["networks"] = {**meta.get("networks", {}), role: entry}
        tensors[entry["file"]] = weights
    write_pack(folder, {**meta, **changes}, tensors)
    return folder


def make_hyper(config: HyperConfig, generator: StyleGAN2Generator) -> HyperInverterNetworks:
    """Networks of ``hyper`` whose residuals are a few tenths of the weights."""
    weights = generator.synthesis.layer_weights()
    networks = HyperInverterNetworks(config, generator.config, weights)
    for network in networks.hypernet.weight_regressors.values():
        assert isinstance(network, Hypernetwork)
        *_, last, _ = network.feature_extractor
        torch.nn.init.constant_(last.bias, 0.5)  # so that none of D numbers is 0 for every face
        for matrix in (network.w1, network.b1, network.w2):
            torch.nn.init.normal_(matrix, std=0.25)
    return networks.eval().requires_grad_(False)
