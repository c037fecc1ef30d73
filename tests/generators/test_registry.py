"""Every family of the registry fulfils the protocols that the rest of vidinv relies on."""

from __future__ import annotations

import dataclasses
import inspect

import pytest
import torch

from vidinv.errors import UnknownNameError
from vidinv.generators import base
from vidinv.generators.biggan import BigGANConfig
from vidinv.generators.pggan import PGGANConfig
from vidinv.generators.registry import DEFAULT_KIND, FAMILIES, build_generator, find_family
from vidinv.generators.stylegan1 import StyleGAN1Config
from vidinv.generators.stylegan2 import StyleGAN2Config
from vidinv.generators.stylegan3 import StyleGAN3Config

# A small configuration of each family; a further family adds its own here.
SMALL = {
    "stylegan2": StyleGAN2Config(16, channel_base=64, channel_max=8, z_dim=6, w_dim=8),
    "stylegan1": StyleGAN1Config(16, channel_base=64, channel_max=8, z_dim=6, w_dim=8),
    "pggan": PGGANConfig(16, channel_base=64, channel_max=8, z_dim=6),
    "biggan": BigGANConfig(8, (4, 2, 1), z_dim=6, class_dim=2, num_classes=5),
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
def test_a_pass_in_parts_equals_one_pass(config):
    generator = build_generator(config).eval()
    latents = generator.broadcast(generator.mapping(torch.randn(2, config.z_dim)))
    whole, state = generator.synthesis(latents), None
    assert whole.std() > 0
    for layer in range(1, config.num_layers + 1):
        state = generator.synthesis.run(latents, stop=layer, start=state)
        assert state.features_NCHW.shape[1:] == config.feature_shape(layer)
    assert torch.equal(state.picture_N3HW, whole)
    assert config.layer_after(config.resolution) == config.num_layers
    for wrong in (0, config.num_layers + 1):
        with pytest.raises(ValueError, match="layer must be in"):
            config.feature_shape(wrong)


@torch.no_grad()
def test_residuals_and_offsets_reach_the_layers_that_are_named(config):
    generator = build_generator(config).eval()
    latents = generator.broadcast(generator.mapping(torch.randn(2, config.z_dim)))
    weights, before = generator.synthesis.layer_weights(), generator.synthesis(latents)
    assert set(weights) <= set(config.style_channels)
    for name, weight in weights.items():
        residual = torch.stack([torch.zeros_like(weight), weight.flip(0, 1)])
        changed = generator.synthesis(latents, weight_residuals={name: residual})
        torch.testing.assert_close(changed[0], before[0], rtol=0, atol=1e-4)
        assert (changed[1] - before[1]).abs().max() > 1e-4, name
    for name, channels in config.style_channels.items():
        changed = generator.synthesis(latents, style_offsets={name: torch.randn(channels)})
        assert (changed - before).abs().max() > 1e-4, name
    with pytest.raises(ValueError, match="there is no layer"):
        generator.synthesis(latents, style_offsets={"none": torch.zeros(1)})


def test_published_sizes_have_the_published_numbers_of_parameters():
    """In millions: StyleGAN section 2, StyleGAN3-T, BigGAN-deep at 128 px."""
    published = [
        (StyleGAN1Config(1024), 26.2),
        (PGGANConfig(1024), 23.1),
        (StyleGAN3Config(1024), 22.3),
        # The published network computes 125 channels beside RGB and throws them away.
        (BigGANConfig(128, (16, 16, 8, 4, 2, 1)), 50.4 - 125 * (128 * 9 + 1) / 1e6),
    ]
    for config, millions in published:
        with torch.device("meta"):
            network = build_generator(config)
        count = sum(parameter.numel() for parameter in network.parameters())
        assert count / 1e6 == pytest.approx(millions, abs=0.15), config.kind


def test_classes_move_the_picture_and_none_is_their_mean():
    config = SMALL["biggan"]
    generator = build_generator(config).eval()
    z = torch.randn(2, config.z_dim)
    rows = [generator.mapping(z, classes_N=torch.tensor([k, k])) for k in range(5)]
    assert not torch.equal(rows[0], rows[1])
    torch.testing.assert_close(generator.mapping(z), torch.stack(rows).mean(dim=0))
    with pytest.raises(ValueError, match="not class-conditional"):
        build_generator(SMALL["pggan"]).mapping(z, classes_N=torch.tensor([0, 0]))


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
    assert sorted(caught.value.known) == sorted(FAMILIES)
    assert DEFAULT_KIND in FAMILIES
