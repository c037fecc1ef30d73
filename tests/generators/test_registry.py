"""Every family of the registry fulfils the protocols that the rest of vidinv relies on."""

from __future__ import annotations

import dataclasses
import inspect

import pytest
import torch

from vidinv.errors import UnknownNameError
from vidinv.generators import base
from vidinv.generators.registry import DEFAULT_KIND, FAMILIES, build_generator, find_family
from vidinv.generators.stylegan2 import StyleGAN2Config
from vidinv.generators.stylegan3 import StyleGAN3Config

# A small configuration of each family; a further family adds its own here.
SMALL = {
    "stylegan2": StyleGAN2Config(16, channel_base=64, channel_max=8, z_dim=6, w_dim=8),
    "stylegan3": StyleGAN3Config(16, channel_base=128, channel_max=8, z_dim=6, w_dim=8),
}


def members(protocol: type) -> set[str]:
    named = {*vars(protocol), *inspect.get_annotations(protocol)}
    return {name for name in named if not name.startswith("_")}


@pytest.fixture(params=sorted(FAMILIES))
def config(request) -> base.GeneratorConfig:
    torch.manual_seed(0)
    return SMALL[request.param]


def test_the_configuration_answers_every_question(config):
    assert find_family(config.kind).config is type(config)
    assert dataclasses.is_dataclass(config)
    assert members(base.GeneratorConfig) <= set(dir(config))
    assert type(config)(**dataclasses.asdict(config)) == config
    assert set(config.latent_spaces) <= {"z", "w", "w+", "style"}
    assert bool(config.style_channels) == ("style" in config.latent_spaces)


@torch.no_grad()
def test_the_network_keeps_to_the_protocol(config):
    generator = build_generator(config).eval()
    assert members(base.Generator) <= set(dir(generator))
    for name in ("kind", "resolution", "num_ws", "w_dim", "z_dim", "latent_spaces", "num_classes"):
        assert getattr(generator, name) == getattr(config, name)
    w = generator.mapping(torch.randn(2, config.z_dim), truncation=0.5)
    assert w.shape == (2, config.w_dim)
    mean = generator.mapping(torch.randn(2, config.z_dim), truncation=0.0)
    assert torch.equal(mean[0], mean[1])
    latents = generator.broadcast(w)
    assert latents.shape == (2, config.num_ws, config.w_dim)
    side = config.resolution
    assert generator.synthesis(latents).shape == (2, 3, side, side)
    if config.has_partial_passes:
        state = generator.synthesis.run(latents, stop=1)
        assert state.features_NCHW.shape[1:] == config.feature_shape(1)


@torch.no_grad()
def test_the_discriminator_keeps_to_the_protocol(config):
    build = find_family(config.kind).discriminator
    if build is None:
        pytest.skip("this family has none")
    discriminator = build(config)
    image = torch.randn(2, 3, config.resolution, config.resolution)
    logits = discriminator(image)
    assert logits.shape == (2, 1)
    assert torch.equal(discriminator.logits(discriminator.features(image)), logits)


def test_an_unknown_kind_lists_the_known_ones():
    with pytest.raises(UnknownNameError, match="unknown generator kind 'stylegan'") as caught:
        find_family("stylegan")
    assert caught.value.known == sorted(FAMILIES)
    assert DEFAULT_KIND in FAMILIES
