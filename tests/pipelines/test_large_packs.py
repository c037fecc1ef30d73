"""Every method with a generator of 1024 px, in its published size, with made-up weights.

Slow: minutes a method on two cores. Each runs in a process of its own, whose memory counts.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from pipelines.demo import make_clip
from tests.conftest import REPOSITORY
from tests.video.clips import images_of, packets_of, write_clip
from vidinv.generators.stylegan2 import StyleGAN2Config, StyleGAN2Generator
from vidinv.inversion.adaptive import AdaptiveConfig
from vidinv.inversion.adaptive_networks import AdaptiveEncoder
from vidinv.inversion.fse_encoder import FeatureStyleConfig, FeatureStyleEncoder
from vidinv.inversion.hyper_networks import HyperConfig, HyperInverterNetworks
from vidinv.inversion.psp_encoder import PspConfig, PspEncoder
from vidinv.inversion.rectify_networks import Rectifier, RectifierConfig
from vidinv.packs import load_pack, write_pack

SIZES = StyleGAN2Config(1024)  # config-f
FRAMES = 3
MOST_MB = 8192
# Fewer steps and pictures than anyone would take: memory is that of one step.
OPTIONS = {
    "wplus": ["steps=2", "shared_steps=1", "steps_from_previous=1"],
    "pti": ["epochs=1", "frames=2"],
    "adaptive": ["steps=2", "frames=2"],
}


def networks_of(method: str, generator: StyleGAN2Generator) -> tuple[nn.Module, object] | None:
    """In the published sizes, of the pack's entry for the method; None where it has none."""
    if method == "fse":
        config = FeatureStyleConfig(
            256, (64, 128, 256, 512), (3, 4, 14, 3), latent_space="w+", row_width=512
        )
        encoder = FeatureStyleEncoder(config, SIZES)
        assert encoder.feature_head is not None
        nn.init.normal_(encoder.feature_head.expand.weight, std=0.1)
        return encoder, config
    if method == "psp":
        return PspEncoder(PspConfig(), SIZES), PspConfig()
    if method == "hyper":
        config_of_hyper = HyperConfig(hidden_width=128)
        weights = generator.synthesis.layer_weights()
        return HyperInverterNetworks(config_of_hyper, SIZES, weights), config_of_hyper
    if method == "adaptive":
        adaptive = AdaptiveConfig(16)
        return AdaptiveEncoder(adaptive.sizes, SIZES), adaptive
    if method == "rectify":
        return Rectifier(RectifierConfig()), RectifierConfig()
    return None


@pytest.fixture(scope="module")
def generator() -> StyleGAN2Generator:
    torch.manual_seed(0)
    return StyleGAN2Generator(SIZES)


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("clip")
    whole = make_clip(load_pack(), folder / "whole.mkv", seconds=0.4)
    return write_clip(folder / "face.mp4", images_of(whole, limit=FRAMES), audio=True)


def pack_for(method: str, generator: StyleGAN2Generator, folder: Path) -> Path:
    tensors = {
        "generator.safetensors": generator.state_dict(),
        "directions.safetensors": {"smile": 0.3 * torch.randn(SIZES.w_dim)},
    }
    methods = {}
    # These two start from the latents of another method.
    for name in {"fse", method} if method in ("rectify", "pti") else {method}:
        torch.manual_seed(1)
        made = networks_of(name, generator)
        if made is not None:
            network, config = made
            tensors[f"{name}.safetensors"] = network.state_dict()
            methods[name] = {
                "file": f"{name}.safetensors",
                "config": dataclasses.asdict(config),  # type: ignore[call-overload]
            }
    write_pack(
        folder,
        {
            "name": folder.name,
            "version": "1",
            "licence": "CC0-1.0",
            "alignment": "ffhq",
            "generator": {
                "kind": "stylegan2",
                "config": dataclasses.asdict(SIZES),
                "file": "generator.safetensors",
            },
            "methods": methods,
            "directions": {
                "file": "directions.safetensors",
                "entries": {"smile": {"space": "w", "positive": "more", "strength_range": [-2, 2]}},
            },
        },
        tensors,
    )
    return folder


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("method", ["fse", "psp", "hyper", "rectify", "wplus", "pti", "adaptive"])
def test_a_method_runs_at_1024_px_in_8_gb(method, generator, clip, tmp_path):
    pack = pack_for(method, generator, tmp_path / "pack")
    options = [f"--method-option={option}" for option in OPTIONS.get(method, [])]
    for work, attribute in (("edit", ["--attr", "smile"]), ("invert", [])):
        output = tmp_path / f"{work}.mp4"
        command = [sys.executable, "-m", "vidinv", work, str(clip), "-o", str(output), *attribute]
        command += ["--pack", str(pack), "--method", method, *options, "--json", "--quiet"]
        ran = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, check=False)
        assert ran.returncode == 0, ran.stderr
        result = json.loads(ran.stdout)
        if log := os.environ.get("VIDINV_LARGE_LOG"):
            with Path(log).open("a") as file:
                figures = {key: result[key] for key in ("peak_rss_mb", "seconds", "frames")}
                file.write(json.dumps({"method": method, "work": work, **figures}) + "\n")
        assert result["faces_edited"] == FRAMES
        assert result["peak_rss_mb"] < MOST_MB
        assert len(images_of(output)) == FRAMES
        assert packets_of(output, "audio") == packets_of(clip, "audio")
